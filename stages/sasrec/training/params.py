"""The section `train` of params.yaml, which is checked without PyTorch."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from sasrec.core.errors import UserError
from sasrec.core.params import Count, Seed, about, one_of
from sasrec.runtime.reproducibility import Mode

Precision = Literal["float32", "bfloat16"]
Negatives = Literal["own", "shared", "catalogue"]
LOSSES: Mapping[str, Negatives] = {
    "bce": "own",
    "gbce": "own",
    "sampled_softmax": "shared",
    "softmax": "catalogue",
}
"""The losses, each with its negatives: each position's own, those that all positions share, or the whole catalogue."""
MOST_OWN_NEGATIVES = 256  # gSASRec's most: each position embeds its own


class TrainParams(msgspec.Struct, frozen=True, kw_only=True):
    """Section `train` of params.yaml."""

    loss: Annotated[
        str,
        one_of(LOSSES),
        about(
            "`bce`: binary cross-entropy (the paper's) · `gbce`: gSASRec's, calibrated for the sampling · "
            "`sampled_softmax`: the true book among negatives that the batch shares · `softmax`: among all books"
        ),
    ]
    num_negatives: Annotated[
        Count,
        about(
            "per positive (`bce`, `gbce`: at most 256) or per batch (`sampled_softmax`: every book once, if there are "
            "no more); 1 for `softmax`, which takes none"
        ),
    ]
    negatives: Annotated[
        Literal["uniform", "in_batch"],
        about(
            "shared negatives of `sampled_softmax`: `uniform`: over all books · `in_batch`: other positions' true "
            "books, corrected for their popularity"
        ),
    ]
    gbce_t: Annotated[float, msgspec.Meta(ge=0, le=1), about("calibration of `gbce`: 0 is `bce`, 1 is full")]
    window: Annotated[
        Literal["last", "random"],
        about("`last`: the latest `max_len` books of a user · `random`: any `max_len` in a row"),
    ]
    lr: Annotated[float, msgspec.Meta(gt=0, le=1), about("AdamW's learning rate, at its highest")]
    warmup_steps: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1), about("steps while the rate rises from 0")]
    schedule: Annotated[
        Literal["constant", "cosine"], about("of the rate after that; `cosine` falls to 0 at the last step")
    ]
    weight_decay: Annotated[float, msgspec.Meta(ge=0, le=100), about("AdamW's decoupled decay")]
    clip_norm: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None, about("largest norm of a gradient; null: any")
    ]
    batch_size: Annotated[Count, about("users a step, of all processes together")]
    num_epochs: Annotated[Count, about("an epoch is (number of users, evaluation ones included) // `batch_size` steps")]
    keep: Annotated[Literal["best", "last"], about("the epoch whose weights are kept; `best` by `train.select`")]
    select: Annotated[
        Literal["full", "sampled"],
        about(
            "the ranking whose validation NDCG@10 chooses the epoch: `full`: among all books, as users see it · "
            "`sampled`: among 100 unread ones"
        ),
    ]
    patience: Annotated[Count | None, about("epochs without a better one before training stops; null: none stops it")]
    seed: Annotated[Seed, about("draws weights, batches, negatives and dropout")]
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"], about("`auto`: cuda where there is one, else mps, else cpu")
    ]
    processes: Annotated[
        int,
        msgspec.Meta(ge=1, le=1024),
        about("processes that divide each batch, one per GPU where there are GPUs ([more](scaling.md))"),
    ]
    reproducibility: Annotated[
        Mode,
        about(
            "`portable`: the same bits on every x86-64 CPU with AVX2 · `fast`: the same bits on the same machine "
            "([more](reproducibility.md))"
        ),
    ]
    precision: Annotated[Precision, about("of the matrix products; `bfloat16` by autocast, for GPUs")]

    def __post_init__(self) -> None:
        kind = LOSSES[self.loss]
        if self.negatives == "in_batch" and kind != "shared":
            raise ValueError(
                f"train.negatives is in_batch, which train.loss {self.loss} cannot take; set train.loss to "
                "sampled_softmax, or train.negatives to uniform"
            )
        if kind == "own" and self.num_negatives > MOST_OWN_NEGATIVES:
            raise ValueError(
                f"train.num_negatives is {self.num_negatives}, which train.loss {self.loss} would draw for each "
                f"positive; set it to {MOST_OWN_NEGATIVES} or less (the paper's bce has 1), or train.loss to "
                "sampled_softmax"
            )
        if kind == "catalogue" and self.num_negatives > 1:
            raise ValueError(
                f"train.num_negatives is {self.num_negatives}, but train.loss {self.loss} takes none: it has all "
                "books; set it to 1, or train.loss to sampled_softmax"
            )

    def require_steps(self, num_users: int) -> None:
        """Raise UserError if an epoch over `num_users` users has no step."""
        if self.batch_size > num_users:
            raise UserError(
                f"params.yaml: train.batch_size is {self.batch_size}, more than the {num_users} users, so that an "
                "epoch has no step; lower it"
            )
