"""The leading singular vectors of a sparse matrix, by a randomised range finder (Halko, Martinsson & Tropp 2011, 4.4).

In portable mode each sum has one order on every processor: dense products come from `matmul`, sparse ones add up in the
order of the entries, and no function of LAPACK is called.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sasrec.model import matmul

OVERSAMPLING = 14  # columns of the basis beyond the width
NUM_ITERATIONS = 3  # of the subspace iteration
MAX_SWEEPS = 30  # of Jacobi's rotations; a dozen are enough
SMALLEST = 1e-10  # the square of a direction, relative to the largest one's, that counts


class Sparse(NamedTuple):
    """A sparse matrix by rows."""

    starts: Tensor  # (rows + 1,) int64: where the entries of a row begin
    columns: Tensor  # (entries,) int64, ascending in a row
    values: Tensor  # (entries,)
    num_columns: int

    @property
    def rows(self) -> Tensor:
        """The row of each entry, (entries,) int64."""
        return torch.repeat_interleave(torch.arange(len(self.starts) - 1), self.starts.diff())

    def times(self, x: Tensor) -> Tensor:
        """Return self @ x, (rows, columns of x): each element is summed in the order of its row's entries."""
        return F.embedding_bag(self.columns, x, self.starts[:-1], mode="sum", per_sample_weights=self.values)

    def transposed(self) -> "Sparse":
        """Return the transpose."""
        order = torch.argsort(self.columns, stable=True)  # within a column, rows stay ascending
        starts = torch.searchsorted(self.columns[order], torch.arange(self.num_columns + 1))
        return Sparse(starts, self.rows[order], self.values[order], len(self.starts) - 1)


def factorise(matrix: Sparse, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the first left singular vectors, (rows, width), and the singular values, (width,), both float32.

    Row 0 is padding, without entries. There are fewer than `width` where the matrix has no more rows or columns.
    """
    transpose, num_rows = matrix.transposed(), len(matrix.starts) - 1
    num_directions = min(width + OVERSAMPLING, num_rows - 1, matrix.num_columns)
    start = torch.empty(matrix.num_columns, num_directions).normal_(generator=generator)
    basis = orthonormal(matrix.times(start))
    for _ in range(NUM_ITERATIONS):
        basis = orthonormal(matrix.times(orthonormal(transpose.times(basis))))
    projected = transpose.times(basis)  # (rows, columns of the basis): the transpose of basis.T @ matrix
    squares, rotation = eigen(_gram(projected))
    return _times(basis, rotation[:, :width]), torch.from_numpy(np.sqrt(np.maximum(squares[:width], 0))).float()


def orthonormal(x: Tensor) -> Tensor:
    """Return an orthonormal basis of the columns of x, (rows, columns); a direction that is hardly there becomes 0.

    With gram = V diag(squares) V.T, the basis is x V / sqrt(squares). The second pass removes the first one's errors.
    """
    for _ in range(2):
        squares, rotation = eigen(_gram(x))
        is_there = squares > SMALLEST * squares[0]
        x = _times(x, rotation * np.where(is_there, 1 / np.sqrt(np.where(is_there, squares, 1)), 0))
    return x


def _gram(x: Tensor) -> np.ndarray:
    """Return x.T @ x, (columns, columns) float64."""
    return matmul.linear(x.T, x.T).double().numpy()


def _times(x: Tensor, matrix: np.ndarray) -> Tensor:
    """Return x @ matrix, float32."""
    return matmul.linear(x, torch.from_numpy(matrix.T.copy()).float())


def eigen(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues, descending, and the eigenvectors as columns, by Jacobi's rotations.

    Each round rotates disjoint pairs of axes at once (Brent & Luk 1985); a sweep of rounds meets every pair.
    """
    size = len(symmetric)
    a, vectors = symmetric.copy(), np.eye(size)
    axes = np.arange(size + size % 2)  # an odd size gets an axis that is in no pair
    for _ in range(MAX_SWEEPS):
        diagonal = np.diag(a)
        if np.abs(a - np.diag(diagonal)).max() <= 1e-12 * np.abs(diagonal).max():
            break
        for _ in range(len(axes) - 1):
            pairs = np.stack([axes[: len(axes) // 2], axes[: len(axes) // 2 - 1 : -1]])
            _rotate(a, vectors, *pairs[:, (pairs < size).all(0)])
            axes[1:] = np.roll(axes[1:], 1)
    order = np.argsort(-np.diag(a), kind="stable")
    return np.diag(a)[order], vectors[:, order]


def _rotate(a: np.ndarray, vectors: np.ndarray, p: np.ndarray, q: np.ndarray) -> None:
    """Make each a[p, q] zero by a rotation of the axes p and q (Golub & Van Loan 2013, section 8.5)."""
    is_zero = a[p, q] == 0
    with np.errstate(over="ignore"):  # where a[p, q] is nearly 0, tau is too large to square, and the tangent is 0
        tau = (a[q, q] - a[p, p]) / np.where(is_zero, 1, 2 * a[p, q])
        tangent = np.where(is_zero, 0, np.copysign(1, tau) / (np.abs(tau) + np.sqrt(1 + tau * tau)))
    cosine = (1 / np.sqrt(1 + tangent * tangent))[:, None]
    sine = tangent[:, None] * cosine
    for rows in (a.T, a, vectors.T):
        rows[p], rows[q] = cosine * rows[p] - sine * rows[q], sine * rows[p] + cosine * rows[q]
