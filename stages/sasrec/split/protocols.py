"""Splits each user's books into those that train the model, select it and evaluate it."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sasrec.core.errors import UserError
from sasrec.split import negatives
from sasrec.split.datasets import HeldOut, TrainingSet
from sasrec.split.params import EvaluationParams, SplitParams
from sasrec.split.sequences import Sequences, without_last

EPOCH = datetime.date(1970, 1, 1)
NUM_VALIDATION_NEGATIVES = 100  # a constant, so that changing evaluation.num_item_sample does not change training


@dataclass(frozen=True)
class Split:
    """The training set and the two held-out sets."""

    train: TrainingSet
    validation: HeldOut
    evaluation: HeldOut
    left_out: np.ndarray  # user_idx of the users who left too few books unread to be evaluated


@dataclass(frozen=True)
class Candidates:
    """The users a protocol chooses from, and how many it chooses."""

    histories: Sequences  # of every user
    days: np.ndarray  # (total,) int32: the day each of histories.items was read, counted from 1970-01-01
    can_evaluate: np.ndarray  # (all users,) bool: enough unread books for the evaluation's negatives
    can_validate: np.ndarray  # (all users,) bool: enough unread books for the validation's negatives
    params: SplitParams
    num_evaluation: int | None  # None: every eligible user
    evaluation_rng: np.random.Generator
    validation_rng: np.random.Generator


@dataclass(frozen=True)
class Roles:
    """Which users train, validate and evaluate, as user_idx, and how many of each user's last books are hidden."""

    training: np.ndarray
    validation: np.ndarray  # training users; the first book hidden from training selects the model
    evaluation: np.ndarray  # the first book hidden from the evaluation history is the true one
    hidden_from_training: np.ndarray  # (all users,) int64
    hidden_from_evaluation: np.ndarray  # (all users,) int64


def split(
    histories: Sequences, days: np.ndarray, num_books: int, params: SplitParams, evaluation_params: EvaluationParams
) -> Split:
    """Return the split that `params.protocol` makes; `days` (total,) says when each of histories.items was read.

    Raises:
        UserError: too few users can be evaluated, or none can validate.

    """
    # One random stream for each draw, so that resizing one sample does not change the others.
    streams = [np.random.default_rng([params.seed, stream]) for stream in range(4)]
    evaluation_rng, validation_rng, evaluation_negatives_rng, validation_negatives_rng = streams
    num_item_sample = evaluation_params.num_item_sample
    unread = negatives.unread_books(histories, num_books)
    # At least half of the users can validate: no single user decides for all how many negatives there are.
    num_negatives = min(NUM_VALIDATION_NEGATIVES, int(np.median(unread.counts)))
    can_evaluate, can_validate = unread.counts >= num_item_sample, unread.counts >= max(1, num_negatives)
    _require_unread(unread, can_evaluate, can_validate, num_item_sample)
    if not (can_validate & (histories.lengths >= 3)).any():
        raise UserError(
            "no user who left books unread has 3 books, two to train on and one to validate; take more data"
        )
    samples = evaluation_params.num_user_sample, evaluation_rng, validation_rng
    candidates = Candidates(histories, days, can_evaluate, can_validate, params, *samples)
    roles = PROTOCOLS[params.protocol](candidates)
    hidden, hidden_at_last = roles.hidden_from_training, roles.hidden_from_evaluation
    train, train_days = (
        without_last(Sequences(values, histories.offsets), roles.training, hidden[roles.training])
        for values in (histories.items, days)
    )
    return Split(
        TrainingSet(train, train_days.items.astype(np.int32), len(histories), num_books),
        _held_out(histories, roles.validation, hidden, unread, num_negatives, validation_negatives_rng),
        _held_out(histories, roles.evaluation, hidden_at_last, unread, num_item_sample, evaluation_negatives_rng),
        np.flatnonzero(~can_evaluate),
    )


def holdout_users(candidates: Candidates) -> Roles:
    """Evaluate users who do not train; each user's last book is the true one.

    For a sample of training users, the last book is held back for validation.
    """
    candidates.params.require_number_of_users(candidates.num_evaluation)
    lengths = candidates.histories.lengths
    evaluable = np.flatnonzero(candidates.can_evaluate & (lengths >= 2))
    evaluation = _sample(evaluable, candidates.num_evaluation, candidates.evaluation_rng)
    training = np.setdiff1d(np.arange(len(lengths)), evaluation)
    # Without the held-back book, a pair must remain to train on.
    eligible = training[candidates.can_validate[training] & (lengths[training] >= 3)]
    if len(eligible) == 0:
        raise UserError(
            f"params.yaml: evaluation.num_user_sample is {candidates.num_evaluation}, which leaves no training user "
            f"with 3 books among {len(lengths)} users; lower it"
        )
    validation = _sample_validation(eligible, candidates)
    hidden = np.zeros(len(lengths), dtype=np.int64)
    hidden[validation] = 1
    return Roles(training, validation, evaluation, hidden, np.ones_like(hidden))


def leave_one_out(candidates: Candidates) -> Roles:
    """Train on all but each user's last two books (Kang & McAuley 2018, section IV).

    The last book is the true one; the book before it validates.
    """
    lengths = candidates.histories.lengths
    is_long = lengths >= 3  # as in the authors' code, shorter histories only train
    evaluable = np.flatnonzero(candidates.can_evaluate & is_long)
    eligible = np.flatnonzero(candidates.can_validate & is_long)
    if len(evaluable) == 0:
        raise UserError(
            "params.yaml: evaluation.num_item_sample is more than what any user with 3 books left unread; lower it"
        )
    evaluation = _sample(evaluable, candidates.num_evaluation, candidates.evaluation_rng)
    validation = _sample_validation(eligible, candidates)
    hidden = np.where(is_long, 2, 0)
    return Roles(np.arange(len(lengths)), validation, evaluation, hidden, np.ones_like(hidden))


def temporal(candidates: Candidates) -> Roles:
    """Train on books read up to the cutoff; each user's first book after it is the true one.

    For a sample of users, the last book up to the cutoff is held back for validation.
    """
    histories, days, cutoff = candidates.histories, candidates.days, candidates.params.cutoff
    last_day = np.quantile(days, 0.9, method="inverted_cdf") if cutoff is None else (cutoff - EPOCH).days
    num_after = np.add.reduceat(days > last_day, histories.offsets[:-1], dtype=np.int64)
    num_before = histories.lengths - num_after
    evaluable = np.flatnonzero(candidates.can_evaluate & (num_before >= 1) & (num_after >= 1))
    # Without the held-back book, a pair must remain to train on.
    eligible = np.flatnonzero(candidates.can_validate & (num_before >= 3))
    if len(evaluable) == 0 or len(eligible) == 0:
        said, other = (
            (f"null, which takes {_date(last_day)}", "choose another split.protocol")
            if cutoff is None
            else (str(cutoff), "null")
        )
        raise UserError(
            f"params.yaml: split.cutoff is {said}, but the ratings are from {_date(days.min())} to "
            f"{_date(days.max())}; give a day with books of one user on both sides, and 3 of a user up to it, or "
            f"{other}"
        )
    evaluation = _sample(evaluable, candidates.num_evaluation, candidates.evaluation_rng)
    validation = _sample_validation(eligible, candidates)
    hidden = num_after.copy()
    hidden[validation] += 1
    return Roles(np.arange(len(histories)), validation, evaluation, hidden, num_after)


PROTOCOLS: Mapping[str, Callable[[Candidates], Roles]] = {
    "holdout_users": holdout_users,
    "leave_one_out": leave_one_out,
    "temporal": temporal,
}
"""The protocols by their names in split.protocol."""


def _require_unread(
    unread: negatives.UnreadBooks, can_evaluate: np.ndarray, can_validate: np.ndarray, num_item_sample: int
) -> None:
    """Raise UserError where no user left enough books unread."""
    if not can_evaluate.any():
        raise UserError(
            f"params.yaml: evaluation.num_item_sample is {num_item_sample}, but no user left more than "
            f"{unread.counts.max()} of {unread.num_books} books unread; lower it"
        )
    if not can_validate.any():
        raise UserError("the users read every book, so that none is left to rank against; take more data")


def _date(day: int) -> datetime.date:
    return EPOCH + datetime.timedelta(int(day))


def _sample(users: np.ndarray, number: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return `number` users (None: all), drawn without replacement, ascending; raise UserError for too few users."""
    number = len(users) if number is None else number
    if number > len(users):
        raise UserError(
            f"params.yaml: evaluation.num_user_sample is {number}, but only {len(users)} users can be evaluated; "
            "lower it, or evaluation.num_item_sample, or filter_reindex.min_ratings"
        )
    return np.sort(rng.choice(users, size=number, replace=False))


def _sample_validation(users: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Return the users who validate: as many as the params say, or all where there are fewer."""
    return _sample(users, min(candidates.params.num_validation_users, len(users)), candidates.validation_rng)


def _held_out(
    histories: Sequences,
    users: np.ndarray,
    num_hidden: np.ndarray,
    unread: negatives.UnreadBooks,
    num_negatives: int,
    rng: np.random.Generator,
) -> HeldOut:
    """Return the task of ranking each user's first hidden book."""
    true_books = histories.items[histories.offsets[users + 1] - num_hidden[users]]
    inputs = without_last(histories, users, num_hidden[users])
    drawn = negatives.draw_distinct(unread, users, num_negatives, rng)
    return HeldOut(users.astype(np.int32), inputs, true_books, drawn)
