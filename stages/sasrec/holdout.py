"""Decides which books train the model, which one selects it and which one judges it."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from safetensors.numpy import save

from sasrec import digests, inputs, negatives
from sasrec.errors import UserError
from sasrec.params import Count, Seed
from sasrec.sequences import Sequences, without_last

EPOCH = datetime.date(1970, 1, 1)
TRAINING_SET = {
    "items": "int32 1",
    "offsets": "int64 1",
    "days": "int32 1",
    "num_readers": "int64 0",
    "num_books": "int64 0",
}
HELD_OUT = {
    "users": "int32 1",
    "items": "int32 1",
    "offsets": "int64 1",
    "true_books": "int32 1",
    "negatives": "int32 2",
}
NUM_VALIDATION_NEGATIVES = 100  # no param: changing the evaluation's lists must not change what is trained


class SplitParams(msgspec.Struct, frozen=True):
    """Section `split` of params.yaml."""

    protocol: Literal["holdout_users", "leave_one_out", "temporal"]
    cutoff: datetime.date | None  # of temporal: the last day that trains; null: when 90 % of the ratings are made
    seed: Seed  # draws the evaluation readers and all negatives
    num_validation_users: Count  # training readers with a held-back book, at most


class EvaluationParams(msgspec.Struct, frozen=True):
    """Section `evaluation` of params.yaml."""

    num_user_sample: Count | None  # readers evaluated; null: all (leave_one_out)
    num_item_sample: Count  # negatives ranked against the true book
    k: Count  # cutoff of HR@k and NDCG@k
    padding: bool  # a short history's last book has the position that it had in training; false: the notebook's

    def __post_init__(self) -> None:
        if self.k > self.num_item_sample + 1:
            raise ValueError(
                f"evaluation.k is {self.k}, but only {self.num_item_sample + 1} books are ranked, so that HR@k would "
                "be 1; lower it, or raise evaluation.num_item_sample"
            )


@dataclass(frozen=True)
class TrainingSet:
    """What the model may learn from."""

    histories: Sequences
    days: np.ndarray  # of histories.items: when each was read, (total,) int32, days since 1970
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
    """What each reader is for: three arrays of user_idx, and two that say how many of its last books are hidden."""

    training: np.ndarray
    validation: np.ndarray  # training readers whose first book hidden from training selects the model
    evaluation: np.ndarray  # readers whose first book hidden from their evaluation history judges it
    hidden_from_training: np.ndarray  # (all readers,) int64
    hidden_from_evaluation: np.ndarray  # (all readers,) int64


class _Sizes(NamedTuple):
    """How many readers each sample takes; None: all who can be evaluated."""

    evaluation: int | None
    validation: int


class _Choose(NamedTuple):
    """What draws each sample."""

    evaluation: np.random.Generator
    validation: np.random.Generator


def split(
    sequences: Sequences, days: np.ndarray, num_books: int, params: SplitParams, evaluation: EvaluationParams
) -> Split:
    """Divide the readers' books, read on `days` (of sequences.items), by `params.protocol`.

    holdout_users: the evaluation readers do not train; each one's last book is the true one. A sample of the training
    readers has its last book held back for validation. leave_one_out: every reader trains on all but its last two
    books; the last is the true one and the one before it validates (Kang & McAuley 2018, section IV). temporal: what
    was read after the cutoff does not train; a reader's first book after it is the true one, and a sample of the
    readers has its last book up to it held back for validation.

    Raises:
        UserError: too few readers, or a reader with fewer unread books than `evaluation.num_item_sample`.

    """
    # One stream a decision, so that changing the size of one sample leaves the others as they were.
    streams = [np.random.default_rng([params.seed, stream]) for stream in range(4)]
    choose = _Choose(*streams[:2])
    draw_evaluation, draw_validation = streams[2:]
    sizes = _Sizes(evaluation.num_user_sample, params.num_validation_users)
    assign: dict[str, Callable[[], _Roles]] = {
        "holdout_users": lambda: _holdout_users(sequences.lengths, sizes, choose),
        "leave_one_out": lambda: _leave_one_out(sequences.lengths, sizes, choose),
        "temporal": lambda: _temporal(sequences, days, params.cutoff, sizes, choose),
    }
    roles = assign[params.protocol]()

    unread = negatives.unread_books(sequences, num_books)
    num_negatives = min(NUM_VALIDATION_NEGATIVES, int(unread.counts[roles.validation].min()))
    hidden = roles.hidden_from_training
    train, train_days = (
        without_last(Sequences(values, sequences.offsets), roles.training, hidden[roles.training])
        for values in (sequences.items, days)
    )
    return Split(
        TrainingSet(train, train_days.items.astype(np.int32), len(sequences), num_books),
        _held_out(sequences, roles.validation, hidden, unread, num_negatives, draw_validation),
        _held_out(
            sequences,
            roles.evaluation,
            roles.hidden_from_evaluation,
            unread,
            evaluation.num_item_sample,
            draw_evaluation,
        ),
    )


def _holdout_users(lengths: np.ndarray, sizes: _Sizes, choose: _Choose) -> _Roles:
    if sizes.evaluation is None:
        raise UserError(
            "params.yaml: evaluation.num_user_sample is null, which split.protocol holdout_users cannot take; give the "
            "number of readers to hold out"
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
    hidden = np.zeros(len(lengths), dtype=np.int64)
    hidden[validation] = 1
    return _Roles(training, validation, evaluation, hidden, np.ones_like(hidden))


def _leave_one_out(lengths: np.ndarray, sizes: _Sizes, choose: _Choose) -> _Roles:
    eligible = np.flatnonzero(lengths >= 3)  # shorter histories only train, as in the authors' code
    if len(eligible) == 0:
        raise UserError("data/processed/interactions.parquet: no reader has 3 books, which leave_one_out needs")
    evaluation = _sample(eligible, len(eligible) if sizes.evaluation is None else sizes.evaluation, choose.evaluation)
    validation = _sample(eligible, min(sizes.validation, len(eligible)), choose.validation)
    hidden = np.where(lengths >= 3, 2, 0)
    return _Roles(np.arange(len(lengths)), validation, evaluation, hidden, np.ones_like(hidden))


def _temporal(
    sequences: Sequences, days: np.ndarray, cutoff: datetime.date | None, sizes: _Sizes, choose: _Choose
) -> _Roles:
    last_day = np.quantile(days, 0.9, method="inverted_cdf") if cutoff is None else (cutoff - EPOCH).days
    num_after = np.add.reduceat(days > last_day, sequences.offsets[:-1], dtype=np.int64)
    num_before = sequences.lengths - num_after
    eligible = np.flatnonzero((num_before >= 1) & (num_after >= 1))
    can_validate = np.flatnonzero(num_before >= 3)  # a history for validation must leave a pair to train on
    if len(eligible) == 0 or len(can_validate) == 0:
        raise UserError(
            f"params.yaml: split.cutoff is {EPOCH + datetime.timedelta(int(last_day))}, but the ratings are from "
            f"{EPOCH + datetime.timedelta(int(days.min()))} to {EPOCH + datetime.timedelta(int(days.max()))}; give a "
            "day that has readers with books on both sides, or null"
        )
    evaluation = _sample(eligible, len(eligible) if sizes.evaluation is None else sizes.evaluation, choose.evaluation)
    validation = _sample(can_validate, min(sizes.validation, len(can_validate)), choose.validation)
    hidden = num_after.copy()
    hidden[validation] += 1
    return _Roles(np.arange(len(sequences)), validation, evaluation, hidden, num_after)


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
    """Write `train` as safetensors: items, offsets, days, num_readers, num_books."""
    tensors = {
        "items": train.histories.items,
        "offsets": train.histories.offsets,
        "days": train.days,
        "num_readers": np.array(train.num_readers),
        "num_books": np.array(train.num_books),
    }
    _write(path, tensors)


def load_training_set(path: Path) -> TrainingSet:
    """Return what `save_training_set` wrote.

    Raises:
        UserError: the file is damaged, or holds what no training set can.

    """
    tensors = inputs.read_tensors(path, TRAINING_SET)
    histories = Sequences(tensors["items"], tensors["offsets"])
    train = TrainingSet(histories, tensors["days"], int(tensors["num_readers"]), int(tensors["num_books"]))
    with inputs.reading(path):
        _check_histories(histories, train.num_books)
        if len(train.days) != len(histories.items) or train.num_readers < len(histories):
            raise ValueError("its days or readers are not those of its histories")
    return train


def save_held_out(path: Path, held_out: HeldOut) -> None:
    """Write `held_out` as safetensors: users, items, offsets, true_books, negatives."""
    tensors = {
        "users": held_out.users,
        "items": held_out.histories.items,
        "offsets": held_out.histories.offsets,
        "true_books": held_out.true_books,
        "negatives": held_out.negatives,
    }
    _write(path, tensors)


def load_held_out(path: Path, train: TrainingSet) -> HeldOut:
    """Return what `save_held_out` wrote, of the readers and books that `train` is of.

    Raises:
        UserError: the file is damaged, or holds what no task of these readers and books can.

    """
    tensors = inputs.read_tensors(path, HELD_OUT)
    users, true_books, drawn = (tensors[name] for name in ("users", "true_books", "negatives"))
    histories = Sequences(tensors["items"], tensors["offsets"])
    with inputs.reading(path):
        _check_histories(histories, train.num_books)
        if not len(users) == len(histories) == len(true_books) == len(drawn) > 0:
            raise ValueError("its tensors are of different numbers of readers, or of none")
        if np.diff(users, prepend=-1).min() <= 0 or users[-1] >= train.num_readers:
            raise ValueError(f"its readers do not ascend from 0 to {train.num_readers - 1}")
        _check_books(true_books, train.num_books)
        _check_books(drawn, train.num_books)
        if (drawn == true_books[:, None]).any():
            raise ValueError("a true book is among its negatives")
    return HeldOut(users, histories, true_books, drawn)


def _write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    # Not save_file: it writes to a file of another name, which a killed run would leave.
    path.write_bytes(digests.fill(save(tensors, metadata=digests.METADATA)))


def _check_histories(histories: Sequences, num_books: int) -> None:
    offsets = histories.offsets
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(histories.items) or (np.diff(offsets) < 0).any():
        raise ValueError("its offsets do not ascend from 0 to the number of its items")
    _check_books(histories.items, num_books)


def _check_books(books: np.ndarray, num_books: int) -> None:
    if books.size and not 1 <= books.min() <= books.max() <= num_books:
        raise ValueError(f"a book is not in 1..{num_books}")
