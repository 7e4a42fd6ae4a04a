"""What a held-out reader's next book can be ranked by."""

import numpy as np
import torch
from torch import Tensor

from sasrec.holdout import TrainingSet
from sasrec.model import Sasrec
from sasrec.packing import pack
from sasrec.ranking import Scorer
from sasrec.sequences import Sequences, last_books


def by_model(model: Sasrec) -> Scorer:
    """Return the scorer that gives each book its logit after the reader's latest max_len books."""
    items = model.item_embedding.weight
    max_len = model.params.max_len

    @torch.inference_mode()
    def score(histories: Sequences, readers: np.ndarray) -> Tensor:
        latest = last_books(histories, readers, max_len)
        lengths = np.maximum((latest != 0).sum(1), 1)  # an empty history is one place of padding
        layout = pack(lengths, max_len)
        grid = layout.spread(latest[np.arange(max_len) >= max_len - lengths[:, None]])
        columns = (grid, layout.spread(layout.positions), layout.spread(layout.segments + 1))
        history, positions, segments = (column.to(items.device) for column in columns)
        features = model.encode(model.item_embedding(history), positions, segments)
        last = torch.from_numpy(layout.places[layout.begins + lengths - 1]).to(items.device)
        return features.flatten(0, 1)[last] @ items.T

    return score


def by_popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that gives each book the number of times that training readers read it."""
    counts = np.bincount(train.histories.items, minlength=train.num_books + 1)
    popularity = torch.from_numpy(counts.astype(np.float32))  # exact below 2 ** 24 readings of one book

    def score(histories: Sequences, readers: np.ndarray) -> Tensor:
        return popularity.expand(len(readers), -1)

    return score
