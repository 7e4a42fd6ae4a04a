"""SASRec of RePlay (replay-rec), by its default transforms and Lightning."""

from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import work
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import TorchTopItemsCallback
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.loss import BCESampled, CESampled
from replay.nn.sequential import SasRec
from replay.nn.transform import UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_sasrec_transforms

SAMPLED = {"bce": (BCESampled, 1), "sampled_softmax": (CESampled, work.NUM_NEGATIVES)}
"""The sampled losses, and how many negatives each draws for the whole batch."""


class Data(NamedTuple):
    """A file with a row for each user, the longest history and the number of items, which count from 0."""

    path: str
    longest: int
    num_items: int


def prepare(histories: work.Histories, folder: Path) -> Data:
    """Write the histories, once to learn from and once to leave out of the recommendations."""
    items = pa.ListArray.from_arrays(histories.offsets.astype(np.int32), histories.items.astype(np.int64) - 1)
    path = folder / "histories.parquet"
    pq.write_table(pa.table({"user_id": np.arange(len(items)), "item_id": items, "seen_ids": items}), path)
    return Data(str(path), int(np.diff(histories.offsets).max()), histories.num_items)


def schema_of(data: Data) -> TensorSchema:
    """Return the schema with the item as the only feature."""
    item = TensorFeatureInfo(
        "item_id",
        is_seq=True,
        feature_type=FeatureType.CATEGORICAL,
        embedding_dim=work.WIDTH,
        padding_value=data.num_items,
        cardinality=data.num_items,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
    )
    return TensorSchema([item])


def model_of(schema: TensorSchema, loss: str) -> SasRec:
    """Return the model, whose default loss is the softmax over all items."""
    model = SasRec.from_params(schema, work.WIDTH, work.HEADS, work.BLOCKS, work.MAX_LEN, work.DROPOUT)
    if loss in SAMPLED:
        model.loss = SAMPLED[loss][0]()
        model.loss.logits_callback = model.get_logits
    return model


def transforms_of(schema: TensorSchema, data: Data, loss: str) -> dict[str, list[Any]]:
    """Return the default transforms, and for a sampled loss the one that draws."""
    transforms = make_default_sasrec_transforms(schema)
    if loss in SAMPLED:
        transforms["train"].append(UniformNegativeSamplingTransform(data.num_items, SAMPLED[loss][1]))
    return transforms


def train(model: SasRec, transforms: dict[str, list[Any]], data: Data, num_epochs: int) -> work.Recommend:
    """Train the model; return its recommendations."""
    padding = {"padding": data.num_items}
    seen = {"shape": data.longest, **padding}
    module = ParquetModule(
        batch_size={"train": work.BATCH_SIZE, "predict": work.RANK_BATCH_SIZE},
        metadata={
            "train": {"item_id": {"shape": work.MAX_LEN + 1, **padding}},
            "predict": {"user_id": {}, "item_id": {"shape": work.MAX_LEN, **padding}, "seen_ids": seen},
        },
        transforms={stage: transforms[stage] for stage in ("train", "predict")},
        train_path=data.path,
        predict_path=data.path,
    )
    best = TorchTopItemsCallback(work.K, "user_id", postprocessors=[SeenItemsFilter(data.num_items)])
    trainer = lightning.Trainer(
        max_epochs=num_epochs,
        accelerator="cpu",
        limit_val_batches=0,
        callbacks=[best],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    learner = LightningModule(model, OptimizerFactory(learning_rate=work.LEARNING_RATE))
    trainer.fit(learner, module)

    def recommend() -> np.ndarray:
        trainer.predict(learner, module, return_predictions=False)
        users, items, _ = best.get_result()
        return items.numpy()[users.argsort().numpy()] + 1

    return recommend


def fit(data: Data, num_epochs: int, loss: str) -> work.Recommend:
    """Train on rows of MAX_LEN positions."""
    schema = schema_of(data)
    return train(model_of(schema, loss), transforms_of(schema, data, loss), data, num_epochs)
