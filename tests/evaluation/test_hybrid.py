import numpy as np
import pytest
import torch
from conftest import sequences

from sasrec.evaluation import hybrid
from sasrec.evaluation.ranking import Ranks, Scorers
from sasrec.model.autoencoder import Autoencoder
from sasrec.model.sasrec import HybridWeights
from sasrec.split import transitions

NUM_BOOKS = 6
LOGITS = torch.linspace(-1, 1, 2 * (NUM_BOOKS + 1)).view(2, -1).flip(1)
TRAINED = transitions.count(sequences([1, 2, 3], [1, 2, 4], [5, 2, 4]), NUM_BOOKS)
COUNTED = hybrid.by_transitions(TRAINED, torch.device("cpu"))
HISTORIES = sequences([6, 1], [2])
PAIRS = tuple(HybridWeights(*pair) for pair in [(0, 0), (0, 2), (0.5, 0), (0.5, 2)])


def model(_histories: object) -> object:
    return lambda users: LOGITS[torch.from_numpy(users)]


def linear(_histories: object) -> object:
    return lambda users: LOGITS[torch.from_numpy(users)].square()


def test_its_scores_differ_from_the_log_of_the_product_of_both_probabilities_by_a_constant() -> None:
    weight, users = 0.5, np.array([0, 1])
    found = hybrid.joined(model, COUNTED, weight)(HISTORIES)(users)[:, 1:].double().numpy()
    learnt = LOGITS[:, 1:].double().softmax(1).numpy()
    counted = np.stack([TRAINED.score(HISTORIES[user])[1:] for user in users]) + 1e-3
    product = np.log(learnt * (counted / counted.sum(1, keepdims=True)) ** weight)
    assert np.ptp(found - product, axis=1) == pytest.approx([0, 0], abs=1e-5)


def test_with_weight_0_it_is_the_model() -> None:
    assert hybrid.joined(model, COUNTED, 0.0) is model


def chosen_of(*true_ranks: int) -> tuple[HybridWeights, Ranks]:
    """Choose among PAIRS, each of which gives one user this rank."""
    ranks = [Ranks(*2 * [np.array([rank])]) for rank in true_ranks]
    return hybrid.choose_weights(model, COUNTED, linear, PAIRS, lambda *_: ranks, lambda ranks: -ranks.full[0])


def test_the_pair_of_weights_whose_ranks_are_the_best_is_chosen() -> None:
    weights, ranks = chosen_of(5, 2, 4, 3)  # one weight after the other would end at the last pair
    assert (weights, ranks.full.tolist()) == (HybridWeights(0, 2), [2])


def test_of_equal_pairs_the_first_is_chosen() -> None:
    assert chosen_of(4, 4, 5, 4)[0] == HybridWeights(0, 0)


def test_each_pair_is_tried_by_the_scores_of_the_hybrid_with_it() -> None:
    users, tried = np.array([0, 1]), []

    def rank_each(scorers: Scorers, number: int) -> list[Ranks]:
        tried.extend(scorers(HISTORIES)(users))
        return number * [Ranks(users, users)]

    hybrid.choose_weights(model, COUNTED, linear, PAIRS, rank_each, lambda _ranks: 0)
    for weights, scores in zip(PAIRS, tried, strict=True):
        counted = hybrid.joined(model, COUNTED, weights.transitions)
        assert torch.equal(scores, hybrid.joined(counted, linear, weights.autoencoder)(HISTORIES)(users))


def test_a_hybrid_may_be_the_network_alone() -> None:
    assert hybrid.PAIRS[0] == HybridWeights()


def test_the_autoencoder_scores_a_book_by_each_book_of_the_history_that_has_a_row_the_older_the_less() -> None:
    autoencoder = Autoencoder(NUM_BOOKS, num_inputs=3)
    autoencoder.weight = torch.rand(3, NUM_BOOKS + 1, generator=torch.Generator().manual_seed(0))
    autoencoder.rows = torch.tensor([-1, 0, -1, 1, -1, -1, 2])  # the books 1, 3 and 6 have one
    found = hybrid.by_autoencoder(autoencoder)(sequences([6, 2, 1, 3], [], [2], [3, 1, 3]))(np.arange(4))
    of_1, of_3, of_6 = autoencoder.weight.double().numpy()
    re_read = of_3 + 0.98 * of_1 + 0.98**2 * of_3
    expected = np.stack([of_3 + 0.98 * of_1 + 0.98**3 * of_6, 0 * of_1, 0 * of_1, re_read])
    assert found.numpy() == pytest.approx(expected, rel=1e-5)
