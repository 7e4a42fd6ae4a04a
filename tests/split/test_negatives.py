import numpy as np
from conftest import as_lists, sequences

from sasrec.split.negatives import draw_distinct, unread_books

NUM_BOOKS = 12
GIVEN = sequences([1, 2, 3], [12, 1, 12, 7], [], [5], list(range(1, 12)), list(range(12, 1, -1)))


def complement(books: list[int]) -> list[int]:
    return [book for book in range(1, NUM_BOOKS + 1) if book not in books]


def test_the_unread_books_are_the_complement_in_ascending_order() -> None:
    unread = unread_books(GIVEN, NUM_BOOKS)
    for user, books in enumerate(as_lists(GIVEN)):
        expected = complement(books)
        assert unread.counts[user] == len(expected)
        assert unread.select(np.array(user), np.arange(len(expected))).tolist() == expected


def test_random_users_have_the_complement_that_a_set_gives() -> None:
    rng = np.random.default_rng(0)
    users = [rng.integers(1, 201, size=rng.integers(0, 300)).tolist() for _ in range(50)]
    unread = unread_books(sequences(*users), num_books=200)
    for user, books in enumerate(users):
        expected = sorted(set(range(1, 201)) - set(books))
        assert unread.select(np.array(user), np.arange(len(expected))).tolist() == expected


def test_distinct_negatives_do_not_repeat() -> None:
    drawn = draw_distinct(unread_books(GIVEN, NUM_BOOKS), np.array([0, 3]), 9, np.random.default_rng(0))
    assert sorted(drawn[0].tolist()) == complement([1, 2, 3])
    assert len(set(drawn[1].tolist())) == 9
