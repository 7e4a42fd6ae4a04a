"""The feed-forward layer by hand: its values and gradients are those of the plain formula in float64."""

import pytest
import torch

from sasrec.model import matmul
from sasrec.model.dropout import RandomBytes
from sasrec.model.feed_forward import transform

ROWS, LENGTH, WIDTH = 3, 5, 6


def random_bytes() -> RandomBytes:
    return RandomBytes(torch.Generator().manual_seed(0), ROWS, range(ROWS))


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("is_plain", [False, True])
def test_the_layer_and_its_gradients_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, rate: float, portable: bool, is_plain: bool
) -> None:
    monkeypatch.setattr(matmul, "PORTABLE", portable)
    monkeypatch.setattr(matmul, "is_plain", lambda _x: is_plain)
    generator = torch.Generator().manual_seed(1)
    shapes = [(ROWS, LENGTH, WIDTH), (WIDTH, WIDTH), (WIDTH,), (WIDTH, WIDTH), (WIDTH,)]
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    octets = random_bytes().draw(inputs[0].shape, torch.device("cpu"))
    dropped = (octets >= rate * 256).double() / (1 - rate)
    x, inner, inner_bias, outer, outer_bias = doubles = [each.detach().double().requires_grad_() for each in inputs]
    hidden = (x @ inner.T + inner_bias).clamp(min=0) * dropped
    expected = hidden @ outer.T + outer_bias
    found = transform(inputs[0], tuple(inputs[1:3]), tuple(inputs[3:]), rate, random_bytes())
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape)
    gradients = torch.autograd.grad(found, inputs, weights), torch.autograd.grad(expected, doubles, weights.double())
    torch.testing.assert_close([found, *gradients[0]], [expected, *gradients[1]], check_dtype=False)
