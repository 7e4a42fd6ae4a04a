"""Attention by hand: its values and gradients are those of the plain formula in float64."""

import pytest
import torch
from torch import Tensor

from sasrec.model import matmul
from sasrec.model.attention import attend
from sasrec.model.dropout import RandomBytes

ROWS, QUERIES, LENGTH, WIDTH = 3, 4, 7, 6


def random_bytes(rows: int = ROWS) -> RandomBytes:
    return RandomBytes(torch.Generator().manual_seed(0), rows, range(rows))


def draw(rows: int, queries: int, length: int, width: int) -> tuple[list[Tensor], Tensor]:
    """Return query, key and value, and a mask that lets each query see its own and the earlier positions."""
    generator = torch.Generator().manual_seed(rows)
    parts = [torch.randn(rows, each, width, generator=generator) for each in (queries, length, length)]
    mask = torch.ones(rows, queries, length).triu(length - queries + 1) * -1e9
    return [part.requires_grad_() for part in parts], mask


def factors(shape: torch.Size, rate: float) -> Tensor:
    """Return what dropout multiplies by: 0 where a byte is below the rate's threshold."""
    octets = random_bytes().draw(shape, torch.device("cpu"))
    return (octets >= rate * 256).double() / (1 - rate)


def by_formula(parts: list[Tensor], mask: Tensor, num_heads: int, dropped: Tensor) -> Tensor:
    """Attention of one head after another, with the factors of the weights in `dropped`."""
    mixed = []
    for head, (query, key, value) in enumerate(zip(*(part.chunk(num_heads, -1) for part in parts), strict=True)):
        scores = torch.einsum("rqw,rlw->rql", query, key) / query.shape[-1] ** 0.5 + mask
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True) * dropped[:, head]
        mixed.append(torch.einsum("rql,rlw->rqw", weights, value))
    return torch.cat(mixed, -1)


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("is_plain", [False, True])
def test_attention_and_its_gradients_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, num_heads: int, rate: float, portable: bool, is_plain: bool
) -> None:
    monkeypatch.setattr(matmul, "PORTABLE", portable)
    monkeypatch.setattr(matmul, "is_plain", lambda _x: is_plain)
    parts, mask = draw(ROWS, QUERIES, LENGTH, WIDTH)
    dropped = factors(torch.Size((ROWS, num_heads, QUERIES, LENGTH)), rate)
    doubles = [part.detach().double().requires_grad_() for part in parts]
    expected = by_formula(doubles, mask.double(), num_heads, dropped)
    found = attend(*parts, mask, num_heads, rate, random_bytes())
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape)
    gradients = torch.autograd.grad(found, parts, weights), torch.autograd.grad(expected, doubles, weights.double())
    torch.testing.assert_close([found, *gradients[0]], [expected, *gradients[1]], check_dtype=False)


def test_the_gradients_of_portable_attention_do_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matmul, "PORTABLE", True)
    parts, mask = draw(95, 50, 50, 36)
    num_threads = torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        attended = attend(*parts, mask, 1, 0.5, random_bytes(95))
        found.append(torch.stack(torch.autograd.grad(attended, parts, attended.detach())))
    torch.set_num_threads(num_threads)
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])
