import errno
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from sasrec.core.errors import UserError
from sasrec.io import files, parquet


def test_a_failure_leaves_the_earlier_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_json(path, 1)
    with pytest.raises(RuntimeError), files.atomic_write(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "1\n"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / "file.txt.1.partial"
    left.write_text("half")
    left.chmod(0o444)
    with files.atomic_write(tmp_path / "file.txt") as partial:
        partial.write_text("whole")
    assert (tmp_path / "file.txt").read_text() == "whole"
    assert not left.exists()


NOT_OURS = [
    "file.txt.notes-impartial",
    "file.txt.old.partial",
    "file.txt.partial",
    "filextxt.1.partial",
    "file.txt.1.partial.b",
]


def test_what_a_killed_run_did_not_leave_stays(tmp_path: Path) -> None:
    for name in NOT_OURS:
        (tmp_path / name).write_text("somebody's")
    (tmp_path / "file.txt.1.partial").mkdir()
    files.write_json(tmp_path / "file.txt", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*NOT_OURS, "file.txt", "file.txt.1.partial"])


def test_a_name_with_a_pattern_in_it_means_itself(tmp_path: Path) -> None:
    for name in ("file.txt", "file.txt.1.partial"):
        (tmp_path / name).write_text("somebody's")
    files.write_json(tmp_path / "*", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["*", "file.txt", "file.txt.1.partial"]


@pytest.mark.parametrize("name", ["folder", "folder/sub/..", "pipe", "/dev/null"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder/sub").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="is no regular file"), files.atomic_write(tmp_path / name):
        pytest.fail("it is written to")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


def test_no_folder_is_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"there is no folder {tmp_path}/missing; make it first"):
        files.write_json(tmp_path / "missing" / "file.txt", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("an object of the cache")
    (tmp_path / "file.txt").symlink_to("cache")
    files.write_json(tmp_path / "file.txt", 1)
    assert (tmp_path / "file.txt").read_text() == "1\n"
    assert (tmp_path / "cache").read_text() == "an object of the cache"


def test_a_run_that_is_killed_while_it_writes_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from sasrec.io import files
with files.atomic_write(Path({str(tmp_path / "file.txt")!r})) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "stages")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_where_a_file_without_a_name_cannot_get_one_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", mock.Mock(side_effect=PermissionError))
    files.write_json(tmp_path / "file.txt", 1)
    assert (tmp_path / "file.txt").read_text() == "1\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "file.txt"]


def test_where_no_file_is_without_a_name_the_partial_one_has_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    with files.atomic_write(tmp_path / "file.txt") as partial:
        partial.write_text("half")
        assert [path.name for path in tmp_path.iterdir()] == [f"file.txt.{os.getpid()}.partial"]
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_and_a_file_take_each_others_place_and_that_of_what_a_killed_run_left(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for names in (["a", "b"], ["c"]):
        (tmp_path / "out.1.partial").mkdir()
        files.write_json(tmp_path / "out.1.partial" / "half", 1)
        with files.atomic_replace(path) as partial:
            partial.mkdir()
            for name in names:
                files.write_json(partial / name, 1)
        assert sorted(path.iterdir()) == [path / name for name in names]
        assert list(tmp_path.iterdir()) == [path]
    with files.atomic_replace(path) as partial:
        files.write_json(partial, 1)
    assert path.read_text() == "1\n"
    with pytest.raises(RuntimeError), files.atomic_replace(path) as partial:
        partial.mkdir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [path]


def test_a_scratch_folder_goes_with_its_block_and_with_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / "scratch.1.partial").mkdir()
    files.write_json(tmp_path / "scratch.1.partial" / "half", 1)
    with pytest.raises(RuntimeError), files.scratch(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == []
        folder.mkdir()
        files.write_json(folder / "some", 1)
        assert list(tmp_path.iterdir()) == [folder]
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_at_any_line_leaves_the_old_or_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_json(path, "old")
    seen: list[str] = []

    def note(frame: FrameType, _event: str, _argument: object) -> object:
        if frame.f_code.co_filename == inspect.getfile(files):
            seen.append(path.read_text())
            return note
        return None

    sys.settrace(note)
    try:
        files.write_json(path, "new" * 100_000)
    finally:
        sys.settrace(None)
    assert len(seen) > 15
    assert seen == sorted(seen, reverse=True)  # the old content, from some line on the new
    assert set(seen) == {'"old"\n', f'"{"new" * 100_000}"\n'}


def test_content_and_name_are_flushed_to_disk_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    files.write_json(tmp_path / "file.txt", 1)
    assert flushed == [(tmp_path / "file.txt").stat().st_ino, tmp_path.stat().st_ino]


def test_two_runs_at_once_do_not_mix_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    with files.atomic_write(path) as partial, partial.open("w") as file:
        file.write("first half, ")
        file.flush()
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            files.write_json(path, "of the other run")
        assert path.read_text() == '"of the other run"\n'
        file.write("second half")
    assert path.read_text() == "first half, second half"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("filename", [None, "what it reads"])
def test_a_full_disk_names_the_output(tmp_path: Path, filename: str | None) -> None:
    with pytest.raises(OSError, match="No space") as caught, files.atomic_write(tmp_path / "file.txt"):
        raise OSError(errno.ENOSPC, "No space left on device", filename)
    assert caught.value.filename == str(tmp_path / "file.txt")


def test_parquet_bytes_depend_on_the_rows_and_not_on_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 100)
    rows = pa.record_batch({"number": range(1234)})
    for name, size in (("a", 1234), ("b", 1), ("c", 150)):
        with parquet.writer(tmp_path / name, rows.schema) as writer:
            for start in range(0, len(rows), size):
                writer.write(rows.slice(start, size))
    assert pq.read_table(tmp_path / "a")["number"].to_pylist() == list(range(1234))
    assert pq.read_metadata(tmp_path / "a").num_row_groups == 13
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_arrow_reads_a_table_here_without_a_file_of_python_s(tmp_path: Path) -> None:
    files.write_json(tmp_path / "file", 1)
    with parquet.opened_here_or_elsewhere(tmp_path / "file") as file:
        assert isinstance(file, pa.NativeFile)
