"""Recommends books with a trained model: ids in, ids out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sasrec.core.errors import UserError
from sasrec.evaluation import hybrid, model_scorer
from sasrec.evaluation.ranking import Scorer, Scores, users_at_a_time
from sasrec.model.sasrec import HybridWeights
from sasrec.serving import model_folder, titles
from sasrec.serving.model_folder import Model
from sasrec.split.sequences import Sequences

Ranker = Literal["hybrid", "network", "recent popularity"]
DECIMALS = 6  # of a score


class Recommended(msgspec.Struct, frozen=True):
    """A recommended book."""

    rank: int  # from 1
    book_id: str
    score: float  # comparable only within one answer
    title: str | None
    ratings: int = 0  # by the training users


class Answer(msgspec.Struct, frozen=True):
    """What is recommended after one history."""

    books: list[Recommended]  # best first; fewer than asked for where fewer remain
    unknown: list[str]  # the ids of the history that the model does not know
    ranked_by: Ranker  # recent popularity: the model knows no book of the history


class Similar(msgspec.Struct, frozen=True):
    """The books nearest to one, in two senses, best first."""

    by_embedding: list[Recommended]  # the cosine of the network's item embeddings
    by_transitions: list[Recommended]  # read soon after it: the sum of 1 / distance over the training users


class Recommendations(NamedTuple):
    """The k best books of each user, best first; book 0 and score -inf where fewer remain."""

    books: np.ndarray  # (users, k) int64: book_idx
    scores: np.ndarray  # (users, k) float32: the scorer's, comparable only for the same user


@dataclass(frozen=True)
class Recommender:
    """A trained model, and the titles of its books by id."""

    model: Model
    titles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path, *, titles_from: str | Path | None = None) -> "Recommender":
        """Return a recommender, on the CPU, from the model's folder or the folder that holds it.

        `titles_from` is a file with titles in one of the shapes of docs/your-data.md.

        Raises:
            UserError: a file is missing or damaged, or the titles are of other books.

        """
        model = model_folder.load(Path(folder))
        names = titles.read(Path(titles_from), model.books.ids.to_pylist()) if titles_from else {}
        return cls(model, names)

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        exclude: Collection[str] = (),
        min_ratings: int = 0,
    ) -> list[Answer]:
        """Return an answer for each history, a list of the dump's book ids, oldest first.

        No book of `exclude`, and none with fewer than `min_ratings` ratings by training users, is recommended; with
        `exclude_seen` none of the history. After a history without a known book, recent popularity ranks.

        Raises:
            TypeError: something is no id, or no list of ids.
            ValueError: k is not in 1..num_books.
            UserError: a score is not finite.

        """
        ids = [require_ids(history) for history in _require_lists(histories)]
        found = [self.model.books.indices_of(history) for history in ids]
        known = [[index for index in indices if index is not None] for indices in found]
        unknown = [
            [id_ for id_, index in zip(*each, strict=True) if index is None] for each in zip(ids, found, strict=True)
        ]
        barred = self.barred(exclude, min_ratings)
        rankers: list[Ranker] = [self.ranker if history else "recent popularity" for history in known]
        answers: list[Answer | None] = [None] * len(ids)
        for ranker in set(rankers):
            rows = [row for row, each in enumerate(rankers) if each == ranker]
            scorer = self.scorer if ranker == self.ranker else self._recent_popularity
            best = self._best(scorer, _as_sequences([known[row] for row in rows]), k, exclude_seen, barred)
            for row, books, scores in zip(rows, *best, strict=True):
                answers[row] = Answer(self.listed(books, scores), unknown[row], ranker)
        return [answer for answer in answers if answer is not None]

    def recommend_indices(
        self,
        histories: Sequences | Sequence[Sequence[int]],
        k: int,
        *,
        exclude_seen: bool = True,
        barred: np.ndarray | None = None,
    ) -> Recommendations:
        """Return the `k` books with the highest scores after each history, which lists book_idx, oldest first.

        `evaluate` ranks by the same scores. `barred` (num_books + 1,) bool marks books not to recommend.

        Raises:
            TypeError: a history holds something other than a whole number.
            ValueError: k is not in 1..num_books, or a history holds a book that is not.
            UserError: a score is not finite.

        """
        given = histories if isinstance(histories, Sequences) else _as_sequences(histories)
        read = given.items[: given.offsets[-1]]
        if len(read) and not 1 <= read.min() <= read.max() <= self.num_books:
            raise ValueError(f"a history holds a book that is not in 1..{self.num_books}")
        return self._best(self.scorer, given, k, exclude_seen, barred)

    @torch.inference_mode()
    def similar(self, book_id: str, k: int = 10) -> Similar:
        """Return the `k` books nearest to a book.

        Raises:
            TypeError: it is no id.
            ValueError: k is not in 1..num_books.
            UserError: the model does not know the book.

        """
        self._require_k(k)
        (id_,) = require_ids([book_id])
        (book,) = self.model.books.indices_of([id_])
        if book is None:
            raise UserError(f"book {id_}: is not among the {self.num_books} books of the model")
        embedding = F.normalize(self.model.network.item_embedding.weight, dim=1)  # (num_books + 1, hidden_units)
        cosines = embedding @ embedding[book]
        cosines[[0, book]] = -torch.inf
        nearest = cosines.topk(min(k, self.num_books - 1))
        books, weights = self.model.transitions.after(book)
        others = books != book
        books, weights = books[others], weights[others]
        first = np.argsort(-weights, kind="stable")[:k]
        by_embedding = self.listed(nearest.indices.cpu().numpy(), nearest.values.cpu().numpy())
        return Similar(by_embedding, self.listed(books[first], weights[first]))

    @property
    def ranker(self) -> Ranker:
        """What ranks after a known history: whatever was better on the validation users."""
        return "network" if self.model.hybrid == HybridWeights() else "hybrid"

    @property
    def description(self) -> str:
        """What ranks, in words."""
        weights = {
            "the item transitions": self.model.hybrid.transitions,
            "the linear autoencoder": self.model.hybrid.autoencoder,
        }
        added = [f"with weight {weight:g}, {name}" for name, weight in weights.items() if weight]
        return " and, ".join(["the network", *added]) if added else "the network alone"

    @property
    def scorer(self) -> Scorer:
        """The scorer that ranks."""
        by_network = model_scorer.by_model(self.model.network, padding=self.model.padding)
        return hybrid.by_all(by_network, self.model.network, self.model.transitions, self.model.hybrid)

    @property
    def num_books(self) -> int:
        """The number of books in the catalogue."""
        return self.model.num_books

    def barred(self, exclude: Collection[str], min_ratings: int) -> np.ndarray:
        """Return which books are not to be recommended, (num_books + 1,) bool; unknown ids bar nothing."""
        barred = self.model.ratings < min_ratings
        barred[[index for index in self.model.books.indices_of(require_ids(exclude)) if index is not None]] = True
        return barred

    def listed(self, books: np.ndarray, scores: np.ndarray) -> list[Recommended]:
        """Return the books with ids, titles and ratings, up to the first book 0."""
        number = np.count_nonzero(books)
        books, ids = books[:number], self.model.books.ids_of(books[:number]).to_pylist()
        columns = zip(ids, scores[:number].tolist(), self.model.ratings[books].tolist(), strict=True)
        return [
            Recommended(rank, id_, round(score, DECIMALS), self.titles.get(id_), ratings)
            for rank, (id_, score, ratings) in enumerate(columns, start=1)
        ]

    def _recent_popularity(self, _histories: Sequences) -> Scores:
        counts = torch.from_numpy(self.model.recent_ratings.astype(np.float32))
        return lambda users: counts.expand(len(users), -1).clone()

    def _require_k(self, k: int) -> None:
        if not 1 <= k <= self.num_books:
            raise ValueError(f"k is {k}, not in 1..{self.num_books}, the number of books")

    @torch.inference_mode()
    def _best(
        self, scorer: Scorer, histories: Sequences, k: int, exclude_seen: bool, barred: np.ndarray | None
    ) -> Recommendations:
        self._require_k(k)
        score = scorer(histories)
        books = np.zeros((len(histories), k), dtype=np.int64)
        scores = np.zeros((len(histories), k), dtype=np.float32)
        at_a_time = users_at_a_time(self.model.network.item_embedding.weight.device)
        for start in range(0, len(histories), at_a_time):
            users = np.arange(start, min(start + at_a_time, len(histories)))
            all_scores = score(users)  # (batch, num_books + 1)
            all_scores[:, 0] = -torch.inf
            if barred is not None:
                all_scores[:, torch.from_numpy(barred)] = -torch.inf
            if exclude_seen:
                all_scores[_read_books(histories, users)] = -torch.inf
            best = all_scores.topk(k)  # (batch, k)
            scores[users], books[users] = best.values.cpu().numpy(), best.indices.cpu().numpy()
        if not (scores < np.inf).all():  # topk ranks NaN first, so it shows here
            raise UserError(f"{model_folder.WEIGHTS}: a score is not finite; lower train.lr and train again")
        books[scores == -np.inf] = 0
        return Recommendations(books, scores)


def require_ids(ids: Collection[str]) -> list[str]:
    """Return the ids; raise TypeError if one is no text."""
    for each in ids:
        if not isinstance(each, str):
            raise TypeError(
                f'{each!r} is no id: ids are text, such as "18245960"; recommend_indices takes numbers, book_idx'
            )
    return list(ids)


def _require_lists(histories: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    if isinstance(histories, str) or any(isinstance(history, str) for history in histories):
        raise TypeError('histories are lists of ids, one list a user: [["18245960", "16981"]]')
    return histories


def _as_sequences(histories: Sequence[Sequence[int]]) -> Sequences:
    for book in (book for books in histories for book in books):
        if not isinstance(book, int | np.integer) or isinstance(book, bool):
            raise TypeError(f"{book!r} is no book_idx, which is a whole number; `recommend` takes the dump's ids")
    offsets = np.cumsum([0, *map(len, histories)])
    items = [book for books in histories for book in books] or [0]  # last_books reads an item even if there is none
    return Sequences(np.array(items, dtype=np.int32), offsets)


def _read_books(histories: Sequences, users: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of the scores of consecutive `users` that belong to books they have read."""
    first, last = histories.offsets[users[0]], histories.offsets[users[-1] + 1]
    rows = np.repeat(np.arange(len(users)), histories.lengths[users[0] : users[-1] + 1])
    return torch.from_numpy(rows), torch.from_numpy(histories.items[first:last]).long()
