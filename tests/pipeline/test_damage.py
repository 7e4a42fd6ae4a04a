"""What an earlier stage wrote is damaged: the stage that reads it ends with one line that names the file and the remedy."""

import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, out_of_date, parse_gzip_params, runner
from safetensors.numpy import load_file, save

from sasrec.core import errors
from sasrec.dump import reviews
from sasrec.interactions import engines
from sasrec.io import digests, files, parquet
from sasrec.model.sasrec import load_config, load_model
from sasrec.split import datasets, load

with mock.patch.dict(os.environ):  # the stages set variables for torch when they are imported
    import evaluate
    import filter_reindex
    import parse_gzip
    import split
    import train_gpu

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "checks"))
    import heal

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


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: what a stage reads, and nothing else of a finished pipeline."""
    shutil.copy(finished / "params.yaml", tmp_path)
    for name in ("data", "models"):
        shutil.copytree(finished / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))  # it would change this process
    return tmp_path


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
        replace(path, with_digest(loaded))

    return damage


def with_digest(content: dict[str, np.ndarray]) -> bytes:
    """Tensors as a run writes them, which differs from ours in what they hold."""
    return digests.fill(save(content, metadata=digests.METADATA))


def without(name: str) -> Damage:
    return lambda path: replace(path, with_digest({key: each for key, each in load_file(path).items() if key != name}))


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.concatenate([np.full_like(array[:1], value), array[1:]])


def rows(change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(path: Path) -> None:
        table = change(pq.ParquetFile(path).read())
        parquet.write(path, table.replace_schema_metadata(None).to_reader())

    return damage


def config(**changes: object) -> Damage:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        content["sasrec"].update({key: value for key, value in changes.items() if key in content["sasrec"]})
        content.update({key: value for key, value in changes.items() if key in content})
        replace(path, digests.fill(json.dumps(content | digests.METADATA).encode()))

    return damage


def one_reads_what_another_read(table: pa.Table) -> pa.Table:
    books = table["book_idx"].to_numpy().copy()
    books[0] = next(book for book in books if book != books[0])
    return table.set_column(table.column_names.index("book_idx"), "book_idx", pa.array(books))


def moved_to_the_next(table: pa.Table) -> pa.Table:
    counts = table["num_ratings"].to_numpy().copy()
    counts[:2] += [-1, 1]
    return table.set_column(table.column_names.index("num_ratings"), "num_ratings", pa.array(counts))


SPECIFIC: list[tuple[Path, Damage, str]] = [
    (filter_reindex.REVIEWS, flip_the_middle, "it has another digest"),
    (filter_reindex.REVIEWS, rows(lambda table: table.drop_columns("book_id")), "book_id"),
    (split.INTERACTIONS, flip_the_middle, "it has another digest"),
    (split.INTERACTIONS, rows(lambda table: table.rename_columns(["user_idx", "day", "book_idx"])), "timestamp"),
    (split.INTERACTIONS, rows(lambda table: table.slice(0, len(table) // 2)), "its users are not"),
    (split.INTERACTIONS, rows(lambda table: table.take(np.arange(len(table))[::-1])), "its users are not"),
    (split.INTERACTIONS, rows(lambda table: table.filter(pc.field("user_idx") > 0)), "its users are not"),
    (split.INTERACTIONS, rows(lambda table: table.filter(pc.field("user_idx") != 3)), "its users are not"),
    (split.INTERACTIONS, rows(lambda table: table.slice(0, 0)), "cannot be used"),
    (split.INTERACTIONS, rows(one_reads_what_another_read), "a book has another number of ratings"),
    (split.USERS, rows(moved_to_the_next), "a user has another number of ratings"),
    (split.BOOKS, rows(moved_to_the_next), "a book has another number of ratings"),
    (split.USERS, rows(lambda table: table.slice(1)), "its users are not"),
    (split.BOOKS, rows(lambda table: table.slice(1)), "its books are not"),
    (train_gpu.TRAIN, tensors(items=first(0)), "a book is not in 1.."),
    (train_gpu.TRAIN, tensors(items=first(1_000_000)), "a book is not in 1.."),
    (train_gpu.TRAIN, tensors(items=lambda array: array.astype(np.int64)), "its tensors are"),
    (train_gpu.TRAIN, tensors(offsets=first(1)), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(offsets=lambda array: array[::-1]), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(offsets=lambda array: array[:-1]), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(offsets=lambda array: array[:0]), "its offsets do not ascend"),
    (train_gpu.TRAIN, tensors(days=lambda array: array[1:]), "its days or users"),
    (train_gpu.TRAIN, tensors(num_readers=lambda array: array * 0 + 1), "its days or users"),
    (train_gpu.TRAIN, tensors(num_books=lambda array: array * 0), "a book is not in 1..0"),
    (train_gpu.TRAIN, without("days"), "its tensors are"),
    (train_gpu.VALIDATION, tensors(true_books=first(0)), "a book is not in 1.."),
    (train_gpu.VALIDATION, tensors(negatives=lambda array: array + 1_000_000), "a book is not in 1.."),
    (train_gpu.VALIDATION, tensors(negatives=lambda array: array[:, 0]), "its tensors are"),
    (train_gpu.VALIDATION, tensors(negatives=lambda array: array[1:]), "of different numbers of users"),
    (train_gpu.VALIDATION, tensors(users=lambda array: array[::-1]), "its users do not ascend"),
    (train_gpu.VALIDATION, tensors(users=lambda array: array + 1_000_000), "its users do not ascend"),
    (evaluate.EVALUATION, tensors(items=first(-1)), "a book is not in 1.."),
    (evaluate.EVALUATION, without("negatives"), "its tensors are"),
    (evaluate.WEIGHTS, tensors(item_embedding=first(np.nan)), "a weight is not float32 or not finite"),
    (evaluate.WEIGHTS, tensors(item_embedding=first(np.inf)), "a weight is not float32 or not finite"),
    (evaluate.WEIGHTS, tensors(item_embedding=lambda array: array.astype(np.float16)), "a weight is not float32"),
    (evaluate.WEIGHTS, tensors(item_embedding=lambda array: array[1:]), "size mismatch for item_embedding"),
    (evaluate.WEIGHTS, without("item_embedding.weight"), "Missing key(s)"),
    (evaluate.WEIGHTS, without("autoencoder.weight"), "Missing key(s)"),
    (evaluate.WEIGHTS, tensors(**{"autoencoder.weight": lambda array: array[:, 1:]}), "size mismatch for autoencoder"),
    (
        evaluate.WEIGHTS,
        tensors(**{"autoencoder.weight": lambda array: array[1:]}),
        "row of the autoencoder is not there",
    ),
    (evaluate.WEIGHTS, tensors(**{"autoencoder.rows": first(-2)}), "row of the autoencoder is not there"),
    (evaluate.WEIGHTS, tensors(**{"autoencoder.rows": np.float32}), "row of the autoencoder is not there"),
    (evaluate.CONFIG, config(num_books=7), "the model has 7 books"),
    (evaluate.CONFIG, config(num_books=0), "Expected `int` >= 1"),
    (evaluate.CONFIG, config(hidden_units="16"), "Expected `int`, got `str`"),
]
GENERAL = [(path, damage, "cannot be used") for path in READ_BY for damage in (cut, empty, another_format)]


@pytest.mark.parametrize(("path", "damage", "message"), GENERAL + SPECIFIC)
def test_damage_ends_the_stage_with_one_line_that_names_the_file_and_the_remedy(
    folder: Path, path: Path, damage: Damage, message: str
) -> None:
    damage(path)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit) as ended:
        errors.run(READ_BY[path])
    assert re.match(r"error: (data|models)/\S+: cannot be used: ", str(ended.value))
    assert str(path) in str(ended.value)  # first, unless it disagrees with another file
    assert message in str(ended.value)
    assert "\n" not in str(ended.value)
    assert "`make heal` makes it again" in str(ended.value)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


@pytest.mark.usefixtures("folder")
def test_a_model_of_another_config_is_refused() -> None:
    config(hidden_units=8)(evaluate.CONFIG)
    with pytest.raises(SystemExit, match=r"error: models/sasrec.safetensors: cannot be used: .*size mismatch"):
        errors.run(evaluate.main)


FLIPS = int(os.environ.get("FLIPS", "10"))  # of each artefact; `make faults` takes many
WITH_DIGEST = [path for path in READ_BY if path != split.REJECTED]  # of that one only the rows of its footer are used


def read(path: Path) -> object:
    """Read an artefact, of which any part may be damaged, as the stage does that needs it."""
    if path == filter_reindex.REVIEWS:
        return parquet.check(path, filter_reindex.DAYS)
    if path in (split.USERS, split.BOOKS, split.INTERACTIONS):
        return load.read(split.INTERACTIONS, split.USERS, split.BOOKS)
    if path in (evaluate.WEIGHTS, evaluate.CONFIG):
        return load_model(evaluate.WEIGHTS, load_config(evaluate.CONFIG))
    train = datasets.load_training_set(train_gpu.TRAIN)
    return train if path == train_gpu.TRAIN else datasets.load_held_out(path, train)


def flips(path: Path) -> Iterator[None]:
    """Flip one bit after the other, and put it back; half of them where footers and headers are."""
    content, rng = path.read_bytes(), random.Random(path.name)
    ends = [bit for bit in range(8 * len(content)) if not 4096 < bit // 8 < len(content) - 4096]
    for number in range(FLIPS):
        bit = rng.choice(ends) if number % 2 else rng.randrange(8 * len(content))
        flip(path, bit)
        yield
        replace(path, content)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("path", WITH_DIGEST, ids=str)
def test_a_flipped_bit_is_found_wherever_it_is(path: Path) -> None:
    read(path)
    for _flipped in flips(path):
        with pytest.raises(errors.UserError, match=f"^{path}: cannot be used: "):
            read(path)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("path", [filter_reindex.REVIEWS, split.REJECTED], ids=str)
def test_a_flipped_bit_never_changes_the_number_of_rows_that_is_counted(path: Path) -> None:
    intact = parquet.num_rows(path)
    for _flipped in flips(path):
        with contextlib.suppress(errors.UserError):
            assert parquet.num_rows(path) == intact


@pytest.mark.usefixtures("folder")
def test_a_flipped_bit_of_the_dump_is_found_or_changes_no_row() -> None:
    def rows() -> list[pa.Table]:
        read = reviews.read(parse_gzip.RAW, parse_gzip_params())
        return [pa.Table.from_batches(each) for each in zip(*read, strict=True)]

    intact = rows()
    for _flipped in flips(parse_gzip.RAW):
        with contextlib.suppress(errors.UserError):
            assert rows() == intact


def damage_in_place(path: Path) -> None:
    """Flip a bit as a failing disk does: the cache has the same file, and neither its time nor its mode changes."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)[0]
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 1]))
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture(scope="module")
def linked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of which DVC remembers each file, all of them links to its cache, as after a run; for several tests.

    Each mends all that it damages. A copy of it would not do: DVC remembers files by their inodes.
    """
    project = shutil.copytree(finished, tmp_path_factory.mktemp("healing") / "project")
    runner(project)("dvc", "checkout", "--relink")
    assert (project / train_gpu.TRAIN).stat().st_nlink == 2
    return project


@pytest.mark.parametrize("is_in_cache", [True, False], ids=["also in the cache", "in the workspace alone"])
def test_what_the_message_advises_mends_damage_that_dvc_does_not_see(linked: Path, is_in_cache: bool) -> None:
    run = runner(linked)
    if not is_in_cache:
        run("dvc", "unprotect", str(split.INTERACTIONS), str(train_gpu.TRAIN))
        out_of_date(linked)  # DVC remembers the files anew
    content = {path: (linked / path).read_bytes() for path in (split.INTERACTIONS, train_gpu.TRAIN)}
    for path in content:
        damage_in_place(linked / path)
    assert out_of_date(linked) == set()
    (advised,) = re.findall("`(.*?)`", run(sys.executable, "stages/split.py", fails=True).stderr)
    (recipe,) = re.findall(rf"^{advised.removeprefix('make ')}:.*\n\t(.*)", (linked / "Makefile").read_text(), re.M)
    run(*recipe.split())
    assert {path: (linked / path).read_bytes() for path in content} == content
    assert run("git", "status", "--porcelain").stdout == ""
    assert out_of_date(linked) == set()


def test_healing_keeps_what_is_intact_and_names_what_is_not(tmp_path: Path) -> None:
    cache = tmp_path / "files/md5"
    for name, content in (("a", b"intact"), ("b", b"damaged"), ("c", b"[]")):
        digest = hashlib.md5(content).hexdigest() + (".dir" if name == "c" else "")
        (cache / digest[:2]).mkdir(parents=True)
        (cache / digest[:2] / digest[2:]).write_bytes(content[:-1] + b"?" if name == "b" else content)
    (cache / "ab").mkdir()
    (cache / "ab" / ".being-written").write_bytes(b"by DVC")
    assert [path.read_bytes() for path in heal.damaged(tmp_path)] == [b"damage?"]


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError("Unable to allocate 59 KiB"), "out of memory"),
        (pa.ArrowMemoryError("malloc of size 64 failed"), "out of memory"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to pin block"), "out of memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "out of memory"),
        (RuntimeError("can't start new thread"), "no more threads can be started"),
        (OSError("Failed to launch worker thread: Resource temporarily unavailable"), "no more threads can be started"),
    ],
)
def test_what_the_machine_lacks_is_not_blamed_on_a_file(error: Exception, lacking: str) -> None:
    def main() -> None:
        with files.naming_damage(Path("data/interim/reviews.parquet")):
            raise error

    with pytest.raises(SystemExit) as ended:
        errors.run(main)
    assert str(ended.value).startswith(f"error: {lacking} ({error}); close other programs")


def test_an_engine_that_finds_too_little_memory_blames_no_limit_that_is_not_set(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u"]}), tmp_path / "reviews.parquet")
    with (
        pytest.raises(MemoryError, match="bad allocation"),
        engines.on_duckdb(tmp_path / "reviews.parquet", None, tmp_path),
    ):
        raise duckdb.OutOfMemoryException("Out of Memory Error: bad allocation")
