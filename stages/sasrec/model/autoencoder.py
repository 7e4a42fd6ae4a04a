"""A linear autoencoder of histories: which books have the same users, whatever the order."""

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Its weights: book b scores the sum of weight[rows[a], b] over the books a of a history that have a row.

    A new model has no row, so that no checkpoint holds what only the end of the training adds.
    """

    weight: Tensor  # (num_inputs, num_books + 1)
    rows: Tensor  # (num_books + 1,) int64: the row of each book, -1 for a book without

    def __init__(self, num_books: int, num_inputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(num_inputs, num_books + 1))
        self.register_buffer("rows", torch.empty(num_books + 1, dtype=torch.int64))

    def require_rows(self) -> None:
        """Raise ValueError if `rows` names a row that is not there."""
        if self.rows.dtype != torch.int64 or self.rows.min() < -1 or self.rows.max() >= len(self.weight):
            raise ValueError("a book's row of the autoencoder is not there")
