"""What an earlier stage wrote is damaged: the stage that reads it ends with one line that names the file and the remedy."""

import json
import os
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from conftest import runner
from safetensors.numpy import load_file, save

from sasrec import errors, holdout, inputs, interactions_file

with mock.patch.dict(os.environ):  # the stages set variables for torch when they are imported
    import evaluate
    import filter_reindex
    import split
    import train_gpu

Damage = Callable[[Path], None]

READ_BY = {
    filter_reindex.REVIEWS: filter_reindex.main,
    split.REJECTED: split.main,
    split.USERS: split.main,
    split.BOOKS: split.main,
    split.INTERACTIONS: split.main,
    train_gpu.TRAIN: train_gpu.main,
    train_gpu.VALIDATION: train_gpu.main,
    evaluate.EVALUATION: evaluate.main,
    evaluate.CONFIG: evaluate.main,
    evaluate.WEIGHTS: evaluate.main,
}


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # it is write-protected
    path.write_bytes(content)


def cut(path: Path) -> None:
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    replace(path, b"")


def another_format(path: Path) -> None:
    replace(path, b"<html>Service unavailable</html>")


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    replace(path, bytes(content))


def flip_the_middle(path: Path) -> None:
    flip(path, 4 * path.stat().st_size)


def tensors(**changes: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """Put another value in the place of each tensor named; item_embedding stands for item_embedding.weight."""

    def damage(path: Path) -> None:
        loaded = load_file(path)
        for name, change in changes.items():
            full_name = name.replace("item_embedding", "item_embedding.weight")
            loaded[full_name] = np.array(change(loaded[full_name]), order="C")
        replace(path, save(loaded))

    return damage


def without(name: str) -> Damage:
    return lambda path: replace(path, save({key: value for key, value in load_file(path).items() if key != name}))


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.concatenate([np.full_like(array[:1], value), array[1:]])


def rows(change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(path: Path) -> None:
        table = change(pq.ParquetFile(path).read())
        path.unlink()
        pq.write_table(table, path)

    return damage


def config(**changes: object) -> Damage:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        content["sasrec"].update({key: value for key, value in changes.items() if key in content["sasrec"]})
        content.update({key: value for key, value in changes.items() if key in content})
        replace(path, json.dumps(content).encode())

    return damage


SPECIFIC: list[tuple[Path, Damage, str]] = [
    (filter_reindex.REVIEWS, flip_the_middle, "CRC"),
    (filter_reindex.REVIEWS, rows(lambda table: table.drop_columns("book_id")), "book_id"),
    (split.INTERACTIONS, flip_the_middle, "CRC"),
    (split.INTERACTIONS, rows(lambda table: table.rename_columns(["user_idx", "day", "book_idx"])), "timestamp"),
    (split.INTERACTIONS, rows(lambda table: table.slice(0, len(table) // 2)), "its readers are not"),
    (split.INTERACTIONS, rows(lambda table: table.take(np.arange(len(table))[::-1])), "its readers are not"),
    (split.INTERACTIONS, rows(lambda table: table.filter(pc.field("user_idx") > 0)), "its readers are not"),
    (split.INTERACTIONS, rows(lambda table: table.filter(pc.field("user_idx") != 3)), "its readers are not"),
    (split.INTERACTIONS, rows(lambda table: table.slice(0, 0)), "cannot be used"),
    (split.USERS, rows(lambda table: table.slice(1)), "its readers are not"),
    (split.BOOKS, rows(lambda table: table.slice(1)), "its books are not"),
    (train_gpu.TRAIN, tensors(items=first(0)), "a book is not in 1.."),
    (train_gpu.TRAIN, tensors(items=first(1_000_000)), "a book is not in 1.."),
    (train_gpu.TRAIN, tensors(items=lambda array: array.astype(np.int64)), "its tensors are"),
    (train_gpu.TRAIN, tensors(offsets=first(1)), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(offsets=lambda array: array[::-1]), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(offsets=lambda array: array[:-1]), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(offsets=lambda array: array[:0]), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(days=lambda array: array[1:]), "its days or readers"),
    (train_gpu.TRAIN, tensors(num_readers=lambda array: array * 0 + 1), "its days or readers"),
    (train_gpu.TRAIN, tensors(num_books=lambda array: array * 0), "a book is not in 1..0"),
    (train_gpu.TRAIN, without("days"), "its tensors are"),
    (train_gpu.VALIDATION, tensors(true_books=first(0)), "a book is not in 1.."),
    (train_gpu.VALIDATION, tensors(negatives=lambda array: array + 1_000_000), "a book is not in 1.."),
    (train_gpu.VALIDATION, tensors(negatives=lambda array: array[:, 0]), "its tensors are"),
    (train_gpu.VALIDATION, tensors(negatives=lambda array: array[1:]), "of different numbers of readers"),
    (train_gpu.VALIDATION, tensors(users=lambda array: array[::-1]), "its readers do not ascend"),
    (train_gpu.VALIDATION, tensors(users=lambda array: array + 1_000_000), "its readers do not ascend"),
    (evaluate.EVALUATION, tensors(items=first(-1)), "a book is not in 1.."),
    (evaluate.EVALUATION, without("negatives"), "its tensors are"),
    (evaluate.WEIGHTS, tensors(item_embedding=first(np.nan)), "a weight is not float32 or not finite"),
    (evaluate.WEIGHTS, tensors(item_embedding=first(np.inf)), "a weight is not float32 or not finite"),
    (evaluate.WEIGHTS, tensors(item_embedding=lambda array: array.astype(np.float16)), "a weight is not float32"),
    (evaluate.WEIGHTS, tensors(item_embedding=lambda array: array[1:]), "size mismatch for item_embedding"),
    (evaluate.WEIGHTS, without("item_embedding.weight"), "Missing key(s)"),
    (evaluate.CONFIG, config(num_books=7), "the model has 7 books"),
    (evaluate.CONFIG, config(num_books=0), "Expected `int` >= 1"),
    (evaluate.CONFIG, config(hidden_units="16"), "Expected `int`, got `str`"),
]
GENERAL = [(path, damage, "cannot be used") for path in READ_BY for damage in (cut, empty, another_format)]


@pytest.mark.parametrize(("path", "damage", "message"), GENERAL + SPECIFIC)
def test_damage_ends_the_stage_with_one_line_that_names_the_file_and_the_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch, path: Path, damage: Damage, message: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.device.use", lambda *_: torch.device("cpu"))
    damage(path)
    before = {file: file.read_bytes() for file in project.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit) as ended:
        errors.run(READ_BY[path])
    assert re.match(r"error: (data|models)/\S+: cannot be used: ", str(ended.value))
    assert str(path) in str(ended.value)  # first, unless it disagrees with another file
    assert message in str(ended.value)
    assert "\n" not in str(ended.value)
    assert "`chmod -R u+w .dvc/cache && dvc repro` makes it again" in str(ended.value)
    assert {file: file.read_bytes() for file in project.rglob("*") if file.is_file()} == before


def test_a_model_of_another_config_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.device.use", lambda *_: torch.device("cpu"))
    config(hidden_units=8)(evaluate.CONFIG)
    with pytest.raises(SystemExit, match=r"error: models/sasrec.safetensors: cannot be used: .*size mismatch"):
        errors.run(evaluate.main)


def bits(path: Path, number: int, end: int) -> Iterable[int]:
    return random.Random(str(path.name)).sample(range(8 * end), number)


@pytest.mark.parametrize(
    ("path", "schema"),
    [(filter_reindex.REVIEWS, filter_reindex.COLUMNS), (split.INTERACTIONS, interactions_file.COLUMNS)],
)
def test_a_flipped_bit_of_a_table_is_found_or_changes_nothing(project: Path, path: Path, schema: pa.Schema) -> None:
    content = (project / path).read_bytes()
    intact = inputs.read_parquet(project / path, schema)
    refused = 0
    for bit in bits(path, 200, len(content)):
        flip(project / path, bit)
        try:
            assert inputs.read_parquet(project / path, schema).equals(intact)
        except errors.UserError:
            refused += 1
        replace(project / path, content)
    assert refused > 150


def test_a_flipped_bit_of_a_header_is_found_or_changes_nothing(project: Path) -> None:
    path = project / train_gpu.TRAIN
    content, intact = path.read_bytes(), load_file(path)
    refused = 0
    for bit in bits(path, 200, 8 + int.from_bytes(content[:8], "little")):
        flip(path, bit)
        try:
            train = holdout.load_training_set(path)
            assert np.array_equal(train.histories.items, intact["items"])
            assert np.array_equal(train.days, intact["days"])
        except errors.UserError:
            refused += 1
        replace(path, content)
    assert refused > 150


@pytest.mark.parametrize("keeps_time", [False, True])
def test_the_remedy_mends_damage_that_the_cache_shares(project: Path, finished: Path, keeps_time: bool) -> None:
    run = runner(project)
    run("dvc", "checkout", "--relink")  # the fixture is a copy, without the links between workspace and cache
    path = project / train_gpu.TRAIN
    content, status = path.read_bytes(), path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(content[:-1] + bytes([content[-1] ^ 1]))
    path.chmod(0o444)
    if keeps_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    run("sh", "-c", inputs.REMEDY.split("`")[1])
    assert path.read_bytes() == content == (finished / train_gpu.TRAIN).read_bytes()
    assert run("git", "status", "--porcelain").stdout == ""
