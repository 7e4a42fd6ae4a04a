"""Columns made and read without pandas are those that pyarrow makes."""

import numpy as np
import pyarrow as pa
import pytest

from sasrec.io import parquet


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32])
def test_numbers_become_a_column_of_their_type_and_come_back(kind: type) -> None:
    numbers = np.arange(12, dtype=kind)
    for given in (numbers, numbers[::3], numbers[:0]):
        assert parquet.as_arrow(given).equals(pa.array(given))
        assert parquet.as_numpy(pa.chunked_array([parquet.as_arrow(given)])).tolist() == given.tolist()


@pytest.mark.parametrize("text", ["sasrec", "ü日", ""])
def test_a_text_is_repeated(text: str) -> None:
    for number in (0, 1, 3):
        assert parquet.repeated(text, number).equals(pa.array(number * [text], pa.string()))
