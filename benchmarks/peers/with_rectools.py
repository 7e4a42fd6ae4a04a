"""SASRec of RecTools (rectools[torch]), by its own fit and recommend."""

from pathlib import Path

import numpy as np
import pandas as pd
import work
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

LOSSES = {"bce": "BCE", "sampled_softmax": "sampled_softmax", "softmax": "softmax"}


def prepare(histories: work.Histories, folder: Path) -> pd.DataFrame:
    """Return the interactions as a table; an item's time is its place."""
    columns = {
        Columns.User: histories.users,
        Columns.Item: histories.items,
        Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(np.arange(len(histories.items)), unit="s"),
    }
    return pd.DataFrame(columns)


def fit(data: pd.DataFrame, num_epochs: int, loss: str) -> work.Recommend:
    """Train; the sampled losses draw negatives for each position from all items."""
    dataset = Dataset.construct(data)
    model = SASRecModel(
        n_blocks=work.BLOCKS,
        n_heads=work.HEADS,
        n_factors=work.WIDTH,
        dropout_rate=work.DROPOUT,
        session_max_len=work.MAX_LEN,
        batch_size=work.BATCH_SIZE,
        recommend_batch_size=work.RANK_BATCH_SIZE,
        lr=work.LEARNING_RATE,
        loss=LOSSES[loss],
        n_negatives=work.NUM_NEGATIVES if loss == "sampled_softmax" else 1,
        epochs=num_epochs,
    )
    model.fit(dataset)

    def recommend() -> np.ndarray:
        users = data[Columns.User].unique()
        found = model.recommend(users, dataset, k=work.K, filter_viewed=True)
        return found[Columns.Item].to_numpy().reshape(len(users), work.K)

    return recommend
