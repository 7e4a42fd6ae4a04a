"""Recommends the books to read next, with a model that the pipeline trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sasrec import errors, model, scorers
from sasrec.ranking import readers_at_a_time
from sasrec.sequences import Sequences

WEIGHTS = "sasrec.safetensors"
CONFIG = "sasrec.json"


class Recommendations(NamedTuple):
    """The best books of each reader, best first; 0 and -inf where fewer than k are left to recommend."""

    books: np.ndarray  # (readers, k) int64, book_idx
    scores: np.ndarray  # (readers, k) float32, the model's logits: they compare books of one reader


@dataclass(frozen=True)
class Recommender:
    """A trained model, and how it takes a short history (evaluation.padding of params.yaml)."""

    model: model.Sasrec
    padding: bool = True

    @classmethod
    def load(cls, folder: str | Path, *, padding: bool = True) -> "Recommender":
        """Return the recommender of a folder that holds sasrec.json and sasrec.safetensors, on the CPU.

        Raises:
            UserError: a file is missing, damaged or not of the other.

        """
        weights, config = Path(folder) / WEIGHTS, Path(folder) / CONFIG
        errors.require(weights, config)
        return cls(model.load(weights, model.load_config(config)), padding)

    @property
    def num_books(self) -> int:
        """The number of books that the model knows."""
        return self.model.num_books

    @torch.inference_mode()
    def recommend(
        self, histories: Sequences | Sequence[Sequence[int]], k: int, *, exclude_seen: bool = True
    ) -> Recommendations:
        """Return the `k` books with the highest scores after each history of book_idx, oldest first.

        The scores are those that `evaluate` ranks by. With `exclude_seen` no book of the history is recommended.

        Raises:
            ValueError: k is not in 1..num_books, or a history holds what is no book of the model.
            UserError: a score is not finite.

        """
        if not 1 <= k <= self.num_books:
            raise ValueError(f"k is {k}, not in 1..{self.num_books}, the number of books")
        given = histories if isinstance(histories, Sequences) else _flat(histories)
        read = given.items[: given.offsets[-1]]
        if len(read) and not 1 <= read.min() <= read.max() <= self.num_books:
            raise ValueError(f"a history holds a book that is not in 1..{self.num_books}")
        score = scorers.by_model(self.model, padding=self.padding)(given)
        books = np.zeros((len(given), k), dtype=np.int64)
        scores = np.zeros((len(given), k), dtype=np.float32)
        at_a_time = readers_at_a_time(self.model.item_embedding.weight.device)
        for start in range(0, len(given), at_a_time):
            readers = np.arange(start, min(start + at_a_time, len(given)))
            of_all = score(readers)  # (batch, num_books + 1)
            of_all[:, 0] = -torch.inf
            if exclude_seen:
                of_all[_places(given, readers)] = -torch.inf
            best = of_all.topk(k)
            scores[readers], books[readers] = best.values.cpu().numpy(), best.indices.cpu().numpy()
        if not (scores < np.inf).all():  # NaN is among the best, too
            raise errors.UserError(f"{WEIGHTS}: a score is not finite; lower train.lr and train again")
        books[scores == -np.inf] = 0
        return Recommendations(books, scores)


def _flat(histories: Sequence[Sequence[int]]) -> Sequences:
    offsets = np.cumsum([0, *map(len, histories)])
    items = [book for books in histories for book in books] or [0]  # last_books looks at one where there is none
    return Sequences(np.array(items, dtype=np.int32), offsets)


def _places(histories: Sequences, readers: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of the books that `readers`, which follow one another, have read."""
    first, last = histories.offsets[readers[0]], histories.offsets[readers[-1] + 1]
    rows = np.repeat(np.arange(len(readers)), histories.lengths[readers[0] : readers[-1] + 1])
    return torch.from_numpy(rows), torch.from_numpy(histories.items[first:last]).long()
