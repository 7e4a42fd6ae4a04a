import numpy as np
from conftest import as_lists, sequences

from sasrec.split.sequences import from_sorted_rows, last_books, without_last


def test_rows_become_one_list_a_user() -> None:
    rows = from_sorted_rows(np.array([0, 0, 2]), np.array([5, 3, 5]), num_users=4)
    assert as_lists(rows) == [[5, 3], [], [5], []]


def test_the_last_books_of_chosen_users_are_dropped() -> None:
    given = sequences([1, 2, 3], [4], [5, 6])
    assert as_lists(without_last(given, np.array([2, 0, 1]), np.array([0, 2, 1]))) == [[5, 6], [1], []]


def test_windows_end_at_the_latest_book_and_are_padded_on_the_left() -> None:
    given = sequences([1, 2, 3, 4], [5], [], [6, 7])
    windows = last_books(given, np.array([0, 1, 2, 3]), length=3)
    assert windows.tolist() == [[2, 3, 4], [0, 0, 5], [0, 0, 0], [0, 6, 7]]
