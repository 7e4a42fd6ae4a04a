"""What a held-out reader's next book can be ranked by."""

import numpy as np
import torch
from torch import Tensor

from sasrec.holdout import TrainingSet
from sasrec.model import Sasrec, predict
from sasrec.ranking import Scorer
from sasrec.sequences import Sequences, last_books


def by_model(model: Sasrec) -> Scorer:
    """Return the scorer that gives each book its logit after the reader's latest max_len books."""
    device = model.item_embedding.weight.device

    @torch.inference_mode()
    def score(histories: Sequences, readers: np.ndarray) -> Tensor:
        history = torch.from_numpy(last_books(histories, readers, model.params.max_len).astype(np.int64))
        return predict(model, history.to(device))

    return score


def by_popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that gives each book the number of times that training readers read it."""
    counts = np.bincount(train.histories.items, minlength=train.num_books + 1)
    popularity = torch.from_numpy(counts.astype(np.float32))  # exact below 2 ** 24 readings of one book

    def score(histories: Sequences, readers: np.ndarray) -> Tensor:
        return popularity.expand(len(readers), -1)

    return score
