import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from sasrec.io import digests, parquet

TENSORS = digests.fill(save({"numbers": np.arange(5)}, metadata=digests.METADATA))
JSON = digests.fill(b'{"size": 3, "sha256": "' + digests.UNKNOWN.encode() + b'"}\n')


def flipped(content: bytes, bit: int) -> bytes:
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def table(path: Path, ids: list[str]) -> bytes:
    rows = pa.record_batch({"id": ids})
    with parquet.writer(path, rows.schema) as writer:
        writer.write(rows)
    return path.read_bytes()


@pytest.mark.parametrize("content", [TENSORS, JSON], ids=["safetensors", "json"])
def test_every_flipped_bit_of_a_file_in_memory_is_found(content: bytes) -> None:
    digests.check(content)
    for bit in range(8 * len(content)):
        with pytest.raises(ValueError, match="digest"):
            digests.check(flipped(content, bit))


def test_every_flipped_bit_of_a_table_is_found_in_its_footer_too(tmp_path: Path) -> None:
    content = table(tmp_path / "table.parquet", ["a", "b"])
    for bit in range(8 * len(content)):
        with pytest.raises(ValueError, match="digest"):
            digests.check_parquet(io.BytesIO(flipped(content, bit)))


def test_the_digest_is_that_of_the_file_with_zeros_in_its_place(tmp_path: Path) -> None:
    content = table(tmp_path / "table.parquet", ["a"])
    digest = pq.read_metadata(tmp_path / "table.parquet").metadata[b"sha256"]
    assert hashlib.sha256(content.replace(digest, b"0" * 64)).hexdigest().encode() == digest


def test_an_id_that_looks_like_a_digest_is_no_damage(tmp_path: Path) -> None:
    hostile = (digests.IN_FOOTER + b"0" * 64).decode("latin1").replace("\x18", "").replace("\x06", "")
    for id_ in (hostile, (digests.IN_FOOTER + b"1" * 64).decode("latin1")):  # the footer holds it as the largest
        content = table(tmp_path / "table.parquet", [id_])
        assert content.count(b"sha256") > 2
        digests.check_parquet(io.BytesIO(content))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>", bytes(100)])
def test_what_holds_no_digest_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it holds no digest"):
        digests.check(content)
    with pytest.raises(ValueError, match="it holds no digest"):
        digests.check_parquet(io.BytesIO(content))
