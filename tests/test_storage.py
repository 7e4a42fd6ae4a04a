"""A dump may be anywhere that fsspec reads from: here S3, as a server on the loopback plays it."""

import shutil
import sys
from pathlib import Path

import boto3
import pytest
from conftest import ROOT, review, runner, set_params, write_dump

from sasrec import shards

FETCH = (sys.executable, str(ROOT / "stages/fetch.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def upload(folder: Path, *names: str) -> list[Path]:
    """Put a dump of one review under each name into the bucket; return the files, in the order of their names."""
    paths = [write_dump(folder / name, [review(user_id=name)]) for name in sorted(names)]
    for path in paths:
        boto3.client("s3").upload_file(str(path), "books", f"dumps/{path.name}")
    return paths


@pytest.mark.parametrize(
    ("file", "number"), [("s3://books/dumps/part-*.json.gz", 2), ("s3://books/dumps/x.json.gz", 1)]
)
def test_what_lies_in_a_bucket_is_fetched_as_files_here_are(s3: str, folder: Path, file: str, number: int) -> None:
    uploaded = upload(folder, "part-2.json.gz", "part-1.json.gz", "x.json.gz")
    expected = uploaded[:2] if number == 2 else uploaded[2:]
    set_params(folder, fetch={"source": "file", "file": file})
    runner(folder)(*FETCH)
    fetched = shards.paths(folder / "data/raw/reviews.json.gz")
    assert [path.read_bytes() for path in fetched] == [path.read_bytes() for path in expected]


def test_here_and_elsewhere_may_be_in_one_list(s3: str, folder: Path) -> None:
    here, elsewhere = upload(folder, "a.json.gz", "b.json.gz")
    set_params(folder, fetch={"source": "file", "file": ["s3://books/dumps/b.json.gz", "a.json.gz"]})
    runner(folder)(*FETCH)
    fetched = shards.paths(folder / "data/raw/reviews.json.gz")
    assert [path.read_bytes() for path in fetched] == [elsewhere.read_bytes(), here.read_bytes()]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("s3://books/none.json.gz", "s3://books/none.json.gz: cannot be read"),
        ("s3://nowhere/none.json.gz", "s3://nowhere/none.json.gz: cannot be read"),
        ("s3://books/none-*.json.gz", "no file matches"),
        ("s3://books/page.json.gz", "s3://books/page.json.gz: is not gzip"),
        ("gs://books/a.json.gz", "gs:// needs another package"),
        ("nosuch://books/a.json.gz", "nosuch://books/a.json.gz: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line_and_leaves_nothing(
    s3: str, folder: Path, file: str, message: str
) -> None:
    boto3.client("s3").put_object(Bucket="books", Key="page.json.gz", Body=b"<html>")
    set_params(folder, fetch={"source": "file", "file": file})
    done = runner(folder)(*FETCH, fails=True)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((folder / "data/raw").iterdir()) == []
