import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sasrec import losses

POSITIVE, NEGATIVE = [0.5, -2.0], [[1.0, 0.0, -1.0], [3.0, 0.1, 0.2]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def binary(beta: float) -> list[float]:
    """-log(sigmoid(positive) ** beta) - sum of log(1 - sigmoid(negative)), as the papers write it."""
    return [
        -math.log(sigmoid(p) ** beta) - sum(math.log(1 - sigmoid(n)) for n in row)
        for p, row in zip(POSITIVE, NEGATIVE, strict=True)
    ]


def test_bce_is_the_papers_formula() -> None:
    assert losses.bce(torch.tensor(POSITIVE), torch.tensor(NEGATIVE)).tolist() == pytest.approx(binary(beta=1))


@pytest.mark.parametrize(("rate", "t"), [(0.01, 0.75), (0.2, 0.5), (0.2, 1.0)])
def test_gbce_is_the_papers_formula(rate: float, t: float) -> None:
    beta = rate * (t * (1 - 1 / rate) + 1 / rate)
    found = losses.gbce(torch.tensor(POSITIVE), torch.tensor(NEGATIVE), rate, t)
    assert found.tolist() == pytest.approx(binary(beta))


def test_gbce_without_calibration_is_bce() -> None:
    assert losses.gbce(torch.tensor(POSITIVE), torch.tensor(NEGATIVE), 0.01, t=0).tolist() == pytest.approx(binary(1))


def test_gbce_of_all_books_is_bce() -> None:
    assert losses.gbce(torch.tensor(POSITIVE), torch.tensor(NEGATIVE), 1.0, t=1).tolist() == pytest.approx(binary(1))


def test_sampled_softmax_corrects_each_negative_and_leaves_hits_out() -> None:
    is_hit = torch.tensor([[False, False, True], [False, False, False]])
    expected = [0.5, 2.0, 1.0]  # how often each negative was to be drawn
    found = losses.sampled_softmax(torch.tensor(POSITIVE), torch.tensor(NEGATIVE), is_hit, torch.tensor(expected).log())
    first = math.exp(1.0) / 0.5 + math.exp(0.0) / 2.0
    second = math.exp(3.0) / 0.5 + math.exp(0.1) / 2.0 + math.exp(0.2) / 1.0
    sums = [-math.log(math.exp(p) / (math.exp(p) + rest)) for p, rest in zip(POSITIVE, (first, second), strict=True)]
    assert found.tolist() == pytest.approx(sums)


def random_task(places: int, num_books: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(places, 8, generator=generator)
    items = torch.randn(num_books + 1, 8, generator=generator)
    return features, torch.randint(1, num_books + 1, (places,), generator=generator), items


def test_softmax_is_the_negative_log_share_of_the_positive() -> None:
    features, positives, items = random_task(places=5, num_books=7)
    exponents = np.exp(features.double().numpy() @ items[1:].double().numpy().T)
    expected = [-math.log(row[book - 1] / row.sum()) for row, book in zip(exponents, positives.tolist(), strict=True)]
    assert losses.softmax(features, positives, items).tolist() == pytest.approx(expected, rel=1e-5)


def test_sampled_softmax_of_every_book_is_softmax() -> None:
    features, positives, items = random_task(places=5, num_books=7)
    books = torch.arange(1, 8)
    logits = features @ items[books].T
    positive_logits = (features * items[positives]).sum(-1)
    found = losses.sampled_softmax(positive_logits, logits, positives[:, None] == books, torch.zeros(7))
    torch.testing.assert_close(found, losses.softmax(features, positives, items))


def test_chunks_change_neither_softmax_nor_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    features, positives, items = random_task(places=50, num_books=70)
    found = []
    for size in (1000, 7):
        monkeypatch.setattr(losses, "PLACES_PER_CHUNK", size)
        leaves = [features.clone().requires_grad_(), items.clone().requires_grad_()]
        loss = losses.softmax(leaves[0], positives, leaves[1]).sum()
        found.append([loss, *torch.autograd.grad(loss, leaves)])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole)


def test_softmax_never_holds_the_logits_of_all_places() -> None:
    features, positives, items = random_task(places=4 * losses.PLACES_PER_CHUNK, num_books=1000)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        losses.softmax(features.requires_grad_(), positives, items).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profiler.events())
    assert largest <= losses.PLACES_PER_CHUNK * 1000 * 4 * 1.1
