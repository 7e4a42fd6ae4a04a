"""Recommends the books to read next with a trained model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sasrec.core import errors
from sasrec.evaluation import hybrid, model_scorer
from sasrec.evaluation.ranking import Scorer, users_at_a_time
from sasrec.io import files
from sasrec.model.sasrec import Sasrec, load_config, load_model
from sasrec.split import datasets
from sasrec.split.sequences import Sequences
from sasrec.split.transitions import Transitions

WEIGHTS = "sasrec.safetensors"
CONFIG = "sasrec.json"


class Recommendations(NamedTuple):
    """The k best books of each user, best first; book 0 and score -inf where fewer remain."""

    books: np.ndarray  # (users, k) int64: book_idx
    scores: np.ndarray  # (users, k) float32: the scorer's, comparable only for the same user


class Counted(NamedTuple):
    """The item transitions, and their weight beside the model (see `hybrid.by_both`)."""

    transitions: Transitions
    weight: float


@dataclass(frozen=True)
class Recommender:
    """A trained model, the padding of short histories (evaluation.padding), and what counting adds."""

    model: Sasrec
    padding: bool = True
    counted: Counted | None = None

    @classmethod
    def load(cls, folder: str | Path, *, train: str | Path | None = None, padding: bool = True) -> "Recommender":
        """Return a recommender, on the CPU, from the sasrec.json and sasrec.safetensors of `folder`.

        With `train`, the training set that the model learnt from, it ranks by the hybrid if that was better on the
        validation users; else by the network alone.

        Raises:
            UserError: a file is missing or damaged, or they do not belong together.

        """
        weights, sizes = Path(folder, WEIGHTS), Path(folder, CONFIG)
        errors.require(weights, sizes, *([Path(train)] if train else []))
        config = load_config(sizes)
        model = load_model(weights, config)
        if train is None or config.hybrid_weight == 0:
            return cls(model, padding)
        learnt = datasets.load_training_set(Path(train))
        with files.naming_damage(sizes):
            config.require_books(learnt.num_books)
        counted = Counted(learnt.transitions, config.hybrid_weight)
        return cls(model, padding, counted)

    @property
    def scorer(self) -> Scorer:
        """The scorer that ranks."""
        by_model = model_scorer.by_model(self.model, padding=self.padding)
        return hybrid.by_both(by_model, *self.counted) if self.counted else by_model

    @property
    def description(self) -> str:
        """What ranks, in words."""
        if self.counted is None:
            return "the network alone"
        return f"the network and, with weight {self.counted.weight:g}, the item transitions"

    @property
    def num_books(self) -> int:
        """The number of books in the catalogue."""
        return self.model.num_books

    @torch.inference_mode()
    def recommend(
        self, histories: Sequences | Sequence[Sequence[int]], k: int, *, exclude_seen: bool = True
    ) -> Recommendations:
        """Return the `k` books with the highest scores after each history, which lists book_idx, oldest first.

        `evaluate` ranks by the same scores. With `exclude_seen` no book of the history is recommended.

        Raises:
            ValueError: k is not in 1..num_books, or a history holds a book that is not.
            UserError: a score is not finite.

        """
        if not 1 <= k <= self.num_books:
            raise ValueError(f"k is {k}, not in 1..{self.num_books}, the number of books")
        given = histories if isinstance(histories, Sequences) else _as_sequences(histories)
        read = given.items[: given.offsets[-1]]
        if len(read) and not 1 <= read.min() <= read.max() <= self.num_books:
            raise ValueError(f"a history holds a book that is not in 1..{self.num_books}")
        score = self.scorer(given)
        books = np.zeros((len(given), k), dtype=np.int64)
        scores = np.zeros((len(given), k), dtype=np.float32)
        at_a_time = users_at_a_time(self.model.item_embedding.weight.device)
        for start in range(0, len(given), at_a_time):
            users = np.arange(start, min(start + at_a_time, len(given)))
            all_scores = score(users)  # (batch, num_books + 1)
            all_scores[:, 0] = -torch.inf
            if exclude_seen:
                all_scores[_read_books(given, users)] = -torch.inf
            best = all_scores.topk(k)  # (batch, k)
            scores[users], books[users] = best.values.cpu().numpy(), best.indices.cpu().numpy()
        if not (scores < np.inf).all():  # topk ranks NaN first, so it shows here
            raise errors.UserError(f"{WEIGHTS}: a score is not finite; lower train.lr and train again")
        books[scores == -np.inf] = 0
        return Recommendations(books, scores)


def _as_sequences(histories: Sequence[Sequence[int]]) -> Sequences:
    offsets = np.cumsum([0, *map(len, histories)])
    items = [book for books in histories for book in books] or [0]  # last_books reads an item even if there is none
    return Sequences(np.array(items, dtype=np.int32), offsets)


def _read_books(histories: Sequences, users: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of the scores of consecutive `users` that belong to books they have read."""
    first, last = histories.offsets[users[0]], histories.offsets[users[-1] + 1]
    rows = np.repeat(np.arange(len(users)), histories.lengths[users[0] : users[-1] + 1])
    return torch.from_numpy(rows), torch.from_numpy(histories.items[first:last]).long()
