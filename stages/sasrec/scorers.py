"""What a held-out reader's next book can be ranked by."""

import numpy as np
import torch
from torch import Tensor

from sasrec import products
from sasrec.holdout import TrainingSet
from sasrec.model import Sasrec
from sasrec.processes import ALONE, Share
from sasrec.ranking import Scorer, Scores, readers_at_a_time
from sasrec.sequences import Sequences, last_books
from sasrec.transitions import Transitions

READERS_PER_BATCH = 128  # on the CPU: attention weights of 50 places each are 1.3 MB, which stay in the cache
RECENT_SHARE = 0.1  # of the training ratings: the latest


def by_model(model: Sasrec, share: Share = ALONE, *, padding: bool = True) -> Scorer:
    """Return the scorer that gives each book its logit after the reader's latest max_len books.

    Several processes divide the histories.

    With `padding` the last book has the last position, as in training. Without, the first book has the first position,
    as in the notebook: a short history then meets positions that training never gave it.
    """

    def score(histories: Sequences) -> Scores:
        features = features_after(model, histories, share, padding=padding)

        @torch.inference_mode()
        def of_readers(readers: np.ndarray) -> Tensor:
            of_batch = features[torch.from_numpy(readers).to(features.device)]
            return products.linear(model.item_embedding.weight, of_batch).T

        return of_readers

    return score


@torch.inference_mode()
def features_after(model: Sasrec, histories: Sequences, share: Share = ALONE, *, padding: bool = True) -> Tensor:
    """Return the features of what comes after each history, (len(histories), hidden_units), on the model's device.

    Histories of about the same length are computed together, so that little is spent on padding. An empty history is
    one place of padding. Several processes divide the batches; adding zeros to what another one computed
    changes no value.
    """
    device = model.item_embedding.weight.device
    max_len = model.params.max_len
    lengths = np.clip(histories.lengths, 1, max_len)
    features = torch.zeros(len(histories), model.params.hidden_units, device=device)
    by_length = np.argsort(lengths, kind="stable")
    at_a_time = readers_at_a_time(device, READERS_PER_BATCH)
    batches = np.split(by_length, range(at_a_time, len(by_length), at_a_time))
    for readers in share.every(batches):
        length = lengths[readers[-1]]
        history = torch.from_numpy(last_books(histories, readers, length)).to(device)  # (batch, length)
        positions = torch.arange(max_len - length, max_len, device=device).expand_as(history)
        if not padding:
            shift = torch.from_numpy(max_len - lengths[readers]).to(device)
            positions = (positions - shift[:, None]).clamp(min=0)
        features[torch.from_numpy(readers).to(device)] = model.encode_last(history, positions)
    return share.sum(features)


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

    def score(histories: Sequences) -> Scores:
        def of_readers(readers: np.ndarray) -> Tensor:
            ends = histories.offsets[readers + 1]
            starts = histories.offsets[readers]
            scores = [transitions.score(histories.items[a:b]) for a, b in zip(starts, ends, strict=True)]
            return torch.from_numpy(np.stack(scores) + tie_breaker)

        return of_readers

    return score


def _same_for_all(counts: np.ndarray) -> Scorer:
    scores = torch.from_numpy(counts.astype(np.float32))  # exact below 2 ** 24 readings of one book
    return lambda _histories: lambda readers: scores.expand(len(readers), -1)
