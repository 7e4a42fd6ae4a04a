"""Finds books by their titles and ids."""

import unicodedata
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.serving.model_folder import Model

MAX_HITS = 30
MAX_WORDS = 10  # of a query; more are ignored, so that the time is bounded


class Index:
    """The titles and ids of a model's books, without case and accents, the most rated first."""

    def __init__(self, model: Model, titles: Mapping[str, str]) -> None:
        self._books = np.argsort(-model.ratings[1:], kind="stable") + 1  # (num_books,) int64: book_idx
        self._ids = model.books.ids_of(self._books)
        self._texts = pa.array([folded(f"{id_} {titles.get(id_, '')}") for id_ in self._ids.to_pylist()])

    def find(self, query: str) -> np.ndarray:
        """Return the books that hold every word of `query`, the one with that very id first, (hits,) int64."""
        matches = np.ones(len(self._books), dtype=bool)
        for word in folded(query).split()[:MAX_WORDS]:
            matches &= pc.match_substring(self._texts, word).to_numpy(zero_copy_only=False)
        is_id = pc.equal(self._ids, query.strip()).to_numpy(zero_copy_only=False)
        hits = np.concatenate([np.flatnonzero(is_id), np.flatnonzero(matches & ~is_id)])
        return self._books[hits[:MAX_HITS]]


def folded(text: str) -> str:
    """Return `text` without case and accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))
