"""Matrix products in portable mode: what they compute, and in which order."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.numpy import load_file, save_file

from sasrec.model import matmul
from sasrec.runtime import reproducibility

TERMS_OF_A_CHAIN = 1024
SHAPES = [
    (2, 1, 1),
    (1, 50, 50),
    (3, 7, 1),
    (133, 50, 150),
    (64, 512, 50),
    (50, 1024, 50),
    (50, 2300, 150),
    (3050, 36, 2),
]
MULTIPLY_ALL = """
import sys, torch
from safetensors.torch import load_file, save_file
from sasrec.model import matmul
read = load_file(sys.argv[1])
products = {}
for num_threads in (1, 2, 3):
    torch.set_num_threads(num_threads)
    for name in {name.split(".")[0] for name in read}:
        product = matmul.linear(read[f"{name}.x"], read[f"{name}.weight"])
        products[f"{name}.{num_threads}"] = product.contiguous()
save_file(products, sys.argv[2])
"""


def chained(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return x @ weight.T by fused multiply-adds, one chain for every TERMS_OF_A_CHAIN terms of an element."""
    total = np.zeros((len(x), len(weight)), np.float32)
    for start in range(0, x.shape[1], TERMS_OF_A_CHAIN):
        chain = np.zeros_like(total)
        for term in range(start, min(start + TERMS_OF_A_CHAIN, x.shape[1])):
            factors = x[:, term, None].astype(np.float64), weight[None, :, term].astype(np.float64)
            chain = (chain + factors[0] * factors[1]).astype(np.float32)  # float64 holds the product exactly
        total = total + chain
    return total


def test_each_element_is_a_chain_of_fused_multiply_adds_with_any_number_of_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = {}
    for number, (rows, terms, columns) in enumerate(SHAPES):
        drawn[f"{number}.x"] = rng.standard_normal((rows, terms), np.float32)
        drawn[f"{number}.weight"] = rng.standard_normal((columns, terms), np.float32)
    save_file(drawn, tmp_path / "drawn")
    environment = os.environ | reproducibility.PORTABLE | {"PYTHONPATH": str(ROOT / "stages")}
    command = [sys.executable, "-c", MULTIPLY_ALL, tmp_path / "drawn", tmp_path / "products"]
    subprocess.run(command, env=environment, check=True)
    products = load_file(tmp_path / "products")
    assert len(products) == 3 * len(SHAPES)
    for number in range(len(SHAPES)):
        expected = chained(drawn[f"{number}.x"], drawn[f"{number}.weight"])
        for num_threads in (1, 2, 3):
            np.testing.assert_array_equal(products[f"{number}.{num_threads}"], expected)


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "PORTABLE", True)


def with_gradients(product: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return the product and the gradients of a weighted sum of its elements."""
    weights = torch.linspace(-1, 1, product.numel()).view(product.shape)
    return [product, *torch.autograd.grad((product * weights).sum(), inputs)]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)), requires_grad=True)


@pytest.mark.parametrize("shape", [(4, 9, 6), (1, 1, 6), (5, 6), (0, 6), (0, 9, 6), (4, 0, 6)])
@pytest.mark.parametrize("outputs", [1, 7])
def test_a_linear_layer_and_its_gradients_are_those_of_pytorch(
    portable: None, shape: tuple[int, ...], outputs: int
) -> None:
    inputs = draw(*shape), draw(outputs, 6), draw(outputs)
    found = with_gradients(matmul.linear(*inputs), *inputs)
    torch.testing.assert_close(found, with_gradients(torch.nn.functional.linear(*inputs), *inputs))


@pytest.mark.parametrize("is_portable", [False, True])
@pytest.mark.parametrize("shape", [(4, 9, 6), (1, 1, 6), (0, 9, 6)])
def test_a_layer_in_parts_and_its_gradients_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, is_portable: bool, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(matmul, "PORTABLE", is_portable)
    x, weight = draw(*shape), draw(12, 6)
    found = with_gradients(torch.cat(matmul.linear_parts(x, weight, 3), -1), x, weight)
    torch.testing.assert_close(found, with_gradients(torch.nn.functional.linear(x, weight), x, weight))


@pytest.mark.parametrize(
    ("batch", "rows", "terms", "columns"),
    [(1, 5, 6, 5), (3, 1, 6, 7), (4, 9, 1, 1), (7, 8, 8, 8), (0, 5, 6, 5), (3, 0, 6, 7), (3, 5, 6, 0)],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_batches_are_those_of_pytorch(
    portable: None, batch: int, rows: int, terms: int, columns: int, transposed: bool
) -> None:
    x, a = draw(batch, rows, columns).detach(), draw(batch, rows, terms).detach()
    b = draw(batch, columns, terms).detach().mT if transposed else draw(batch, terms, columns).detach()
    torch.testing.assert_close(matmul.products(a, b), a @ b)
    torch.testing.assert_close(matmul.add_products(x, a, b, 0.3), x + 0.3 * a @ b)


def test_a_transposed_factor_gives_the_bits_of_its_copy(portable: None) -> None:
    a, b = draw(7, 50, 64).detach().mT, draw(7, 30, 50).detach().mT  # (7, 64, 50) and (7, 50, 30)
    assert matmul.products(a, b).equal(matmul.products(a.contiguous(), b.contiguous()))
    assert matmul.product(a[0], b[0].T).equal(matmul.product(a[0].contiguous(), b[0].T.contiguous()))


@pytest.mark.parametrize(
    ("batch", "rows", "terms", "columns"),
    [(95, 50, 50, 50), (2, 50, 64, 50), (130, 100, 96, 100), (126, 100, 100, 96), (12, 100, 64, 1600)],
)
def test_products_of_batches_do_not_depend_on_the_number_of_threads(
    portable: None, batch: int, rows: int, terms: int, columns: int
) -> None:
    a, b = draw(batch, rows, terms).detach(), draw(batch, columns, terms).detach().mT
    num_threads = torch.get_num_threads()
    found = []
    for count in (1, 2, 3, 4, 8):
        torch.set_num_threads(count)
        found.append(matmul.products(a, b))
    torch.set_num_threads(num_threads)
    assert all(each.equal(found[0]) for each in found)


@pytest.mark.parametrize("columns", [*range(30, 42), 50, 64, 100, 144])
def test_sums_of_columns_do_not_depend_on_the_number_of_threads(portable: None, columns: int) -> None:
    x = draw(3050, columns).detach()
    num_threads = torch.get_num_threads()
    found = []
    for count in (1, 2, 3, 5, 7, 12):
        torch.set_num_threads(count)
        found.append(matmul.column_sums(x))
    torch.set_num_threads(num_threads)
    torch.testing.assert_close(found[0], x.double().sum(0).float(), rtol=1e-5, atol=1e-3)
    assert all(each.equal(found[0]) for each in found)
