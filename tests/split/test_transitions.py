import numpy as np
import pytest
from conftest import sequences

from sasrec.split import transitions


def test_a_transition_counts_one_over_its_distance_and_never_across_users() -> None:
    scores = transitions.count(sequences([1, 2, 3], [1, 3], [4, 2]), num_books=4).score(np.array([1]))
    assert scores.tolist() == pytest.approx([0, 0, 1, 1 / 2 + 1, 0])


def test_books_more_than_ten_places_apart_are_no_transition() -> None:
    counted = transitions.count(sequences([1, *[2] * 9, 3, 4]), num_books=4)
    assert counted.score(np.array([1])).tolist() == pytest.approx([0, 0, sum(1 / d for d in range(1, 10)), 0.1, 0])


def test_the_five_latest_books_count_each_less_than_the_one_after_it() -> None:
    counted = transitions.count(sequences(*[[book, book + 10] for book in range(1, 7)]), num_books=20)
    scores = counted.score(np.array([6, 5, 4, 3, 2, 1]))
    assert scores[[11, 12, 13, 14, 15, 16]].tolist() == pytest.approx([1, 0.8, 0.64, 0.512, 0.4096, 0])


def test_random_histories_give_what_plain_loops_give() -> None:
    rng = np.random.default_rng(0)
    users = [rng.integers(1, 13, size=rng.integers(1, 40)).tolist() for _ in range(30)]
    expected = np.zeros((13, 13))
    for books in users:
        for i, first in enumerate(books):
            for distance, later in enumerate(books[i + 1 : i + 11], start=1):
                expected[first, later] += 1 / distance
    counted = transitions.count(sequences(*users), num_books=12)
    for book in range(1, 13):
        assert counted.score(np.array([book])) == pytest.approx(expected[book])


def test_counting_in_pieces_gives_the_same_transitions(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = sequences(*np.random.default_rng(0).integers(1, 13, size=(30, 40)).tolist())
    whole = transitions.count(histories, num_books=12)
    monkeypatch.setattr(transitions, "TRANSITIONS_AT_ONCE", 500)
    for found, expected in zip(transitions.count(histories, num_books=12), whole, strict=True):
        assert np.array_equal(found, expected)
