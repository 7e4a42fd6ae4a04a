"""SASRec of this project, through the functions that train_gpu and recommend.py call."""

import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from work import BATCH_SIZE, BLOCKS, DROPOUT, HEADS, LEARNING_RATE, MAX_LEN, WIDTH, Histories, K, Recommend

sys.path.insert(0, str(Path(__file__).parent.parent))

import measure
from sasrec.runtime import device
from sasrec.serving.recommender import Recommender
from sasrec.split.datasets import TrainingSet
from sasrec.split.sequences import Sequences
from sasrec.training import loop, step


class Data(NamedTuple):
    """A training set, and the file for the checkpoints."""

    train: TrainingSet
    checkpoint: Path


def prepare(histories: Histories, folder: Path) -> Data:
    """Return the training set."""
    sequences = Sequences(histories.items, histories.offsets)
    days = np.zeros(len(histories.items), np.int32)
    return Data(TrainingSet(sequences, days, len(sequences), histories.num_items), folder / "checkpoint")


def fit(data: Data, num_epochs: int, loss: str) -> Recommend:
    """Train without validation, as the other libraries do here."""
    sasrec, train_params = measure.params(loss=loss, batch_size=BATCH_SIZE, lr=LEARNING_RATE, num_threads=1)
    sizes = {"max_len": MAX_LEN, "hidden_units": WIDTH, "num_layers": BLOCKS, "num_heads": HEADS}
    sasrec = msgspec.structs.replace(sasrec, **sizes, dropout_rate=DROPOUT)
    where = device.use("cpu", train_params.num_threads)
    state = step.start(data.train, train_params, sasrec, where)
    take_step = loop.step_function(state, data.train)
    num_steps = num_epochs * (data.train.num_users // train_params.batch_size)
    loop.train_epoch(state, take_step, num_steps, data.checkpoint)
    recommender = Recommender(state.model)
    return lambda: recommender.recommend(data.train.histories, K).books
