"""Selects held-out users and the books that the model recommends to them, as examples for the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sasrec.evaluation import ranking
from sasrec.serving.recommender import Recommender
from sasrec.split.datasets import HeldOut

NUM_USERS = 6
NUM_SHOWN = 5  # of each user's latest books, and of the recommended ones


def examples(
    recommender: Recommender, held_out: HeldOut, user_ids: Sequence[str], titles: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the latest books, the recommendations and the true next book of up to NUM_USERS users.

    `user_ids` are in the order of the held-out users, `titles` in that of book_idx, from 1.
    """
    ranks = ranking.rank(held_out, recommender.scorer).full
    users = np.linspace(0, len(held_out.users) - 1, min(NUM_USERS, len(held_out.users))).astype(int)
    histories = [held_out.histories[user].tolist() for user in users]
    best = recommender.recommend_indices(histories, min(NUM_SHOWN, len(titles))).books
    return [
        {
            "id": user_ids[user],
            "num_books": len(history),
            "latest": [titles[book - 1] for book in history[-NUM_SHOWN:]],
            "recommended": [
                {"name": titles[book - 1], "is_true": book == held_out.true_books[user]} for book in books if book
            ],
            "true_book": titles[held_out.true_books[user] - 1],
            "rank": ranks[user].item() + 1,
        }
        for user, history, books in zip(users, histories, best.tolist(), strict=True)
    ]
