import numpy as np
import pytest
import torch

from sasrec.training import factorisation
from sasrec.training.factorisation import Sparse


def sparse(matrix: np.ndarray) -> Sparse:
    rows, columns = np.nonzero(matrix)
    starts = torch.from_numpy(np.searchsorted(rows, np.arange(len(matrix) + 1)))
    values = torch.from_numpy(matrix[rows, columns]).float()
    return Sparse(starts, torch.from_numpy(columns.copy()), values, matrix.shape[1])


def blocks(num_rows: int, num_columns: int) -> np.ndarray:
    """A matrix of ones and zeros, in which near rows have near columns."""
    rng = np.random.default_rng(0)
    distance = np.abs(np.arange(num_rows)[:, None] / num_rows - np.arange(num_columns) / num_columns)
    return (rng.random((num_rows, num_columns)) < np.exp(-8 * distance)).astype(float)


@pytest.mark.parametrize("shape", [(60, 60), (30, 90), (90, 30)])
def test_the_factors_lose_at_most_one_hundredth_more_than_a_dense_svd(shape: tuple[int, int]) -> None:
    matrix = blocks(*shape)
    left, singular = factorisation.factorise(sparse(matrix), 12, torch.Generator().manual_seed(0))
    u, s, _ = np.linalg.svd(matrix)
    lost = np.linalg.norm(matrix - left.numpy() @ (left.numpy().T @ matrix))
    assert lost <= 1.01 * np.linalg.norm(matrix - u[:, :12] @ (u[:, :12].T @ matrix))
    assert singular.tolist() == pytest.approx(s[:12].tolist(), rel=0.01)


def test_the_transpose_has_the_rows_as_columns() -> None:
    matrix = blocks(5, 9)
    transpose = sparse(matrix).transposed()
    assert transpose.times(torch.eye(5)).numpy() == pytest.approx(matrix.T)


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_jacobi_finds_the_eigenvalues_and_vectors_of_lapack(size: int) -> None:
    factor = np.random.default_rng(size).normal(size=(size, size))
    values, vectors = factorisation.eigen(factor @ factor.T)
    assert values == pytest.approx(np.linalg.eigvalsh(factor @ factor.T)[::-1])
    assert vectors @ np.diag(values) @ vectors.T == pytest.approx(factor @ factor.T)


def test_jacobi_leaves_axes_alone_whose_element_is_too_small_to_rotate() -> None:
    symmetric = np.array([[2, 0.5, 1e-200], [0.5, 1, 0], [1e-200, 0, 3]])
    eigenvalues, _vectors = factorisation.eigen(symmetric)
    np.testing.assert_allclose(eigenvalues, [3, 1.5 + 0.5**0.5, 1.5 - 0.5**0.5])  # of the block: (3 ± sqrt 2) / 2


def test_a_basis_is_orthonormal_and_leaves_a_repeated_direction_out() -> None:
    columns = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    basis = factorisation.orthonormal(torch.cat([columns, columns[:, :1]], 1))
    gram = (basis.T @ basis).numpy()
    assert gram == pytest.approx(np.diag([1, 1, 1, 0]), abs=1e-5)
