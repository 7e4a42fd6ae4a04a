"""The training set and the held-out sets, which `split` writes and later stages read.

Each is a safetensors file with a digest of its content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from sasrec.io import digests
from sasrec.io.files import naming_damage
from sasrec.split import transitions
from sasrec.split.sequences import Sequences
from sasrec.split.transitions import Transitions

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


@dataclass(frozen=True)
class TrainingSet:
    """The histories that the model trains on."""

    histories: Sequences
    days: np.ndarray  # (total,) int32: the day each of histories.items was read, counted from 1970-01-01
    num_users: int  # all users of the data set, even those who do not train: sets the steps of an epoch
    num_books: int

    @cached_property
    def transitions(self) -> Transitions:
        """Which books follow which in `histories`; counted once, on first use."""
        return transitions.count(self.histories, self.num_books)


@dataclass(frozen=True)
class HeldOut:
    """A ranking task: given each user's history, rank the true next book among negatives."""

    users: np.ndarray  # (users,) int32: user_idx, ascending
    histories: Sequences
    true_books: np.ndarray  # (users,) int32
    negatives: np.ndarray  # (users, num_negatives) int32: books that the user never read


def save_training_set(path: Path, train: TrainingSet) -> None:
    """Write `train` as safetensors, with the tensors that TRAINING_SET names."""
    tensors = {
        "items": train.histories.items,
        "offsets": train.histories.offsets,
        "days": train.days,
        "num_readers": np.array(train.num_users),
        "num_books": np.array(train.num_books),
    }
    _write(path, tensors)


def load_training_set(path: Path) -> TrainingSet:
    """Return the training set that `save_training_set` wrote.

    Raises:
        UserError: the file is damaged, or its content is not a valid training set.

    """
    tensors = _read(path, TRAINING_SET)
    histories = Sequences(tensors["items"], tensors["offsets"])
    train = TrainingSet(histories, tensors["days"], int(tensors["num_readers"]), int(tensors["num_books"]))
    with naming_damage(path):
        _check_histories(histories, train.num_books)
        if len(train.days) != len(histories.items) or train.num_users < len(histories):
            raise ValueError("its days or users are not those of its histories")
    return train


def save_held_out(path: Path, held_out: HeldOut) -> None:
    """Write `held_out` as safetensors, with the tensors that HELD_OUT names."""
    tensors = {
        "users": held_out.users,
        "items": held_out.histories.items,
        "offsets": held_out.histories.offsets,
        "true_books": held_out.true_books,
        "negatives": held_out.negatives,
    }
    _write(path, tensors)


def load_held_out(path: Path, train: TrainingSet) -> HeldOut:
    """Return the task that `save_held_out` wrote; `train`, of the same split, bounds its users and books.

    Raises:
        UserError: the file is damaged, or its content is not a valid task for these users and books.

    """
    tensors = _read(path, HELD_OUT)
    users, true_books, drawn = (tensors[name] for name in ("users", "true_books", "negatives"))
    histories = Sequences(tensors["items"], tensors["offsets"])
    with naming_damage(path):
        _check_histories(histories, train.num_books)
        if not len(users) == len(histories) == len(true_books) == len(drawn) > 0:
            raise ValueError("its tensors are of different numbers of users, or of none")
        if np.diff(users, prepend=-1).min() <= 0 or users[-1] >= train.num_users:
            raise ValueError(f"its users do not ascend from 0 to {train.num_users - 1}")
        _check_books(true_books, train.num_books)
        _check_books(drawn, train.num_books)
        if (drawn == true_books[:, None]).any():
            raise ValueError("a true book is among its negatives")
    return HeldOut(users, histories, true_books, drawn)


def _write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    # save_file would write a temporary file of its own first, which a killed run would leave behind.
    path.write_bytes(digests.fill(save(tensors, metadata=digests.METADATA)))


def _check_histories(histories: Sequences, num_books: int) -> None:
    offsets = histories.offsets
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(histories.items) or (np.diff(offsets) < 0).any():
        raise ValueError("its offsets do not ascend from 0 to the number of its items")
    _check_books(histories.items, num_books)


def _check_books(books: np.ndarray, num_books: int) -> None:
    if books.size and not 1 <= books.min() <= books.max() <= num_books:
        raise ValueError(f"a book is not in 1..{num_books}")


def _read(path: Path, expected: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file by name.

    `expected` maps each name to a dtype and a number of dimensions, such as "int32 1".

    Raises:
        UserError: the file is damaged, or its tensors are not the expected ones.

    """
    with naming_damage(path):
        content = path.read_bytes()
        digests.check(content)
        tensors = load(content)
        found = {name: f"{tensor.dtype} {tensor.ndim}" for name, tensor in tensors.items()}
        if found != expected:
            raise ValueError(f"its tensors are {found}, not {dict(expected)}")
        return tensors
