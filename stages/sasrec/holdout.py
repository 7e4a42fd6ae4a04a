"""Decides which books train the model, which one selects it and which one judges it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from safetensors.numpy import load_file, save_file

from sasrec import negatives
from sasrec.errors import UserError
from sasrec.sequences import Sequences, without_last

NUM_VALIDATION_NEGATIVES = 100  # no param: changing the evaluation's lists must not change what is trained


class SplitParams(msgspec.Struct, frozen=True):
    """Section `split` of params.yaml."""

    protocol: Literal["holdout_users", "leave_one_out"]
    seed: Annotated[int, msgspec.Meta(ge=0)]  # draws the evaluation readers and all negatives
    num_validation_users: Annotated[int, msgspec.Meta(ge=1)]  # training readers with a held-back book, at most


class EvaluationParams(msgspec.Struct, frozen=True):
    """Section `evaluation` of params.yaml."""

    num_user_sample: Annotated[int, msgspec.Meta(ge=1)] | None  # readers evaluated; null: all (leave_one_out)
    num_item_sample: Annotated[int, msgspec.Meta(ge=1)]  # negatives ranked against the true book
    k: Annotated[int, msgspec.Meta(ge=1)]  # cutoff of HR@k and NDCG@k


@dataclass(frozen=True)
class TrainingSet:
    """What the model may learn from."""

    histories: Sequences
    num_readers: int  # of the data set, evaluation readers included: sets the steps of an epoch
    num_books: int


@dataclass(frozen=True)
class HeldOut:
    """A ranking task: for every reader, find the true book among the negatives, given the history before it."""

    users: np.ndarray  # (readers,) int32, user_idx
    histories: Sequences
    true_books: np.ndarray  # (readers,) int32
    negatives: np.ndarray  # (readers, negatives) int32, books that the reader never read


@dataclass(frozen=True)
class Split:
    """The three parts of the data."""

    train: TrainingSet
    validation: HeldOut
    evaluation: HeldOut


@dataclass(frozen=True)
class _Roles:
    """What each reader is for; arrays of user_idx, but for the last."""

    training: np.ndarray
    validation: np.ndarray  # training readers whose held-back book selects the model
    evaluation: np.ndarray  # readers whose last book judges it
    num_hidden: np.ndarray  # (all readers,) int64: books at the end of each one that training does not see


class _Sizes(NamedTuple):
    """How many readers each sample takes; None: all who can be evaluated."""

    evaluation: int | None
    validation: int


class _Choose(NamedTuple):
    """What draws each sample."""

    evaluation: np.random.Generator
    validation: np.random.Generator


def split(sequences: Sequences, num_books: int, params: SplitParams, evaluation: EvaluationParams) -> Split:
    """Divide the readers' books by `params.protocol`.

    holdout_users: the evaluation readers do not train; each one's last book is the true one. A sample of the training
    readers has its last book held back for validation. leave_one_out: every reader trains on all but its last two
    books; the last is the true one and the one before it validates (Kang & McAuley 2018, section IV).

    Raises:
        UserError: too few readers, or a reader with fewer unread books than `evaluation.num_item_sample`.

    """
    # One stream a decision, so that changing the size of one sample leaves the others as they were.
    streams = [np.random.default_rng([params.seed, stream]) for stream in range(4)]
    choose = _Choose(*streams[:2])
    draw_evaluation, draw_validation = streams[2:]
    assign = {"holdout_users": _holdout_users, "leave_one_out": _leave_one_out}[params.protocol]
    roles = assign(sequences.lengths, _Sizes(evaluation.num_user_sample, params.num_validation_users), choose)

    unread = negatives.unread_books(sequences, num_books)
    num_negatives = min(NUM_VALIDATION_NEGATIVES, int(unread.counts[roles.validation].min()))
    hidden = roles.num_hidden
    train = without_last(sequences, roles.training, hidden[roles.training])
    last = np.ones_like(hidden)
    return Split(
        TrainingSet(train, len(sequences), num_books),
        _held_out(sequences, roles.validation, hidden, unread, num_negatives, draw_validation),
        _held_out(sequences, roles.evaluation, last, unread, evaluation.num_item_sample, draw_evaluation),
    )


def _holdout_users(lengths: np.ndarray, sizes: _Sizes, choose: _Choose) -> _Roles:
    if sizes.evaluation is None:
        raise UserError(
            "params.yaml: evaluation.num_user_sample is null, which only split.protocol leave_one_out can take; "
            "give the number of readers to hold out"
        )
    evaluation = _sample(np.flatnonzero(lengths >= 2), sizes.evaluation, choose.evaluation)
    training = np.setdiff1d(np.arange(len(lengths)), evaluation)
    eligible = training[lengths[training] >= 3]  # a history for validation must leave a pair to train on
    if len(eligible) == 0:
        raise UserError(
            f"params.yaml: evaluation.num_user_sample is {sizes.evaluation}, which leaves no training reader with "
            f"3 books among {len(lengths)} readers; lower it"
        )
    validation = _sample(eligible, min(sizes.validation, len(eligible)), choose.validation)
    num_hidden = np.zeros(len(lengths), dtype=np.int64)
    num_hidden[validation] = 1
    return _Roles(training, validation, evaluation, num_hidden)


def _leave_one_out(lengths: np.ndarray, sizes: _Sizes, choose: _Choose) -> _Roles:
    eligible = np.flatnonzero(lengths >= 3)  # shorter histories only train, as in the authors' code
    if len(eligible) == 0:
        raise UserError("data/processed/interactions.parquet: no reader has 3 books, which leave_one_out needs")
    evaluation = _sample(eligible, len(eligible) if sizes.evaluation is None else sizes.evaluation, choose.evaluation)
    validation = _sample(eligible, min(sizes.validation, len(eligible)), choose.validation)
    num_hidden = np.where(lengths >= 3, 2, 0)
    return _Roles(np.arange(len(lengths)), validation, evaluation, num_hidden)


def _sample(readers: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return `number` of `readers`, drawn without replacement, in ascending order."""
    if number > len(readers):
        raise UserError(
            f"params.yaml: evaluation.num_user_sample is {number}, but only {len(readers)} readers can be evaluated; "
            "lower it, or lower filter_reindex.min_ratings"
        )
    return np.sort(rng.choice(readers, size=number, replace=False))


def _held_out(
    sequences: Sequences,
    users: np.ndarray,
    num_hidden: np.ndarray,
    unread: negatives.UnreadBooks,
    num_negatives: int,
    rng: np.random.Generator,
) -> HeldOut:
    """Return the task of ranking each reader's first hidden book, given the books before it."""
    few = np.flatnonzero(unread.counts[users] < num_negatives)
    if len(few):
        raise UserError(
            f"params.yaml: evaluation.num_item_sample is {num_negatives}, but reader {users[few[0]]} left only "
            f"{unread.counts[users[few[0]]]} of {unread.num_books} books unread; lower it"
        )
    true_books = sequences.items[sequences.offsets[users + 1] - num_hidden[users]]
    histories = without_last(sequences, users, num_hidden[users])
    drawn = negatives.draw_distinct(unread, users, num_negatives, rng)
    return HeldOut(users.astype(np.int32), histories, true_books, drawn)


def save_training_set(path: Path, train: TrainingSet) -> None:
    """Write `train` as safetensors: items, offsets, num_readers, num_books."""
    sizes = {"num_readers": np.array(train.num_readers), "num_books": np.array(train.num_books)}
    save_file({"items": train.histories.items, "offsets": train.histories.offsets, **sizes}, path)


def load_training_set(path: Path) -> TrainingSet:
    """Return what `save_training_set` wrote."""
    tensors = load_file(path)
    histories = Sequences(tensors["items"], tensors["offsets"])
    return TrainingSet(histories, int(tensors["num_readers"]), int(tensors["num_books"]))


def save_held_out(path: Path, held_out: HeldOut) -> None:
    """Write `held_out` as safetensors: users, items, offsets, true_books, negatives."""
    tensors = {
        "users": held_out.users,
        "items": held_out.histories.items,
        "offsets": held_out.histories.offsets,
        "true_books": held_out.true_books,
        "negatives": held_out.negatives,
    }
    save_file(tensors, path)


def load_held_out(path: Path) -> HeldOut:
    """Return what `save_held_out` wrote."""
    tensors = load_file(path)
    histories = Sequences(tensors["items"], tensors["offsets"])
    return HeldOut(tensors["users"], histories, tensors["true_books"], tensors["negatives"])
