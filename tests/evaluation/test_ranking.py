import math

import numpy as np
import pytest
import torch
from conftest import as_lists, sequences, training_set

from sasrec.core.errors import UserError
from sasrec.evaluation import baselines, metrics, model_scorer, ranking
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import build_model
from sasrec.split.datasets import HeldOut
from sasrec.split.sequences import Sequences


def held_out(history: list[int], true_book: int, negatives: list[int]) -> HeldOut:
    return HeldOut(np.array([0]), sequences(history), np.array([true_book]), np.array([negatives]))


def ranks_of(scores: list[float], task: HeldOut) -> tuple[int, int]:
    sampled, full = ranking.rank(task, lambda _histories: lambda _users: torch.tensor([scores]))
    return int(sampled[0]), int(full[0])


#         padding, book 1, 2, 3, 4, 5
SCORES = [9.0, 0.5, 0.9, 0.1, 0.5, 0.7]


@pytest.mark.parametrize(
    ("history", "true_book", "negatives", "sampled", "full"),
    [
        ([3], 2, [1, 4, 5], 0, 0),
        ([3], 5, [1, 4], 0, 1),  # the padding's column is no book
        ([2], 5, [1, 4], 0, 0),  # a book of the history is not recommended again
        ([3], 1, [4, 5], 2, 3),  # 4 has the same score: it counts against the true book
        ([1, 2], 1, [4, 5], 2, 2),  # a re-read: the true book is ranked though it is in the history
        ([3], 1, [3], 0, 3),
    ],
)
def test_ranks_by_hand(history: list[int], true_book: int, negatives: list[int], sampled: int, full: int) -> None:
    assert ranks_of(SCORES, held_out(history, true_book, negatives)) == (sampled, full)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_stops(bad: float) -> None:
    with pytest.raises(UserError, match=r"a score of the model is not finite; lower train.lr"):
        ranks_of([0.0, bad, 0.5, 0.1, 0.2, 0.3], held_out([3], 2, [4]))


def test_many_users_rank_as_one_by_one_with_sorting() -> None:
    rng = np.random.default_rng(0)
    number, num_books = 700, 60  # more than two batches
    histories = sequences(*(rng.integers(1, num_books + 1, size=rng.integers(1, 15)) for _ in range(number)))
    negatives = np.stack([rng.permutation(num_books)[:10] + 1 for _ in range(number)])
    task = HeldOut(np.arange(number), histories, rng.integers(1, num_books + 1, size=number), negatives)
    scores = rng.integers(0, 30, size=(number, num_books + 1)).astype(np.float32)  # with ties
    sampled, full = ranking.rank(task, lambda _histories: lambda users: torch.from_numpy(scores[users]))
    for user, history in enumerate(as_lists(histories)):
        true_score = scores[user, task.true_books[user]]
        others = set(range(1, num_books + 1)) - set(history) - {int(task.true_books[user])}
        assert full[user] == sum(scores[user, book] >= true_score for book in others)
        assert sampled[user] == sum(scores[user, book] >= true_score for book in negatives[user])


@pytest.mark.parametrize(("device", "largest"), [("cpu", 32), ("cuda", 700)])
def test_a_gpu_is_asked_for_all_users_at_once_and_a_processor_for_few(device: str, largest: int) -> None:
    asked = []

    def score(users: np.ndarray) -> torch.Tensor:
        asked.append(len(users))
        return torch.zeros(len(users), 6)

    task = HeldOut(np.arange(700), sequences(*[[1]] * 700), np.full(700, 2), np.full((700, 1), 3))
    ranking.rank(task, lambda _histories: score, device=torch.device(device))  # the scores themselves are on the CPU
    assert max(asked) == largest
    assert sum(asked) == 700


def test_hit_rate_and_ndcg_by_hand() -> None:
    ranks = np.array([0, 1, 9, 10, 50])
    means = metrics.summary(ranks, k=10)
    assert means["HR@10"] == pytest.approx(3 / 5)
    assert means["NDCG@10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(11)) / 5)
    assert metrics.summary(ranks, k=1)["HR@1"] == pytest.approx(1 / 5)


def test_several_cutoffs_follow_each_other_and_then_the_reciprocal_rank() -> None:
    found = metrics.of_users(np.array([0, 6, 20]), [10, 5])
    assert list(found) == ["HR@10", "NDCG@10", "HR@5", "NDCG@5", "MRR"]
    assert (found["HR@10"].tolist(), found["HR@5"].tolist()) == ([1, 1, 0], [1, 0, 0])
    assert found["MRR"].tolist() == pytest.approx([1, 1 / 7, 1 / 21])


def test_popularity_counts_what_training_users_read() -> None:
    score = baselines.popularity(training_set(sequences([1, 2, 1], [1, 4]), num_books=5))
    assert score(sequences([3], [3]))(np.array([0, 1])).tolist() == [[0, 3, 1, 0, 1, 0]] * 2


def test_recent_popularity_counts_the_days_of_the_latest_tenth() -> None:
    train = training_set(sequences([1] * 10, [2] * 8 + [3, 4]), num_books=5, days=[*range(10), *range(8), 12, 12])
    assert baselines.recent_popularity(train)(sequences([1]))(np.array([0])).tolist() == [[0, 0, 0, 1, 1, 0]]


def test_popularity_breaks_the_ties_of_transitions() -> None:
    train = training_set(sequences([1, 2], [1, 3], [3]), num_books=5)
    scores = baselines.item_transitions(train)(sequences([1]))(np.array([0]))[0].tolist()
    assert scores == pytest.approx([0, 0, 1, 1, 0, 0], abs=1e-6)
    assert scores[3] > scores[2]
    assert scores[1] > scores[4]


def test_without_padding_a_short_history_has_the_first_positions() -> None:
    network = build_model(SasrecParams(3, 8, 1, 1, 0.5, False, 0.5), 9, torch.Generator().manual_seed(0))
    scores = model_scorer.by_model(network, padding=False)(sequences([6, 7]))(np.array([0]))
    books, positions = torch.tensor([[6, 7]]), torch.tensor([[0, 1]])
    features = network.encode(network.item_embedding(books), positions, torch.ones_like(books))
    torch.testing.assert_close(scores, features[:, -1] @ network.item_embedding.weight.T)


def test_the_model_scores_a_left_padded_history_cut_to_its_latest_books() -> None:
    params = SasrecParams(3, 8, 1, 1, 0.5, False, 0.5)
    network = build_model(params, 9, torch.Generator().manual_seed(0))
    histories: Sequences = sequences([1, 2, 3, 4, 5], [6], [7, 7], [])
    *scores, of_nothing = model_scorer.by_model(network)(histories)(np.array([0, 1, 2, 3]))
    assert torch.isfinite(of_nothing).all()
    for row, history in zip(scores, ([3, 4, 5], [0, 0, 6], [0, 7, 7]), strict=True):
        expected = network(torch.tensor([history]), torch.tensor([[0, 1, 2]]))[0] @ network.item_embedding.weight.T
        torch.testing.assert_close(row, expected)
