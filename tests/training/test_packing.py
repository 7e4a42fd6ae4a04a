import numpy as np
import pytest

from sasrec.training.packing import best_fit


def test_the_longest_is_placed_first_and_each_in_the_fullest_row_with_room() -> None:
    starts, num_rows = best_fit(np.array([3, 6, 4, 5, 2]), capacity=10)
    # 6 opens row 0, 5 row 1; 4 fills row 0; 3 goes to row 1 and leaves 2 places, which 2 fills.
    assert starts.tolist() == [15, 0, 6, 10, 18]
    assert num_rows == 2


@pytest.mark.parametrize("seed", range(20))
def test_no_two_histories_overlap_and_none_crosses_a_row(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 51, size=200)
    starts, num_rows = best_fit(lengths, capacity=50)
    taken = np.concatenate([np.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)])
    assert len(set(taken.tolist())) == lengths.sum()
    assert (starts // 50 == (starts + lengths - 1) // 50).all()
    assert taken.max() < num_rows * 50
    assert num_rows <= 11 / 9 * np.ceil(lengths.sum() / 50) + 1
