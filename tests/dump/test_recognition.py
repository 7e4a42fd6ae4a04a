"""A dump that is not written as the params say is recognised, and the advice, when it is followed, reads it."""

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from shapes import HISTORIES, OLDEST_FIRST, SHAPES
from test_formats import CUSTOM, histories, write

from sasrec.core.errors import UserError

USERS, ITEMS, STARS, SECONDS = map(list, zip(*OLDEST_FIRST, strict=True))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(file: str | list[str], keys: dict[str, object] | None = None) -> str:
    with pytest.raises(UserError) as refused:
        histories(file, keys or {})
    return str(refused.value)


def advised(message: str) -> dict[str, object]:
    """The keys of dump_format after -S in the message, as DVC reads them after a shell."""
    (command,) = re.findall("add `(.*?)` to `dvc exp run`", message)
    arguments = re.findall(r"-S (?:'(.*?)'|(\S+))", command)
    parsed = OverridesParser.create().parse_overrides([quoted or plain for quoted, plain in arguments])
    return {each.key_or_group.removeprefix("dump_format."): each.value() for each in parsed}


def csv(delimiter: str, header: str = "userId movieId rating timestamp") -> list[str]:
    rows = [header.split(), *([str(value) for value in row] for row in OLDEST_FIRST)]
    return [delimiter.join(row) for row in rows]


@pytest.mark.parametrize("preset", [name for name in SHAPES if name != "goodreads_spoiler"])
def test_the_shape_of_each_preset_is_recognised_and_the_advice_reads_it(folder: Path, preset: str) -> None:
    path = write(folder / "my dump", SHAPES[preset], "gzip")
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert "max_rejected_fraction" not in message
    looks = preset.replace("goodreads_interactions", "goodreads_reviews")  # the two differ in no column that is read
    assert advised(message) == {"preset": looks}
    assert histories(path, advised(message)) == HISTORIES


@pytest.mark.parametrize("delimiter", ["\t", ";", "::", "|"])
def test_a_preset_with_another_delimiter_is_recognised(folder: Path, delimiter: str) -> None:
    path = write(folder / "dump", csv(delimiter))
    found = advised(refusal(path))
    assert found["preset"] == "movielens_csv"
    assert histories(path, found) == HISTORIES


def test_a_preset_in_parquet_is_recognised(folder: Path) -> None:
    pq.write_table(pa.table({"userId": USERS, "movieId": ITEMS, "timestamp": SECONDS}), "dump")
    found = advised(refusal("dump"))
    assert found == {"preset": "movielens_csv", "file": "parquet"}
    assert histories("dump", found) == HISTORIES


@pytest.mark.parametrize(("told", "meant"), [("date", "epoch_s"), ("iso", "epoch_s"), ("epoch_s", "iso")])
def test_another_form_of_the_time_is_recognised(folder: Path, told: str, meant: str) -> None:
    rows = {"epoch_s": SECONDS, "iso": pa.array(SECONDS).cast(pa.timestamp("s")).cast(pa.string()).to_pylist()}
    lines = [
        json.dumps({"who": user, "what": item, "when": time})
        for user, item, time in zip(USERS, ITEMS, rows[meant], strict=True)
    ]
    path, keys = write(folder / "dump", lines), CUSTOM | {"file": "json_lines"}
    found = advised(refusal(path, keys | {"time_format": told}))
    assert found == {"time_format": meant}
    assert histories(path, keys | found) == HISTORIES


def test_keys_that_do_not_go_with_the_preset_are_set_to_null(folder: Path) -> None:
    path = write(folder / "dump", csv(","))
    keys = {"preset": "amazon_2014", "user": "reviewer", "line_order": "newest_first"}
    assert advised(refusal(path, keys)) == {"preset": "movielens_csv", "user": None, "line_order": None}


def test_seconds_in_the_place_of_the_rating_are_no_preset(folder: Path) -> None:
    path = write(folder / "dump", [f"{user},{item},{time},{stars}" for user, item, stars, time in OLDEST_FIRST])
    assert "it has the columns" in refusal(path)


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        ([json.dumps({"who": 1, "what": 2})], "who, what"),
        (csv(";", "reader book stars day"), "reader, book, stars, day"),
        (["{}"], "of no name"),
        (["some", "text"], "some"),
    ],
)
def test_the_columns_of_an_unknown_shape_are_named_with_the_page_that_helps(
    folder: Path, lines: list[str], columns: str
) -> None:
    message = refusal(write(folder / "dump", lines))
    assert f"it has the columns {columns}; name them in section dump_format, as docs/your-data.md shows" in message
    assert "max_rejected_fraction" not in message


@pytest.mark.parametrize("indent", [None, 2])
def test_json_over_several_lines_is_told_from_json_lines(folder: Path, indent: int | None) -> None:
    text = json.dumps([{"user_id": "u"}] * 5, indent=indent).replace("}, {", "},\n{")
    message = refusal(write(folder / "dump", text.splitlines()))
    assert message.endswith(
        "it is JSON over several lines; write one object a line, as `jq --compact-output '.[]'` does"
    )


def test_a_column_that_is_missing_is_named_with_those_that_there_are(folder: Path) -> None:
    message = refusal(write(folder / "dump", csv(",", "reader book stars day")), {"preset": "movielens_csv"})
    assert "dump: has no column userId, which dump_format.user names; it has the columns reader, book, stars" in message


def test_the_shard_that_has_another_format_is_named(folder: Path) -> None:
    names = [write(folder / "first", csv(",")), write(folder / "second", SHAPES["movielens_1m"])]
    message = refusal(names, {"preset": "movielens_csv"})
    assert message.startswith(f"{names[1]}: has no column userId")
    assert advised(message) == {"preset": "movielens_1m"}


def test_a_few_malformed_lines_are_no_other_format(folder: Path) -> None:
    path = write(folder / "dump", [*csv(","), *[""] * 20])
    message = refusal(path, {"preset": "movielens_csv"})
    assert message.startswith(f"{path}: 20 of the first 260 lines are no reviews (line 242: blank line; ")
    assert "mend the file, or raise parse_gzip.max_rejected_fraction" in message


def test_a_column_of_lists_is_none_that_can_be_read(folder: Path) -> None:
    pq.write_table(pa.table({"userId": [[1]], "movieId": [2], "timestamp": [3]}), "dump")
    message = refusal("dump", {"preset": "movielens_csv", "file": "parquet"})
    assert "dump: has list<element: int64>, neither text, numbers nor times, in the column userId; it has" in message
