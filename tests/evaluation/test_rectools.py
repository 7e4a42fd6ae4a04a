"""The metrics are those of RecTools, an outside oracle: the values are what its version 0.19.0 gives for these lists.

HitRate, NDCG with divide_by_achievable, MRR over the whole list, CatalogCoverage and AvgRecPopularity. RecTools has no
Gini coefficient, and another novelty.
"""

import numpy as np
import pytest
from conftest import sequences, training_set

from sasrec.evaluation import metrics, recommended

RANKS = np.array([0, 1, 4, 9, 10, 2, 0, 11])  # of the true one among twelve
OF_RECTOOLS = {
    **{"HR@1": 0.25, "HR@5": 0.625, "HR@10": 0.75},
    **{"NDCG@1": 0.25, "NDCG@5": 0.4397228201007499, "NDCG@10": 0.4758559233904859},
    "MRR": 0.4134469696969697,
}


def test_the_metrics_of_ranks_are_those_of_rectools() -> None:
    found = {name: values.mean() for name, values in metrics.of_users(RANKS, [1, 5, 10]).items()}
    assert found == pytest.approx(OF_RECTOOLS)


def test_the_coverage_and_popularity_of_what_is_recommended_are_those_of_rectools() -> None:
    train = training_set(sequences([1, 2, 4], [1, 3], [1, 4]), num_books=5)
    times = np.array([0, 3, 2, 1, 0, 0])  # each book is recommended, to three users with two books each
    found = recommended.summary({"ours": times}, train, true_books=np.array([1]), k=2)["ours"]
    assert (found["coverage@2"], found["popularity@2"]) == (0.6, 2.0)
