"""LayerNorm in portable mode: it is PyTorch's, and its gradients have one order."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sasrec.model import fixed_order, matmul


@pytest.fixture(autouse=True)
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "PORTABLE", True)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), requires_grad=True)


def with_gradients(output: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return the output and the gradients of a weighted sum of its elements."""
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    return [output, *torch.autograd.grad((output * weights).sum(), inputs)]


@pytest.mark.parametrize("shape", [(7, 9, 6), (1, 1, 6), (5, 3), (0, 9, 6)])
def test_a_layer_norm_and_its_gradients_are_those_of_pytorch(shape: tuple[int, ...]) -> None:
    inputs = draw(*shape), draw(shape[-1]), draw(shape[-1])
    found = with_gradients(fixed_order.layer_norm(*inputs, eps=1e-6), *inputs)
    expected = with_gradients(F.layer_norm(inputs[0], shape[-1:], *inputs[1:], eps=1e-6), *inputs)
    torch.testing.assert_close(found, expected)


def test_the_gradient_of_its_bias_adds_up_the_rows_in_their_order() -> None:
    x, weight, bias, gradient = draw(200, 5), draw(5), draw(5), draw(200, 5).detach() + 1
    found = torch.autograd.grad(fixed_order.layer_norm(x, weight, bias, eps=1e-6), bias, gradient)[0]
    np.testing.assert_array_equal(found, np.cumsum(gradient.numpy(), 0)[-1])  # a chain of sums


def test_a_layer_norm_leaves_the_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    x, weight, bias = draw(5, 3), draw(3), draw(3)
    fixed_order.layer_norm(x, weight, bias, eps=1e-6).sum().backward()
    assert torch.get_num_threads() == before
