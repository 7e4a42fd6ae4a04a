"""What a held-out reader's next book can be ranked by."""

import numpy as np
import torch
from torch import Tensor

from sasrec.holdout import TrainingSet
from sasrec.model import Sasrec
from sasrec.packing import pack
from sasrec.ranking import Scorer
from sasrec.sequences import Sequences, last_books
from sasrec.transitions import Transitions

RECENT_SHARE = 0.1  # of the training ratings: the latest


def by_model(model: Sasrec, *, padding: bool = True) -> Scorer:
    """Return the scorer that gives each book its logit after the reader's latest max_len books.

    With `padding` the last book has the last position, as in training. Without, the first book has the first position,
    as in the notebook: a short history then meets positions that training never gave it.
    """
    items = model.item_embedding.weight
    max_len = model.params.max_len

    @torch.inference_mode()
    def score(histories: Sequences, readers: np.ndarray) -> Tensor:
        latest = last_books(histories, readers, max_len)
        lengths = np.maximum((latest != 0).sum(1), 1)  # an empty history is one place of padding
        layout = pack(lengths, max_len)
        grid = layout.spread(latest[np.arange(max_len) >= max_len - lengths[:, None]])
        shift = 0 if padding else (max_len - lengths)[layout.segments]
        columns = (grid, layout.spread(layout.positions - shift), layout.spread(layout.segments + 1))
        history, positions, segments = (column.to(items.device) for column in columns)
        features = model.encode(model.item_embedding(history), positions, segments)
        last = torch.from_numpy(layout.places[layout.begins + lengths - 1]).to(items.device)
        return features.flatten(0, 1)[last] @ items.T

    return score


def by_popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that gives each book the number of times that training readers read it."""
    return _same_for_all(np.bincount(train.histories.items, minlength=train.num_books + 1))


def by_recent_popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that counts only the latest tenth of the training ratings, whole days."""
    first_day = np.quantile(train.days, 1 - RECENT_SHARE, method="higher")
    recent = train.histories.items[train.days >= first_day]
    return _same_for_all(np.bincount(recent, minlength=train.num_books + 1))


def by_transitions(train: TrainingSet) -> Scorer:
    """Return the scorer that counts which books training readers read soon after the reader's latest ones.

    Popularity breaks ties.
    """
    transitions = Transitions(train.histories, train.num_books)
    popularity = np.bincount(train.histories.items, minlength=train.num_books + 1)
    tie_breaker = 1e-9 * popularity / popularity.max()  # below any difference that counts make

    def score(histories: Sequences, readers: np.ndarray) -> Tensor:
        ends = histories.offsets[readers + 1]
        starts = histories.offsets[readers]
        scores = [transitions.score(histories.items[a:b]) for a, b in zip(starts, ends, strict=True)]
        return torch.from_numpy(np.stack(scores) + tie_breaker)

    return score


def _same_for_all(counts: np.ndarray) -> Scorer:
    scores = torch.from_numpy(counts.astype(np.float32))  # exact below 2 ** 24 readings of one book

    def score(histories: Sequences, readers: np.ndarray) -> Tensor:
        return scores.expand(len(readers), -1)

    return score
