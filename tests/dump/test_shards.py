"""A dump in several files gives what it would give in one."""

import gzip
import hashlib
import itertools
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, parse_gzip_params, review, runner, set_params

import fetch
import parse_gzip
from sasrec.core.errors import UserError
from sasrec.dump import parsing, reviews, shard_pool, shards
from sasrec.io import files, parquet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LINES = [json.dumps(review(user_id=f"u{number}")).encode() for number in range(500)]
REJECTED = {130: b"", 131: b"{", 420: b"none"}  # by their index in the whole dump
for index, line in REJECTED.items():
    LINES[index] = line
CUTS = [0, 120, 130, 130, 132, 300, 500]  # the third shard is empty, the fourth holds no review


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 64)
    return tmp_path


def write_shards(folder: Path) -> list[str]:
    """Write LINES as shards; every other one ends with a line end."""
    paths = []
    for number, (start, end) in enumerate(itertools.pairwise(CUTS)):
        content = b"\n".join(LINES[start:end]) + b"\n" * (number % 2)
        path = folder / f"part-{number}.json.gz"
        path.write_bytes(gzip.compress(content))
        paths.append(str(path))
    return paths


def parsed(file: str | list[str], num_processes: int) -> tuple[bytes, bytes]:
    """Fetch and parse `file`; return the bytes of the reviews and of the malformed lines."""
    set_params(Path(), fetch={"source": "file", "file": file})
    set_params(Path(), parse_gzip={"max_rejected_fraction": 0.1, "num_processes": num_processes})
    fetch.main()
    parse_gzip.main()
    assert sorted(path.name for path in parse_gzip.REVIEWS.parent.iterdir()) == ["rejected.parquet", "reviews.parquet"]
    return parse_gzip.REVIEWS.read_bytes(), parse_gzip.REJECTED.read_bytes()


def test_shards_give_the_bytes_of_the_whole_file_with_any_number_of_processes(folder: Path) -> None:
    (folder / "whole.json.gz").write_bytes(gzip.compress(b"\n".join(LINES)))
    expected = parsed("whole.json.gz", 1)
    numbers = pq.read_table(parse_gzip.REJECTED)["line_number"].to_pylist()
    assert numbers == [index + 1 for index in REJECTED]
    paths = write_shards(folder)
    assert parsed(paths, 1) == expected
    assert parsed(paths, 2) == expected


def test_a_malformed_line_is_named_by_its_shard_and_its_line_there(folder: Path) -> None:
    write_shards(folder)
    parsed("part-*.json.gz", 2)
    set_params(folder, parse_gzip={"max_rejected_fraction": 0.0})
    with pytest.raises(
        UserError, match=r"3 of 500 lines .*\(part-3.json.gz line 1: blank line; part-3.json.gz line 2: "
    ):
        parse_gzip.main()


def test_a_damaged_shard_is_named_and_nothing_is_written(folder: Path) -> None:
    paths = write_shards(folder)
    Path(paths[4]).write_bytes(Path(paths[4]).read_bytes()[:-1])
    with pytest.raises(UserError, match=r"^/.*/part-4.json.gz: the gzip data end too early .*; replace it by an"):
        parsed(paths, 2)
    assert list(parse_gzip.REVIEWS.parent.iterdir()) == []


def test_a_killed_process_is_an_error_that_names_the_param(folder: Path) -> None:
    paths = [Path(path) for path in write_shards(folder)]
    read = shard_pool.read(paths, parse_gzip_params(num_processes=2), folder / "scratch")
    next(read)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(UserError, match=r"was killed, .* lower parse_gzip.num_processes"):
        list(read)


def read_on_spark(session: "SparkSession", paths: list[str], **limits: object) -> tuple[bytes, bytes]:
    """Fetch and parse shards as `parsed` does, on Spark."""
    set_params(Path(), fetch={"source": "file", "file": paths})
    fetch.main()
    section = parse_gzip_params(**limits)
    files.make_folders(parse_gzip.REVIEWS)
    with (
        files.scratch(Path("data/interim")) as scratch,
        files.atomic_write(parse_gzip.REVIEWS) as good,
        files.atomic_write(parse_gzip.REJECTED) as bad,
    ):
        scratch.mkdir()  # as spark.session does
        read = partial(shard_pool.read_on_spark, params=section, scratch=scratch, session=session)
        parsing.parse(fetch.RAW, good, bad, section, read)
    return parse_gzip.REVIEWS.read_bytes(), parse_gzip.REJECTED.read_bytes()


def test_spark_gives_the_same_bytes(folder: Path, spark_session: "SparkSession") -> None:
    paths = write_shards(folder)
    expected = parsed(paths, 1)
    assert read_on_spark(spark_session, paths, max_rejected_fraction=0.1) == expected


def test_spark_names_a_damaged_shard_as_this_process_does(folder: Path, spark_session: "SparkSession") -> None:
    paths = write_shards(folder)
    Path(paths[4]).write_bytes(Path(paths[4]).read_bytes()[:-1])
    with pytest.raises(reviews.DamagedError, match=r"^data/raw/reviews.json.gz/00005.json.gz: the gzip data end too"):
        read_on_spark(spark_session, paths, max_rejected_fraction=0.1)
    assert list(parse_gzip.REVIEWS.parent.iterdir()) == []


def test_what_fails_in_sparks_processes_is_one_line(folder: Path, spark_session: "SparkSession") -> None:
    paths = write_shards(folder)
    parsed(paths, 1)
    limits = SimpleNamespace()  # without any limit
    with pytest.raises(UserError, match=r"Spark failed; .*same path: AttributeError: .*'max_expansion'$") as caught:
        next(shard_pool.read_on_spark(shards.paths(fetch.RAW), limits, folder, spark_session))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_stage_takes_its_processes_with_it_and_the_next_run_tidies_up(folder: Path, number: int) -> None:
    paths = write_shards(folder)
    expected = parsed(paths, 1)
    set_params(folder, parse_gzip={"num_processes": 2})
    (fetch.RAW / "00007.json.gz").write_bytes(gzip.compress(b"\n" * 3_000_000))  # takes seconds
    stage = psutil.Popen([sys.executable, ROOT / "stages/parse_gzip.py"], stderr=subprocess.PIPE, text=True)
    while stage.poll() is None and not list(folder.glob("data/interim/scratch.*.partial/*")):
        time.sleep(0.001)
    processes = stage.children()
    stage.send_signal(number)
    message = stage.communicate()[1]
    assert stage.returncode == (1 if number == signal.SIGTERM else -number)
    assert number == signal.SIGKILL or message.startswith("error: interrupted")
    psutil.wait_procs(processes)  # until each has ended
    assert parsed(paths, 1) == expected


def test_the_order_is_that_of_the_list_and_of_the_names_that_a_glob_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.gz", "a.gz", ".c.gz", "[d].gz"):
        Path(name).touch()
    assert shards.named("a.gz") == [Path("a.gz")]
    assert shards.named("*.gz") == [Path("[d].gz"), Path("a.gz"), Path("b.gz")]
    assert shards.named(["b.gz", str(tmp_path / "a*"), "[d].gz"]) == [Path("b.gz"), tmp_path / "a.gz", Path("[d].gz")]
    assert shards.named("e*.gz") == [Path("e*.gz")]
    with pytest.raises(UserError, match=r"a.gz: fetch.file in params.yaml names it twice"):
        shards.named(["a.gz", "*.gz"])


def test_a_relative_path_starts_in_the_repository_that_dvc_made_a_copy_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, copy, home = (tmp_path / name for name in ("re[po]", "re[po]/.dvc/tmp/exps/one", "home"))
    for folder in (copy, home):
        folder.mkdir(parents=True)
    for path in (repository / "b.gz", repository / "a.gz", home / "c.gz", copy / "d.gz"):
        path.touch()
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.setenv("HOME", str(home))
    assert shards.named("*.gz") == [repository / "a.gz", repository / "b.gz"]
    assert shards.named(["b.gz", "~/c.gz", str(copy / "d.gz"), "none.gz"]) == [
        repository / "b.gz",
        home / "c.gz",
        copy / "d.gz",
        repository / "none.gz",
    ]


@pytest.mark.parametrize("link", ["./a.gz", "symbolic.gz", "hard.gz", "folder/../a.gz", "linked/../a.gz"])
def test_a_file_that_two_names_mean_is_refused_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.gz").touch()
    Path("symbolic.gz").symlink_to("a.gz")
    Path("hard.gz").hardlink_to("a.gz")
    Path("folder").mkdir()
    Path("linked").symlink_to("folder")
    with pytest.raises(
        UserError, match=r"^(.*): fetch.file in params.yaml names it twice, first as (.*); remove one$"
    ) as caught:
        shards.named([str(tmp_path / "a.gz"), link])
    assert str(caught.value).startswith(str(Path(link)))
    assert f"first as {tmp_path / 'a.gz'};" in str(caught.value)


def test_a_url_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"s3://books/a.gz: fetch.file in params.yaml names it twice"):
        shards.named(["s3://books/a.gz", "s3://books/b.gz", "s3://books/a.gz"])


def test_the_shards_are_in_the_order_of_their_numbers_however_many_there_are(tmp_path: Path) -> None:
    numbers = [2, 10, 10_000, 99_999, 100_000, 1_000_000]
    for number in numbers:
        shards.shard_path(tmp_path, number).touch()
    assert shards.paths(tmp_path) == [shards.shard_path(tmp_path, number) for number in numbers]


class Compared(str):
    """A name that counts how often it is compared with another."""

    number = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.number += 1
        return str.__eq__(self, other)


def test_naming_shards_compares_no_name_with_all_others() -> None:
    names = [Compared(f"s3://books/{number}") for number in range(100)]
    assert shards.named(names) == list(map(str, names))
    assert Compared.number <= 2 * len(names)  # each one in the line above


def test_one_file_that_a_glob_matches_is_a_dump_and_several_are_its_shards(folder: Path) -> None:
    paths = write_shards(folder)
    for file, expected in (("part-0*", [paths[0]]), (paths[::-1], paths[::-1]), (paths[1], [paths[1]])):
        set_params(folder, fetch={"source": "file", "file": file})
        fetch.main()
        fetched = [path.read_bytes() for path in shards.paths(fetch.RAW)]
        assert fetched == [Path(path).read_bytes() for path in expected]
        assert fetch.RAW.is_dir() == (len(expected) > 1)
        assert list(fetch.RAW.parent.iterdir()) == [fetch.RAW]


def test_the_digest_is_that_of_the_shards_one_after_the_other(folder: Path) -> None:
    paths = write_shards(folder)
    content = b"".join(Path(path).read_bytes() for path in paths)
    digest = hashlib.sha256(content).hexdigest()
    set_params(folder, fetch={"source": "file", "file": paths, "sha256": digest})
    fetch.main()
    set_params(folder, fetch={"file": paths[::-1]})
    with pytest.raises(UserError, match=f"fetch.sha256 is {digest}, but the content has"):
        fetch.main()


@pytest.mark.long
def test_dvc_takes_a_dump_in_shards_and_then_in_one_file_again(project: Path, tmp_path: Path) -> None:
    whole = project / "data/raw/reviews.json.gz"
    lines = gzip.decompress(whole.read_bytes()).splitlines(keepends=True)
    for number in range(3):
        part = tmp_path / f"part-{number}.json.gz"
        part.write_bytes(gzip.compress(b"".join(lines[5000 * number :][:5000])))
        part.chmod(0o444)  # so that it is linked
    assert len(lines) <= 15_000
    run = runner(project)
    done = run("dvc", "exp", "run", "-S", "fetch.source=file", "-S", f"fetch.file={tmp_path}/part-*.json.gz", "split")
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["check_params", "fetch", "parse_gzip"]  # the same reviews
    assert (whole / "00003.json.gz").samefile(tmp_path / "part-2.json.gz")
    assert (whole / "00003.json.gz").stat().st_nlink == 3  # one copy: ours, the workspace's and the cache's
    run("git", "checkout", "-q", ".")
    run("dvc", "checkout")
    assert whole.is_file()
    assert json.loads(run("dvc", "status", "--json").stdout) == {}
