"""SASRec of this project, through the functions that train_gpu and recommend.py call."""

import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import work

sys.path.insert(0, str(Path(__file__).parent.parent))

import measure
from sasrec.evaluation import baselines
from sasrec.model.sasrec import HybridWeights, Sasrec
from sasrec.runtime import device
from sasrec.serving.model_folder import Model
from sasrec.serving.recommender import Recommender
from sasrec.serving.vocabulary import Vocabulary
from sasrec.split.datasets import TrainingSet
from sasrec.split.sequences import Sequences
from sasrec.training import loop, step


class Data(NamedTuple):
    """A training set, and the file for the checkpoints."""

    train: TrainingSet
    checkpoint: Path


def prepare(histories: work.Histories, folder: Path) -> Data:
    """Return the training set."""
    sequences = Sequences(histories.items, histories.offsets)
    days = np.zeros(len(histories.items), np.int32)
    return Data(TrainingSet(sequences, days, len(sequences), histories.num_items), folder / "checkpoint")


def fit(data: Data, num_epochs: int, loss: str) -> work.Recommend:
    """Train without validation, as the other libraries do here."""
    changes = measure.LOSSES.get(loss, {"loss": loss})
    sasrec, train_params = measure.params(**changes, batch_size=work.BATCH_SIZE, lr=work.LEARNING_RATE)
    sizes = {"max_len": work.MAX_LEN, "hidden_units": work.WIDTH, "num_layers": work.BLOCKS, "num_heads": work.HEADS}
    sasrec = msgspec.structs.replace(sasrec, **sizes, dropout_rate=work.DROPOUT)
    where = device.use("cpu", num_threads=1)
    state = step.start(data.train, train_params, sasrec, where)
    take_step = loop.step_function(state, data.train)
    num_steps = num_epochs * (data.train.num_users // train_params.batch_size)
    loop.train_epoch(state, take_step, num_steps, data.checkpoint)
    recommender = Recommender(as_model(state.model, data.train))
    return lambda: recommender.recommend_indices(data.train.histories, work.K).books


def as_model(network: Sasrec, train: TrainingSet) -> Model:
    """Return the network as a model that ranks alone, as the other libraries' do."""
    ids = Vocabulary(pa.array(np.arange(1, train.num_books + 1)).cast(pa.string()), 1)
    ratings = baselines.counts(train)
    return Model(network, HybridWeights(), True, ids, ratings, ratings, train.transitions)
