"""The held-out users of the pipeline's data set, to look at what the model recommends them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sasrec.evaluation.ranking import Ranks
from sasrec.serving.vocabulary import Vocabulary
from sasrec.split.sequences import Sequences


@dataclass(frozen=True)
class Readers:
    """The held-out users; `evaluate` ranked each one's true book."""

    users: Vocabulary  # indexed from 0, like the other fields
    histories: Sequences  # of book_idx, without the true book
    true_books: np.ndarray  # (users,) int32: book_idx
    ranks: Mapping[str, Ranks]  # by ranker
