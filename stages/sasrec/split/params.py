"""The sections `split` and `evaluation` of params.yaml."""

import datetime
from typing import Annotated, Literal

import msgspec

from sasrec.core.errors import UserError
from sasrec.core.params import Count, Seed, about


class SplitParams(msgspec.Struct, frozen=True):
    """Section `split` of params.yaml."""

    protocol: Annotated[
        Literal["holdout_users", "leave_one_out", "temporal"],
        about(
            "`holdout_users`: the evaluation users do not train, and each one's last book is the true one · "
            "`leave_one_out`: every user trains, the last book is the true one, and the one before it validates (the "
            "SASRec paper's) · `temporal`: books read up to a day train, and a user's first book after it is the true "
            "one"
        ),
    ]
    cutoff: Annotated[
        datetime.date | None,
        msgspec.Meta(extra={"allowed": 'give a day in quotes, such as "2016-12-31", or null'}),
        about(
            'last day that trains, of protocol `temporal`, as `"2016-12-31"`; null: 90 % of the ratings are made by it'
        ),
    ]
    seed: Annotated[Seed, about("draws the evaluation users and all negatives")]
    num_validation_users: Annotated[Count, about("training users, at most, whose held-back book measures each epoch")]

    def require_number_of_users(self, num_user_sample: int | None) -> None:
        """Raise UserError if the protocol needs a number of evaluation users and there is none."""
        if self.protocol == "holdout_users" and num_user_sample is None:
            raise UserError(
                "params.yaml: evaluation.num_user_sample is null, which split.protocol holdout_users cannot take; give "
                "the number of users to hold out"
            )


class EvaluationParams(msgspec.Struct, frozen=True):
    """Section `evaluation` of params.yaml."""

    num_user_sample: Annotated[Count | None, about("users evaluated; null: all (not with `holdout_users`)")]
    num_item_sample: Annotated[Count, about("books ranked against the true one, which the user never reviewed")]
    k: Annotated[
        Count | Annotated[list[Count], msgspec.Meta(min_length=1)],
        msgspec.Meta(extra={"allowed": "give a whole number from 1, or a list of them"}),
        about("cutoff of the metrics, such as HR@k; of several, the first is that of tables, plots and the model card"),
    ]
    padding: Annotated[
        bool,
        about(
            "true: a short history's last book has the last position, as in training · false: its first book has the "
            "first position, as in the notebook"
        ),
    ]

    def __post_init__(self) -> None:
        if max(self.cutoffs) > self.num_item_sample + 1:
            raise ValueError(
                f"evaluation.k is {self.k}, but only {self.num_item_sample + 1} books are ranked, so that HR@k would "
                "be 1; lower it, or raise evaluation.num_item_sample"
            )

    @property
    def cutoffs(self) -> list[int]:
        """The cutoffs in `k`."""
        return [self.k] if isinstance(self.k, int) else self.k
