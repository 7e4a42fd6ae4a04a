"""What params.yaml says about training."""

from typing import Annotated, Literal

import msgspec

from sasrec.params import Count, Seed
from sasrec.reproducibility import Mode

Precision = Literal["float32", "bfloat16"]


class TrainParams(msgspec.Struct, frozen=True, kw_only=True):
    """Section `train` of params.yaml."""

    loss: Literal["bce", "gbce", "sampled_softmax", "softmax"]
    num_negatives: Count  # a positive (bce, gbce) or a batch (sampled_softmax); softmax takes none
    negatives: Literal["uniform", "in_batch"]  # in_batch: other places' positives, for sampled_softmax
    gbce_t: Annotated[float, msgspec.Meta(ge=0, le=1)]  # calibration of gbce; 0 is bce
    window: Literal["last", "random"]  # the latest max_len books of a history, or any max_len in a row
    lr: Annotated[float, msgspec.Meta(gt=0, le=1)]  # Adam's, at its highest
    warmup_steps: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]  # while lr rises from 0
    schedule: Literal["constant", "cosine"]  # of lr after that; cosine falls to 0 at the last step
    weight_decay: Annotated[float, msgspec.Meta(ge=0, le=100)]  # decoupled, as AdamW's
    clip_norm: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None  # the largest norm of a gradient; null: any
    batch_size: Count  # readers a step
    num_epochs: Count
    keep: Literal["best", "last"]  # the epoch whose weights are kept; best by validation NDCG@10
    patience: Count | None  # epochs without a better one before training stops
    seed: Seed  # initial weights, batches, negatives and dropout
    device: Literal["auto", "cuda", "mps", "cpu"]
    num_threads: Annotated[int, msgspec.Meta(ge=1, le=1024)]  # of all processes on the CPU; part of the result's bits
    processes: Annotated[int, msgspec.Meta(ge=1, le=1024)]  # that share each batch; part of the result's bits
    reproducibility: Mode  # portable: the same bits on every x86-64 CPU with AVX2; fast: on this machine
    precision: Precision  # of the matrix products; bfloat16 by autocast, for GPUs

    def __post_init__(self) -> None:
        if self.negatives == "in_batch" and self.loss != "sampled_softmax":
            raise ValueError(
                f"train.negatives is in_batch, which train.loss {self.loss} cannot take; set train.loss to "
                "sampled_softmax, or train.negatives to uniform"
            )
        if self.loss == "softmax" and self.num_negatives > 1:
            raise ValueError(
                f"train.num_negatives is {self.num_negatives}, but train.loss softmax takes none: it has all books; "
                "set it to 1, or train.loss to sampled_softmax"
            )
