import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sasrec.training import losses
from sasrec.training.losses import Catalogue, OwnLogits, Shared
from sasrec.training.params import LOSSES

POSITIVE, NEGATIVE = [0.5, -2.0], [[1.0, 0.0, -1.0], [3.0, 0.1, 0.2]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def binary(beta: float) -> list[float]:
    """-log(sigmoid(positive) ** beta) - sum of log(1 - sigmoid(negative)), as the papers write it."""
    return [
        -math.log(sigmoid(p) ** beta) - sum(math.log(1 - sigmoid(n)) for n in row)
        for p, row in zip(POSITIVE, NEGATIVE, strict=True)
    ]


def own_logits(sampling_rate: float = 0.01, calibration: float = 0.75) -> OwnLogits:
    return OwnLogits(torch.tensor(POSITIVE), torch.tensor(NEGATIVE), sampling_rate, calibration)


def gbce(sampling_rate: float, t: float) -> list[float]:
    return losses.gbce(own_logits(sampling_rate, t)).tolist()


def test_each_loss_that_the_params_take_has_a_function() -> None:
    assert losses.FUNCTIONS.keys() == LOSSES.keys()


def test_bce_is_the_papers_formula() -> None:
    assert losses.bce(own_logits()).tolist() == pytest.approx(binary(beta=1))


@pytest.mark.parametrize(("rate", "t"), [(0.01, 0.75), (0.2, 0.5), (0.2, 1.0)])
def test_gbce_is_the_papers_formula(rate: float, t: float) -> None:
    beta = rate * (t * (1 - 1 / rate) + 1 / rate)
    assert gbce(rate, t) == pytest.approx(binary(beta))


def test_gbce_without_calibration_is_bce() -> None:
    assert gbce(0.01, t=0) == pytest.approx(binary(beta=1))


def test_gbce_of_all_books_is_bce() -> None:
    assert gbce(1.0, t=1) == pytest.approx(binary(beta=1))


def shared(logits: list[list[float]], hits: list[int], hit_offsets: list[float], offsets: list[float]) -> Shared:
    """Features and embeddings whose products are `logits`."""
    own = torch.tensor(hits), torch.tensor(hit_offsets)
    return Shared(torch.tensor(POSITIVE), torch.tensor(logits), torch.eye(len(offsets)), torch.tensor(offsets), *own)


def test_sampled_softmax_corrects_each_negative_and_leaves_hits_out() -> None:
    expected = [0.5, 2.0, 1.0]  # how often each negative was to be drawn
    given = shared(NEGATIVE, hits=[2, 0], hit_offsets=[-1e9, 0.0], offsets=[-math.log(each) for each in expected])
    first = math.exp(1.0) / 0.5 + math.exp(0.0) / 2.0
    second = math.exp(3.0) / 0.5 + math.exp(0.1) / 2.0 + math.exp(0.2) / 1.0
    sums = [-math.log(math.exp(p) / (math.exp(p) + rest)) for p, rest in zip(POSITIVE, (first, second), strict=True)]
    assert losses.sampled_softmax(given).tolist() == pytest.approx(sums)


def test_sampled_softmax_of_one_negative_that_is_a_hit_is_0_and_has_no_gradient() -> None:
    given = shared([[3.0], [4.0]], hits=[0, 0], hit_offsets=[-1e9, -1e9], offsets=[0.0])
    given.features.requires_grad_()
    loss = losses.sampled_softmax(given)
    assert loss.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(loss.sum(), given.features)[0].abs().max() == 0


def random_catalogue(num_positions: int, num_books: int) -> Catalogue:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(num_positions, 8, generator=generator)
    items = torch.randn(num_books + 1, 8, generator=generator)
    return Catalogue(features, torch.randint(1, num_books + 1, (num_positions,), generator=generator), items)


def softmax(catalogue: Catalogue) -> Tensor:
    return losses.softmax(catalogue)


def test_softmax_is_the_negative_log_share_of_the_positive() -> None:
    catalogue = random_catalogue(num_positions=5, num_books=7)
    features, positives, items = (tensor.numpy() for tensor in catalogue)
    exponents = np.exp(features.astype(np.float64) @ items[1:].T.astype(np.float64))
    expected = [-math.log(row[book - 1] / row.sum()) for row, book in zip(exponents, positives, strict=True)]
    assert softmax(catalogue).tolist() == pytest.approx(expected, rel=1e-5)


def every_book(catalogue: Catalogue) -> Shared:
    """All books as shared negatives."""
    features, positives, items = catalogue
    of_positives = (features * items[positives]).sum(-1)
    hit_offsets = torch.full((len(positives),), -1e9)
    return Shared(of_positives, features, items[1:], torch.zeros(len(items) - 1), positives - 1, hit_offsets)


def test_sampled_softmax_of_every_book_is_softmax() -> None:
    catalogue = random_catalogue(num_positions=5, num_books=7)
    torch.testing.assert_close(losses.sampled_softmax(every_book(catalogue)), softmax(catalogue))


def test_the_gradient_of_sampled_softmax_of_every_book_is_that_of_softmax() -> None:
    features, positives, items = random_catalogue(num_positions=5, num_books=7)
    leaves = features.requires_grad_(), items.requires_grad_()
    catalogue = Catalogue(features, positives, items)
    weights = torch.arange(1.0, 6.0)  # a position may count more than another
    found = torch.autograd.grad((losses.sampled_softmax(every_book(catalogue)) * weights).sum(), leaves)
    expected = torch.autograd.grad((softmax(catalogue) * weights).sum(), leaves)
    torch.testing.assert_close(found, expected)


def test_chunks_change_neither_softmax_nor_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    features, positives, items = random_catalogue(num_positions=50, num_books=70)
    found = []
    for size in (1000, 7):
        monkeypatch.setattr(losses, "POSITIONS_PER_CHUNK", size)
        leaves = features.clone().requires_grad_(), items.clone().requires_grad_()
        loss = softmax(Catalogue(leaves[0], positives, leaves[1])).sum()
        found.append([loss, *torch.autograd.grad(loss, leaves)])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole)


def test_softmax_never_holds_the_logits_of_all_positions() -> None:
    catalogue = random_catalogue(4 * losses.POSITIONS_PER_CHUNK, num_books=1000)
    catalogue.features.requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        softmax(catalogue).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profiler.events())
    assert largest <= losses.POSITIONS_PER_CHUNK * 1000 * 4 * 1.1
