"""The examples of the report: what the model recommends to some held-out users."""

import numpy as np
import pytest
import torch
from conftest import model_of

from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import build_model
from sasrec.reporting.examples import examples
from sasrec.serving.recommender import Recommender
from sasrec.split.datasets import HeldOut
from sasrec.split.sequences import Sequences

NUM_BOOKS = 12
TITLES = [f"Volume {book}" for book in range(1, NUM_BOOKS + 1)]
IDS = [f"u{number}" for number in range(60)]
PARAMS = SasrecParams(4, 8, 2, 2, 0.5, False, 0.5)


def held_out(num_users: int, seed: int = 0) -> HeldOut:
    """Users of three books each, and a fourth one as the true book."""
    rng = np.random.default_rng(seed)
    books = np.stack([rng.permutation(NUM_BOOKS) + 1 for _ in range(num_users)])
    histories = Sequences(books[:, :3].ravel(), 3 * np.arange(num_users + 1))
    return HeldOut(10 * np.arange(num_users), histories, books[:, 3], books[:, 4:])


def recommender(seed: int = 0) -> Recommender:
    return Recommender(model_of(build_model(PARAMS, NUM_BOOKS, torch.Generator().manual_seed(seed))))


@pytest.mark.parametrize("seed", range(10))
def test_no_book_of_the_history_is_recommended_and_the_true_book_stands_at_its_rank(seed: int) -> None:
    for user in examples(recommender(seed), held_out(6, seed), IDS, TITLES):
        names = [book["name"] for book in user["recommended"]]
        assert not set(names) & set(user["latest"])
        assert [book["name"] for book in user["recommended"] if book["is_true"]] == names[user["rank"] - 1 :][:1]
        assert (user["true_book"] in names) == (user["rank"] <= len(names))


@pytest.mark.parametrize(("there_are", "shown"), [(4, [0, 1, 2, 3]), (60, [0, 11, 23, 35, 47, 59])])
def test_the_users_shown_are_six_from_the_first_to_the_last_or_all(there_are: int, shown: list[int]) -> None:
    assert [user["id"] for user in examples(recommender(), held_out(there_are), IDS, TITLES)] == [
        f"u{n}" for n in shown
    ]


def test_the_latest_books_are_shown_in_the_order_in_which_they_were_read() -> None:
    histories = Sequences(np.array([3, 1, 4, 5, 9, 2, 6]), np.array([0, 7]))
    [user] = examples(recommender(), HeldOut(np.array([8]), histories, np.array([7]), np.array([[11]])), IDS, TITLES)
    assert user["num_books"] == 7
    assert user["latest"] == ["Volume 4", "Volume 5", "Volume 9", "Volume 2", "Volume 6"]
