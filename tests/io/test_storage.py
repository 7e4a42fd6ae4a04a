"""Large files may be anywhere that fsspec reaches: here S3, as a server on the loopback plays it."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import boto3
import pytest
from conftest import ROOT, review, runner, set_params, write_dump

import fetch
import filter_reindex
import parse_gzip
from sasrec.core import errors
from sasrec.core.errors import UserError
from sasrec.dump import shards
from sasrec.io import parquet, storage
from sasrec.split.load import COLUMNS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the committed params and nothing else."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*stages: ModuleType) -> str:
    """The one line with which the last of the stages ends, before which none has written to standard error."""
    *before, last = stages
    with contextlib.redirect_stderr(io.StringIO()) as before_the_end, pytest.raises(SystemExit) as ended:
        for stage in before:
            stage.main()
        errors.run(last.main)
    assert before_the_end.getvalue() == ""
    assert "\n" not in str(ended.value)
    return str(ended.value)


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
    fetch.main()
    fetched = shards.paths(folder / "data/raw/reviews.json.gz")
    assert [path.read_bytes() for path in fetched] == [path.read_bytes() for path in expected]


def test_here_and_elsewhere_may_be_in_one_list(s3: str, folder: Path) -> None:
    here, elsewhere = upload(folder, "a.json.gz", "b.json.gz")
    set_params(folder, fetch={"source": "file", "file": ["s3://books/dumps/b.json.gz", "a.json.gz"]})
    fetch.main()
    fetched = shards.paths(folder / "data/raw/reviews.json.gz")
    assert [path.read_bytes() for path in fetched] == [elsewhere.read_bytes(), here.read_bytes()]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("s3://books/none.json.gz", "s3://books/none.json.gz: cannot be used (no such file)"),
        ("s3://nowhere/none.json.gz", "s3://nowhere/none.json.gz: cannot be used"),
        ("s3://books/none-*.json.gz", "s3://books/none-*.json.gz: no file matches"),
        (
            "s3://books/dumps/",
            "s3://books/dumps/: is a folder; give the URL of a file in it, or a glob: s3://books/dumps/*",
        ),
        ("s3://books/page.json.gz", "s3://books/page.json.gz: is neither gzip, zstd"),
        ("gs://books/a.json.gz", "gs:// needs another package"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line_and_leaves_nothing(
    s3: str, folder: Path, file: str, message: str
) -> None:
    upload(folder, "a.json.gz")
    boto3.client("s3").put_object(Bucket="books", Key="page.json.gz", Body=b"<html>")
    set_params(folder, fetch={"source": "file", "file": file})
    assert message in refusal(fetch)
    assert list((folder / "data/raw").iterdir()) == []


@pytest.mark.parametrize(("path", "message"), [("/none/a.gz", "the server answers 404"), (":1/a.gz", "Cannot connect")])
def test_a_server_that_does_not_serve_a_file_is_quoted(s3: str, folder: Path, path: str, message: str) -> None:
    url = f"{s3}{path}" if path.startswith("/") else f"http://127.0.0.1{path}"
    set_params(folder, fetch={"source": "file", "file": url})
    assert f"error: {url}: cannot be used ({message}" in refusal(fetch)


TABLES = ["data/interim/reviews.parquet", "data/processed/interactions.parquet"]


@pytest.fixture
def stays_elsewhere(s3: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small pipeline in the current folder, its dump in a bucket and its params such that large files lie there."""
    boto3.client("s3").upload_file(str(project / "data/raw/reviews.json.gz"), "books", "dumps/all.json.gz")
    set_params(project, fetch={"source": "file", "file": "s3://books/dumps/all.json.gz"})
    set_params(project, storage={"url": "s3://books/tables/"})
    monkeypatch.chdir(project)
    return project


def objects(prefix: str) -> dict[str, bytes]:
    """What lies under a prefix of the bucket, by name."""
    client = boto3.client("s3")
    names = [each["Key"] for each in client.list_objects_v2(Bucket="books", Prefix=prefix).get("Contents", [])]
    return {name: client.get_object(Bucket="books", Key=name)["Body"].read() for name in names}


@pytest.mark.long
def test_large_files_lie_in_the_bucket_with_the_bytes_that_they_have_here(
    finished: Path, stays_elsewhere: Path
) -> None:
    runner(stays_elsewhere)("dvc", "repro", "--no-run-cache", "split")
    pointed = [json.loads((stays_elsewhere / name).read_text())["url"] for name in TABLES]
    tables = objects("tables")
    assert [f"s3://books/{name}" for name in tables] == sorted(pointed)
    assert sorted(tables.values()) == sorted((finished / name).read_bytes() for name in TABLES)
    raw = json.loads((stays_elsewhere / "data/raw/reviews.json.gz").read_text())
    assert raw["url"] == "s3://books/dumps/all.json.gz"
    for name in ("data/split/train.safetensors", "data/split/evaluation.safetensors", "metrics/data.json"):
        assert (stays_elsewhere / name).read_bytes() == (finished / name).read_bytes()


def test_a_stage_that_fails_leaves_no_table_in_the_bucket_and_no_pointer(stays_elsewhere: Path) -> None:
    dump = objects("dumps")["dumps/all.json.gz"]
    boto3.client("s3").put_object(Bucket="books", Key="dumps/all.json.gz", Body=dump[:-1])
    (stays_elsewhere / TABLES[0]).unlink()
    assert "error: s3://books/dumps/all.json.gz: the gzip data end too early" in refusal(fetch, parse_gzip)
    assert objects("tables") == {}
    assert not (stays_elsewhere / TABLES[0]).exists()


def test_what_changes_behind_a_pointer_is_named(stays_elsewhere: Path) -> None:
    fetch.main()
    parse_gzip.main()
    boto3.client("s3").put_object(Bucket="books", Key="dumps/all.json.gz", Body=objects("dumps")["dumps/all.json.gz"])
    parse_gzip.main()  # the same content
    boto3.client("s3").put_object(Bucket="books", Key="dumps/all.json.gz", Body=b"other")
    assert refusal(parse_gzip).startswith(
        "error: s3://books/dumps/all.json.gz: has changed since a stage pointed to it"
    )
    (table,) = objects("tables")
    boto3.client("s3").delete_object(Bucket="books", Key=table)
    assert refusal(filter_reindex).startswith(f"error: s3://books/{table}: cannot be used")


def test_a_flipped_bit_in_the_bucket_is_found(stays_elsewhere: Path) -> None:
    for stage in (fetch, parse_gzip, filter_reindex):
        stage.main()
    pointer = storage.pointer(stays_elsewhere / TABLES[1])
    content = bytearray(objects("tables")[pointer.url.removeprefix("s3://books/")])
    content[len(content) // 2] ^= 1
    boto3.client("s3").put_object(Bucket="books", Key=pointer.url.removeprefix("s3://books/"), Body=bytes(content))
    with pytest.raises(UserError, match=r"interactions.parquet: cannot be used: .*another digest"):
        parquet.read(stays_elsewhere / TABLES[1], COLUMNS)


@pytest.mark.parametrize(
    ("changes", "stages", "message"),
    [
        ({"storage": {"url": "s3://nowhere/tables"}}, [fetch, parse_gzip], "s3://nowhere/tables: cannot be used"),
        ({"fetch": {"sha256": "0" * 64}}, [fetch], "params.yaml: fetch.sha256 cannot be compared with a dump that"),
        (
            {"filter_reindex": {"engine": "spark"}},
            [fetch, parse_gzip, filter_reindex],
            "params.yaml: filter_reindex.engine is spark, which",
        ),
    ],
)
def test_what_cannot_be_combined_with_a_bucket_is_one_line(
    stays_elsewhere: Path, changes: dict[str, dict[str, object]], stages: list[ModuleType], message: str
) -> None:
    set_params(stays_elsewhere, **changes)
    assert refusal(*stages).startswith(f"error: {message}")


def test_a_name_in_a_bucket_that_fsspec_would_take_for_two_urls_is_refused(s3: str, folder: Path) -> None:
    boto3.client("s3").put_object(Bucket="books", Key="dumps/a::zip", Body=b"")
    set_params(folder, fetch={"source": "file", "file": "s3://books/dumps/*"})
    assert refusal(fetch).startswith("error: s3://books/dumps/a::zip: no URL which begins with one of s3://")
    assert list((folder / "data/raw").iterdir()) == []


@pytest.mark.parametrize("url", ["file://{}", "local://{}", "dir://.::file://{}", "s3://books/a::file://{}"])
def test_no_pointer_and_no_folder_is_of_this_machine(tmp_path: Path, url: str) -> None:
    there = tmp_path / "elsewhere"
    with pytest.raises(UserError, match="no URL which begins"), storage.sink(tmp_path / "x", url.format(there)) as file:
        file.write(b"a table")
    with pytest.raises(UserError, match="no URL which begins"):
        storage.at(url.format(tmp_path / "x"))
    assert not there.exists()


def test_credentials_of_the_environment_are_taken(s3: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = upload(folder, "a.json.gz")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    set_params(folder, fetch={"source": "file", "file": "s3://books/dumps/a.json.gz"})
    assert "cannot be used" in refusal(fetch)
    monkeypatch.setenv("FSSPEC_S3_KEY", "test")
    monkeypatch.setenv("FSSPEC_S3_SECRET", "test")
    runner(folder)(sys.executable, str(ROOT / "stages/fetch.py"))  # fsspec reads them when it is imported
    assert (folder / "data/raw/reviews.json.gz").read_bytes() == expected.read_bytes()


def test_what_is_no_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "reviews.parquet").write_text('{\n  "url": 5}')
    with pytest.raises(UserError, match=r"reviews.parquet: not a pointer .*Expected `str`, got `int` - at `\$.url`"):
        storage.pointer(tmp_path / "reviews.parquet")
