"""Each shape of dump gives the same histories, whatever compresses and divides it."""

import datetime
import itertools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapes
from conftest import ROOT, committed, parse_gzip_params, set_params
from shapes import COMPRESSORS, HISTORIES, OLDEST_FIRST, SHAPES, write

from sasrec.core.errors import UserError
from sasrec.dump import reviews, shard_pool, tables
from sasrec.dump.formats import PRESETS, DumpFormatParams, Format

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def histories(file: str | list[str], dump_format: dict[str, object], **params: object) -> list[list[int]]:
    """Run the first stages on a dump; return each user's items, by their numbers in the dump."""
    set_params(Path(), fetch={"source": "file", "file": file}, dump_format=dump_format, filter_reindex=params)
    return shapes.histories()


def test_every_preset_has_a_shape_here() -> None:
    assert SHAPES.keys() == PRESETS.keys()


@pytest.mark.parametrize(("preset", "compressor"), [*zip(SHAPES, itertools.cycle(COMPRESSORS), strict=False)])
def test_each_preset_reads_its_shape(folder: Path, preset: str, compressor: str) -> None:
    assert histories(write(folder / "dump", SHAPES[preset], compressor), {"preset": preset}) == HISTORIES


def write_shards(folder: Path, preset: str) -> list[str]:
    """A preset's shape in three files, each of another compression."""
    header = SHAPES[preset][:1] if PRESETS[preset].file == "csv" and PRESETS[preset].header else []
    lines = SHAPES[preset][len(header) :]
    parts = [header + lines[:30], header + lines[30:31], header + lines[31:]]
    return [
        write(folder / f"part-{compressor}", part, compressor)
        for part, compressor in zip(parts, COMPRESSORS, strict=True)
    ]


@pytest.mark.parametrize("preset", SHAPES)
def test_each_preset_reads_shards_of_any_compression(folder: Path, preset: str) -> None:
    assert histories(write_shards(folder, preset), {"preset": preset}) == HISTORIES


@pytest.mark.parametrize("preset", SHAPES)
def test_spark_reads_the_shards_of_each_preset_as_this_process_does(
    folder: Path, spark_session: "SparkSession", preset: str
) -> None:
    shards, section = [Path(path) for path in write_shards(folder, preset)], parse_gzip_params(num_processes=1)
    (folder / "scratch").mkdir()  # as spark.session does
    here = shard_pool.read(shards, section, folder / "none", PRESETS[preset])
    there = shard_pool.read_on_spark(shards, section, folder / "scratch", spark_session, PRESETS[preset])
    rows = [[[good.to_pylist() for good, _bad in batches] for batches in read] for read in (here, there)]
    assert rows[0] == rows[1]


def test_amazons_csv_is_its_preset_with_another_file(folder: Path) -> None:
    lines = ["user_id,parent_asin,rating,timestamp", *(f"{u},{i},{r}.0,{t * 1000}" for u, i, r, t in OLDEST_FIRST)]
    assert histories(write(folder / "dump", lines), {"preset": "amazon_2023", "file": "csv"}) == HISTORIES


CUSTOM = {"preset": "custom", "user": "who", "item": "what", "time": "when"}
TIMES = {
    "timestamps": lambda seconds: pa.array(seconds).cast(pa.timestamp("s")),
    "with a zone": lambda seconds: pa.array(seconds).cast(pa.timestamp("ns", "UTC")),
    "seconds": lambda seconds: pa.array(seconds, pa.uint32()),
    "floats": lambda seconds: pa.array(seconds, pa.float64()),
}


@pytest.mark.parametrize("times", TIMES)
def test_parquet_is_read_with_any_type_of_time(folder: Path, times: str) -> None:
    users, items, _stars, seconds = map(list, zip(*OLDEST_FIRST, strict=True))
    columns = {"what": items, "other": [[1]] * len(items), "when": TIMES[times](seconds)}
    pq.write_table(pa.table(columns | {"who": pa.array(map(str, users)).dictionary_encode()}), folder / "dump")
    assert histories("dump", CUSTOM | {"file": "parquet", "time_format": "epoch_s"}) == HISTORIES


@pytest.mark.parametrize(("time_format", "pattern"), [("iso", "%Y-%m-%dT%H:%M:%SZ"), ("%d.%m.%y %I:%M:%S %p",) * 2])
def test_a_custom_csv_is_read_as_its_keys_say(folder: Path, time_format: str, pattern: str) -> None:
    told = [datetime.datetime.fromtimestamp(t, datetime.UTC).strftime(pattern) for _, _, _, t in OLDEST_FIRST]
    lines = [f'"{told}"; "x"";\n y";{i};{u}' for (u, i, _, _), told in zip(OLDEST_FIRST, told, strict=True)]
    keys = {
        "file": "csv",
        "delimiter": ";",
        "header": False,
        "user": 4,
        "item": 3,
        "time": 1,
        "time_format": time_format,
    }
    lines = [line.replace('; "x', ';"x') for line in lines]
    assert histories(write(folder / "dump", lines), CUSTOM | keys) == HISTORIES


def test_a_dump_that_lists_oldest_first_is_not_reversed(folder: Path) -> None:
    rows = [(user, 100 * user + step) for user in range(1, 5) for step in range(12)]
    lines = [
        json.dumps({"user_id": str(u), "book_id": str(b), "timestamp": "2016-05-01", "rating": 5}) for u, b in rows
    ]
    expected = [[100 * user + step for step in range(12)] for user in range(1, 5)]
    path = write(folder / "dump", lines)
    assert histories(path, {"line_order": "oldest_first"}) == expected
    assert histories(path, {"line_order": None}, same_day_order="oldest_first") == expected
    assert histories(path, {"line_order": "oldest_first"}, same_day_order="newest_first") == [
        each[::-1] for each in expected
    ]


def read(path: Path, dump_format: Format, **limits: object) -> tuple[list[dict], list[dict]]:
    """The rows and the rejected lines of a dump."""
    reader = {"json_lines": reviews.read, "csv": tables.read_csv, "parquet": tables.read_parquet}[dump_format.file]
    batches = list(reader(path, parse_gzip_params(**{"max_rejected_fraction": 1.0} | limits), dump_format))
    return tuple([row for pair in batches for row in pair[kind].to_pylist()] for kind in (0, 1))


def test_a_time_with_a_zone_is_the_writers_own_day_and_second(tmp_path: Path) -> None:
    line = json.dumps({"user_id": "u", "book_id": "b", "rating": 0, "date_added": "Sat Dec 31 23:30:05 -0800 2016"})
    [row], _ = read(Path(write(tmp_path / "dump", [line])), PRESETS["goodreads_reviews"])
    assert row["timestamp"] == datetime.datetime(2016, 12, 31, 23, 30, 5)


def test_ids_are_kept_as_text_and_ratings_as_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "dump", ["userId,movieId,rating,timestamp", "007,a b,4.5,0", "é,1e3,,1.5"])
    rows, rejected = read(Path(path), PRESETS["movielens_csv"])
    assert rejected == []
    assert [(row["user_id"], row["book_id"], row["rating"]) for row in rows] == [
        ("007", "a b", 4.5),
        ("é", "1e3", None),
    ]
    assert rows[1]["timestamp"] == datetime.datetime(1970, 1, 1, 0, 0, 1, 500_000)


def test_a_number_as_an_id_is_its_digits(tmp_path: Path) -> None:
    ids = ["7", "7.0", "12345678901234567890", '"007"', "-1"]
    lines = [f'{{"reviewerID": {each}, "asin": "b", "unixReviewTime": 1, "overall": null}}' for each in ids]
    rows, _ = read(Path(write(tmp_path / "dump", lines)), PRESETS["amazon_2014"])
    assert [row["user_id"] for row in rows] == ["7", "7", "12345678901234567890", "007", "-1"]


def test_a_line_of_another_format_that_is_no_review_is_kept_with_its_number_and_reason(tmp_path: Path) -> None:
    good = {"reviewerID": "u", "asin": "b", "unixReviewTime": 1, "overall": 5.0}
    wrong = [
        {"asin": 1.5},
        {"unixReviewTime": "x"},
        {"unixReviewTime": 1e12},
        {"overall": "x"},
        {"asin": None},
        {"asin": ""},
    ]
    lines = [json.dumps(good | each) for each in [{}, *wrong, {}]]
    rows, rejected = read(Path(write(tmp_path / "dump", [*lines, "", "{"])), PRESETS["amazon_2014"])
    assert (len(rows), [row["line_number"] for row in rejected]) == (2, [2, 3, 4, 5, 6, 7, 9, 10])
    assert [row["reason"].partition(" - at ")[2] for row in rejected[:6]] == [
        f"`{key}`" for each in wrong for key in each
    ]


def params(**changes: object) -> DumpFormatParams:
    return msgspec.convert(committed("dump_format") | changes, DumpFormatParams)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (CUSTOM, "dump_format.file is null, but dump_format.preset is custom"),
        ({"delimiter": ","}, "dump_format.delimiter is ',', but dump_format.file is json_lines, which has none"),
        ({"user": 1}, "dump_format.user is 1, but the columns of json_lines have names"),
        ({"preset": "movielens_1m", "user": "u"}, "dump_format.user is 'u', but dump_format.header is false"),
        ({"preset": "movielens_1m", "item": 1}, "dump_format.item is 1, which another key of dump_format names"),
        ({"time_format": "seconds"}, "dump_format.time_format is 'seconds'; choose one of date, iso, epoch_s"),
        ({"time_format": "%Q"}, "dump_format.time_format is '%Q', which is no pattern of strptime"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        params(**changes)


def test_a_key_beside_a_preset_replaces_its_value() -> None:
    assert params(preset="movielens_csv", delimiter="tab", user="u").format == Format(
        "csv", "u", "movieId", "timestamp", "rating", "epoch_s", "\t", True, "oldest_first"
    )


def test_a_column_that_is_missing_is_named_in_csv_and_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "movieId": [2], "timestamp": [3]}), tmp_path / "dump.parquet")
    for path, kind in (
        (write(tmp_path / "dump", ["a,movieId,timestamp"]), "csv"),
        (tmp_path / "dump.parquet", "parquet"),
    ):
        with pytest.raises(reviews.FormatError, match=r"has no column userId, which dump_format.user names$"):
            read(Path(path), PRESETS["movielens_csv"]._replace(file=kind))


PARQUET = PRESETS["movielens_csv"]._replace(file="parquet")


def test_rows_of_parquet_that_are_no_reviews_are_kept_with_their_numbers_and_values(tmp_path: Path) -> None:
    columns = {
        "userId": ["u", None, "u", "u", "x\n"],
        "movieId": [1.0, 2.0, 2.5, 4.0, 5.0],
        "timestamp": [1, 2, 3, None, 5],
    }
    pq.write_table(pa.table(columns), tmp_path / "dump")
    rows, rejected = read(tmp_path / "dump", PARQUET)
    assert [(row["user_id"], row["book_id"], row["rating"]) for row in rows] == [("u", "1", None)]
    assert [row["line_number"] for row in rejected] == [2, 3, 4, 5]
    assert rejected[1]["text"] == '{"userId": "u", "movieId": 2.5, "timestamp": 3}'
    assert [row["reason"].partition(" - at ")[2] for row in rejected] == [
        "`userId`",
        "`movieId`",
        "`timestamp`",
        "`userId`",
    ]


def test_a_cut_or_changed_parquet_file_is_refused_or_read_whole(tmp_path: Path) -> None:
    columns = {"userId": [str(n) for n in range(500)], "movieId": range(500), "timestamp": range(500)}
    pq.write_table(pa.table(columns), tmp_path / "whole", write_page_checksum=True)
    whole = (tmp_path / "whole").read_bytes()
    changed = [whole[:number] for number in range(0, len(whole), 97)]
    changed += [whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :] for n in range(0, len(whole), 23)]
    for content in changed:
        (tmp_path / "dump").write_bytes(content)
        try:
            rows, rejected = read(tmp_path / "dump", PARQUET)
        except UserError as error:
            assert str(error).startswith(f"{tmp_path / 'dump'}: ")
        else:
            assert len(rows) + len(rejected) == 500


@pytest.mark.parametrize("preset", SHAPES)
def test_one_line_that_is_no_review_changes_no_other(tmp_path: Path, preset: str) -> None:
    """A column at once gives what its values give one by one."""
    dump_format = PRESETS[preset]
    rows, _ = read(Path(write(tmp_path / "dump", SHAPES[preset])), dump_format)
    found, rejected = read(Path(write(tmp_path / "dump", [*SHAPES[preset], "none"])), dump_format)
    assert (found, len(rejected)) == (rows, 1)
