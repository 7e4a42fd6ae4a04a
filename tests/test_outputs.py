from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sasrec import outputs


def test_a_failure_leaves_the_earlier_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file.txt"
    outputs.write_json(path, 1)
    with pytest.raises(RuntimeError), outputs.whole(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "1\n"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / "file.txt.partial"
    left.write_text("half")
    left.chmod(0o444)
    with outputs.whole(tmp_path / "file.txt") as partial:
        partial.write_text("whole")
    assert (tmp_path / "file.txt").read_text() == "whole"
    assert not left.exists()


def test_parquet_bytes_depend_on_the_rows_and_not_on_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "ROWS_PER_GROUP", 100)
    rows = pa.record_batch({"number": range(1234)})
    for name, size in (("a", 1234), ("b", 1), ("c", 150)):
        with outputs.parquet(tmp_path / name, rows.schema) as writer:
            for start in range(0, len(rows), size):
                writer.write(rows.slice(start, size))
    assert pq.read_table(tmp_path / "a")["number"].to_pylist() == list(range(1234))
    assert pq.read_metadata(tmp_path / "a").num_row_groups == 13
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
