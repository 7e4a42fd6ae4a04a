import datetime
import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import as_lists, sequences

from sasrec.core.errors import UserError
from sasrec.split import datasets, protocols
from sasrec.split.params import EvaluationParams, SplitParams
from sasrec.split.protocols import Split
from sasrec.split.sequences import Sequences
from sasrec.training.sampling import BatchSpec, PackedSampler

NUM_BOOKS = 300


def made_up_users(number: int = 60, shortest: int = 4) -> Sequences:
    rng = np.random.default_rng(1)
    return sequences(*(rng.integers(1, NUM_BOOKS + 1, size=rng.integers(shortest, 40)) for _ in range(number)))


def split(
    given: Sequences,
    protocol: str = "holdout_users",
    users: int | None = 20,
    items: int = 100,
    seed: int = 0,
    days: np.ndarray | None = None,
    cutoff: datetime.date | None = None,
) -> Split:
    """Books are read on the day that is their place in the history, if no days are given."""
    if days is None:
        days = np.arange(len(given.items)) - np.repeat(given.offsets[:-1], given.lengths)
    params = SplitParams(protocol, cutoff, seed, num_validation_users=15)
    return protocols.split(given, days, NUM_BOOKS, params, EvaluationParams(users, items, k=10, padding=True))


def test_evaluation_users_are_judged_by_their_last_book_and_never_train() -> None:
    given = made_up_users()
    parts = split(given)
    books = as_lists(given)
    users = parts.evaluation.users.tolist()
    assert len(set(users)) == 20
    assert parts.evaluation.true_books.tolist() == [books[user][-1] for user in users]
    assert as_lists(parts.evaluation.histories) == [books[user][:-1] for user in users]
    others = [user for user in range(60) if user not in users]
    held_back = parts.validation.users.tolist()
    assert as_lists(parts.train.histories) == [books[u][:-1] if u in held_back else books[u] for u in others]


def test_the_validation_book_is_the_last_of_a_training_user() -> None:
    given = made_up_users()
    parts = split(given)
    books = as_lists(given)
    users = parts.validation.users.tolist()
    assert len(set(users)) == 15
    assert not set(users) & set(parts.evaluation.users.tolist())
    assert parts.validation.true_books.tolist() == [books[user][-1] for user in users]
    assert as_lists(parts.validation.histories) == [books[user][:-1] for user in users]


def test_leave_one_out_tests_on_the_last_book_and_validates_on_the_one_before() -> None:
    given = made_up_users()
    parts = split(given, "leave_one_out", users=None)
    books = as_lists(given)
    assert as_lists(parts.train.histories) == [each[:-2] for each in books]
    assert parts.evaluation.users.tolist() == list(range(60))
    assert parts.evaluation.true_books.tolist() == [each[-1] for each in books]
    assert as_lists(parts.evaluation.histories) == [each[:-1] for each in books]
    validated = parts.validation.users
    assert parts.validation.true_books.tolist() == [books[user][-2] for user in validated]
    assert as_lists(parts.validation.histories) == [books[user][:-2] for user in validated]


def test_leave_one_out_trains_on_all_of_a_user_with_two_books() -> None:
    parts = split(sequences([1, 2], [3, 4, 5]), "leave_one_out", users=None)
    assert as_lists(parts.train.histories) == [[1, 2], [3]]
    assert parts.evaluation.users.tolist() == [1]


def test_temporal_trains_up_to_the_cutoff_and_judges_by_the_first_book_after_it() -> None:
    given = made_up_users()
    books = as_lists(given)
    parts = split(given, "temporal", users=None, cutoff=datetime.date(1970, 1, 11))  # eleven days, eleven places
    judged = [user for user in range(60) if len(books[user]) > 11]
    assert parts.evaluation.users.tolist() == judged
    assert parts.evaluation.true_books.tolist() == [books[user][11] for user in judged]
    assert as_lists(parts.evaluation.histories) == [books[user][:11] for user in judged]
    held_back = parts.validation.users.tolist()
    assert len(held_back) == 15
    assert parts.validation.true_books.tolist() == [books[user][:11][-1] for user in held_back]
    before = [books[user][:11][: -1 if user in held_back else None] for user in range(60)]
    assert as_lists(parts.train.histories) == before
    assert parts.train.days.max() <= 10


def test_the_cutoff_is_by_default_the_day_by_which_nine_tenths_were_read() -> None:
    given = sequences(range(1, 21), range(21, 41))
    parts = split(given, "temporal", users=None, days=np.tile(np.arange(20), 2))
    assert parts.evaluation.true_books.tolist() == [19, 39]  # 18 of 20 days are before it


def test_a_cutoff_outside_the_data_is_named() -> None:
    with pytest.raises(UserError, match=r"split.cutoff is 2020-01-01, but the ratings are from 1970-01-01 to 1970-"):
        split(made_up_users(), "temporal", cutoff=datetime.date(2020, 1, 1))


@pytest.mark.parametrize("window", ["last", "random"])
@pytest.mark.parametrize("protocol", ["holdout_users", "leave_one_out", "temporal"])
def test_no_book_that_validates_or_judges_ever_enters_training(protocol: str, window: str) -> None:
    lengths = np.random.default_rng(2).integers(4, 12, size=25)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    given = Sequences(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets)  # every reading is a book of its own
    parts = split(given, protocol, users=8)
    sampler = PackedSampler(parts.train, BatchSpec(200, 0, 5, window))
    batches = [sampler.draw(np.random.default_rng(seed)) for seed in range(20)]
    seen = {book for batch in batches for part in (batch.history, batch.positives) for book in part.flatten().tolist()}
    held_out = {*parts.validation.true_books.tolist(), *parts.evaluation.true_books.tolist()}
    assert len(held_out) > 15
    assert len(seen) > 50
    assert not seen & held_out


@pytest.mark.parametrize("protocol", ["holdout_users", "leave_one_out", "temporal"])
def test_negatives_are_distinct_and_never_read_by_their_user(protocol: str) -> None:
    given = made_up_users()
    books = as_lists(given)
    for held_out in (split(given, protocol).evaluation, split(given, protocol).validation):
        for user, negatives in zip(held_out.users, held_out.negatives.tolist(), strict=True):
            assert len(set(negatives)) == 100
            assert not set(negatives) & set(books[user])
            assert min(negatives) >= 1
            assert max(negatives) <= NUM_BOOKS


def test_the_seed_chooses_the_users_and_the_same_seed_the_same_ones() -> None:
    given = made_up_users()
    first, again, other = split(given), split(given), split(given, seed=1)
    assert np.array_equal(first.evaluation.negatives, again.evaluation.negatives)
    assert not np.array_equal(first.evaluation.users, other.evaluation.users)


def test_another_number_of_negatives_changes_neither_training_nor_validation() -> None:
    given = made_up_users()
    few, many = split(given, items=10), split(given, items=200)
    assert np.array_equal(few.evaluation.users, many.evaluation.users)
    assert np.array_equal(few.train.histories.items, many.train.histories.items)
    assert np.array_equal(few.validation.negatives, many.validation.negatives)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": 61}, "evaluation.num_user_sample is 61, but only 60 users can be evaluated"),
        ({"users": 60}, "evaluation.num_user_sample is 60, which leaves no training user"),
        ({"users": None}, "evaluation.num_user_sample is null, which split.protocol holdout_users cannot take"),
        ({"items": 299}, r"evaluation.num_item_sample is 299, but no user left more than \d+ of 300 books unread"),
        ({"protocol": "leave_one_out", "users": 61}, "only 60 users can be evaluated"),
    ],
)
def test_a_sample_that_the_data_cannot_give_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(made_up_users(), **arguments)


@pytest.mark.parametrize("protocol", ["holdout_users", "leave_one_out", "temporal"])
@pytest.mark.parametrize("num_unread", [0, 2])
def test_a_user_who_read_nearly_every_book_is_left_out_and_changes_nobodys_negatives(
    protocol: str, num_unread: int
) -> None:
    given = sequences(*as_lists(made_up_users()), range(1 + num_unread, NUM_BOOKS + 1))
    cutoff = datetime.date(1970, 1, 11) if protocol == "temporal" else None
    parts = split(given, protocol, users=20 if protocol == "holdout_users" else None, cutoff=cutoff)
    assert parts.left_out.tolist() == [60]
    assert 60 not in {*parts.evaluation.users.tolist(), *parts.validation.users.tolist()}
    assert parts.validation.negatives.shape[1] == 100


def test_a_catalogue_of_fewer_books_than_negatives_validates_with_those_that_most_users_left_unread() -> None:
    given = sequences(*([a, b, c] for a, b, c in itertools.permutations(range(1, 9), 3)))
    params = SplitParams("holdout_users", None, 0, 15), EvaluationParams(20, 5, k=5, padding=True)
    parts = protocols.split(given, np.zeros(len(given.items)), 8, *params)
    assert parts.validation.negatives.shape[1] == 5


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    parts = split(made_up_users())
    datasets.save_training_set(tmp_path / "train", parts.train)
    datasets.save_held_out(tmp_path / "test", parts.evaluation)
    train = datasets.load_training_set(tmp_path / "train")
    test = datasets.load_held_out(tmp_path / "test", train)
    assert (train.num_users, train.num_books) == (60, NUM_BOOKS)
    assert np.array_equal(train.days, parts.train.days)
    assert as_lists(train.histories) == as_lists(parts.train.histories)
    assert as_lists(test.histories) == as_lists(parts.evaluation.histories)
    for name in ("users", "true_books", "negatives"):
        assert np.array_equal(getattr(test, name), getattr(parts.evaluation, name))


@pytest.mark.parametrize("protocol", ["holdout_users", "leave_one_out", "temporal"])
def test_users_with_two_books_alone_are_refused_without_advice_that_cannot_help(protocol: str) -> None:
    with pytest.raises(UserError, match=r"has 3 books, two to train on and one to validate; take more data$"):
        split(sequences(*([book, book + 1] for book in range(1, 60))), protocol)


def test_the_default_cutoff_that_divides_nobodys_books_is_told_from_one_that_was_given() -> None:
    given = made_up_users()
    with pytest.raises(UserError, match=r"null, which takes 1970-01-01, .* or choose another split.protocol$"):
        split(given, "temporal", days=np.zeros(len(given.items), int))


def test_readers_of_nearly_all_books_are_told_from_short_histories() -> None:
    given = sequences(*([range(1, NUM_BOOKS - 9)] * 9), *([[book] for book in range(1, 6)]))
    with pytest.raises(UserError, match=r"num_item_sample is more than what any user with 3 books left unread"):
        split(given, "leave_one_out")
