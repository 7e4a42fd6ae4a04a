"""What a user can get wrong ends with one line, a status that is not 0, and no half-written output."""

import contextlib
import gzip
import io
import json
import os
import shutil
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch
from conftest import ROOT, review, set_params, write_dump

from sasrec.core import errors

with mock.patch.dict(os.environ):  # the stages set variables for torch when they are imported
    import evaluate
    import fetch
    import filter_reindex
    import parse_gzip
    import split
    import train_gpu

RAW = Path("data/raw/reviews.json.gz")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the committed params and nothing else."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))  # it would change this process
    return tmp_path


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def assert_refused(folder: Path, stage: ModuleType, *message: str) -> None:
    """What the stage would end its process with is a status of 1, and this on standard error; it leaves nothing."""
    before = files(folder)
    with contextlib.redirect_stderr(io.StringIO()) as before_the_end, pytest.raises(SystemExit) as ended:
        errors.run(stage.main)
    assert before_the_end.getvalue() == ""
    said = str(ended.value.code)
    assert said.startswith("error: ")
    assert "\n" not in said
    for part in message:
        assert part in said
    assert files(folder) == before


def dump(folder: Path, num_users: int = 6, num_reviews: int = 12) -> Path:
    """Every user reviews the next books of a circle of 40."""
    reviews = [
        review(f"u{user}", f"2015-01-{place + 1:02}", f"b{(7 * user + place) % 40}")
        for user in range(num_users)
        for place in range(num_reviews)
    ]
    return write_dump(folder / RAW, reviews)


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        (parse_gzip, "data/raw/reviews.json.gz"),
        (filter_reindex, "data/interim/reviews.parquet"),
        (split, "data/interim/reviews.parquet"),
        (train_gpu, "data/split/train.safetensors"),
        (evaluate, "data/split/train.safetensors"),
    ],
)
def test_what_an_earlier_stage_should_have_made(folder: Path, stage: ModuleType, missing: str) -> None:
    assert_refused(folder, stage, f"error: {missing}: not found; run `dvc repro`")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<html>Quota exceeded</html>", "is neither gzip, zstd, Parquet"),
        (gzip.compress(b'{"user_id": "u"}\n' * 1000, mtime=0)[:-9], "the gzip data end too early"),
        (gzip.compress(b"", mtime=0), "holds no review"),
        (
            gzip.compress(b"{}\n", mtime=0),
            "1 of 1 lines are no reviews (line 1: Object missing required field `user_id`)",
        ),
    ],
)
def test_a_dump_that_is_none(folder: Path, content: bytes, message: str) -> None:
    (folder / RAW).parent.mkdir(parents=True)
    (folder / RAW).write_bytes(content)
    assert_refused(folder, parse_gzip, str(RAW), message)


def test_rejected_lines_are_kept_where_the_params_allow_them(folder: Path) -> None:
    write_dump(folder / RAW, [review(), {"user_id": "u"}, review()])
    set_params(folder, parse_gzip={"max_rejected_fraction": 0.4})
    parse_gzip.main()
    set_params(folder, parse_gzip={"max_rejected_fraction": 0.3})
    assert_refused(folder, parse_gzip, "1 of 3 lines", "line 2", "parse_gzip.max_rejected_fraction")


def test_no_user_left_after_the_filter(folder: Path) -> None:
    dump(folder, num_reviews=9)
    parse_gzip.main()
    assert_refused(folder, filter_reindex, "no user has 10 reviews", "lower filter_reindex.min_ratings")


@pytest.mark.parametrize(
    ("limit", "message", "advice"),
    [
        ("1KB", "is 1KB, which is too little", "raise it, or set it to null"),
        ("1MB", "is 1MB, which is too little", "raise it, or set it to null"),
        ("99999999999999999999GB", "is 99999999999999999999GB, which DuckDB refuses", "set it to null, or to less"),
    ],
)
def test_a_memory_limit_that_the_engine_cannot_keep(folder: Path, limit: str, message: str, advice: str) -> None:
    dump(folder)
    set_params(folder, filter_reindex={"memory_limit": limit})
    parse_gzip.main()
    assert_refused(folder, filter_reindex, f"error: params.yaml: filter_reindex.memory_limit {message}", advice)


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (
            {"num_user_sample": 7, "num_item_sample": 10},
            "evaluation.num_user_sample is 7, but only 6 users can be evaluated",
        ),
        ({"num_user_sample": 2, "num_item_sample": 31}, "evaluation.num_item_sample is 31"),
    ],
)
def test_samples_larger_than_the_data(folder: Path, evaluation: dict[str, object], message: str) -> None:
    dump(folder)
    set_params(folder, evaluation=evaluation)
    parse_gzip.main()
    filter_reindex.main()
    assert_refused(folder, split, message)


def test_a_user_who_read_every_book_is_named_and_counted_and_the_others_are_evaluated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readers = [
        review(f"u{user}", f"2015-01-{day:02}", f"b{7 * user + day}") for user in range(6) for day in range(1, 13)
    ]
    everything = [review("greedy", "2015-02-01", book) for book in sorted({each["book_id"] for each in readers})]
    write_dump(folder / RAW, [*readers, *everything])
    set_params(folder, evaluation={"num_user_sample": 2, "num_item_sample": 10})
    for stage in (parse_gzip, filter_reindex, split):
        stage.main()
    assert "they left fewer than evaluation.num_item_sample books unread: greedy\n" in capsys.readouterr().err
    assert json.loads((folder / "metrics/data.json").read_text())["eval_users_left_out"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "file"}, "fetch.source is file, but fetch.file is null"),
        ({"source": "file", "file": "nowhere.json.gz"}, "nowhere.json.gz: no such file; set fetch.file"),
        ({"source": "files"}, "fetch.source is 'files': choose one of demo, goodreads, file"),
        ({"demo_users": 5, "sha256": "0" * 64}, "fetch.sha256 is 000"),
        ({"sha256": "abc"}, "fetch.sha256 is 'abc'"),
        ({"demo_usres": 5}, "unknown key fetch.demo_usres; did you mean fetch.demo_users?"),
    ],
)
def test_a_source_that_cannot_be_had(folder: Path, changes: dict[str, object], message: str) -> None:
    set_params(folder, fetch=changes)
    assert_refused(folder, fetch, message)


def test_more_batch_than_users(folder: Path) -> None:
    dump(folder)
    set_params(folder, evaluation={"num_user_sample": 2, "num_item_sample": 5, "k": 5})
    for stage in (parse_gzip, filter_reindex, split):
        stage.main()
    assert_refused(folder, train_gpu, "train.batch_size is 128, more than the 6 users")


def test_another_loss_than_there_is(folder: Path) -> None:
    set_params(folder, train={"loss": "bpr"})
    assert_refused(folder, train_gpu, "params.yaml:", "train.loss is 'bpr': choose one of bce, gbce")
