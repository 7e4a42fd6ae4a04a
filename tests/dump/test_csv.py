"""Any bytes at all as CSV: each record is a review, or is rejected with its number, as Python's csv module says."""

import csv
import gzip
import io
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import parse_gzip_params

from sasrec.core.errors import UserError
from sasrec.dump import columns, reviews, tables
from sasrec.dump.formats import PRESETS, Format

FORMAT = PRESETS["movielens_csv"]
HEADER = "userId,movieId,rating,timestamp\n"
MAX_LINE_BYTES = 1000


def read(path: Path, content: bytes, dump_format: Format = FORMAT, **limits: object) -> tuple[list[dict], list[dict]]:
    path.write_bytes(content)
    params = parse_gzip_params(**{"max_rejected_fraction": 1.0, "max_line_bytes": MAX_LINE_BYTES} | limits)
    batches = list(tables.read_csv(path, params, dump_format))
    return tuple([row for pair in batches for row in pair[kind].to_pylist()] for kind in (0, 1))


def records(content: bytes) -> Iterator[list[str] | None]:
    """What Python's csv module finds in the bytes; None where it finds no record."""
    reader = csv.reader(io.StringIO(content.decode("latin-1"), newline="\n"), strict=True)
    while True:
        try:
            yield next(reader)
        except csv.Error:
            yield None
        except StopIteration:
            return


def oracle(record: list[str] | None) -> tuple[str, str] | None:
    """The user and item of a record that is a review, None of another."""
    if record is None or len(record) != 4:
        return None
    try:
        user, item, rating, time = (field.encode("latin-1").decode() for field in record)
        if rating:
            columns.a_rating(rating)
        return columns.an_id(user), columns.an_id(item), columns.a_time("epoch_s", time)
    except ValueError:
        return None


IDS = ["1", "02", "é", '"3"', '"a,b"', '"say ""so"""', '"two\nlines"', '""', "", "x" * 256, "\x7f", " ", "4 "]
RATINGS = ["5", "3.5", "", '""', "nan", "inf", "1e400", " 4", "4 ", " ", "five", "0x1", "1_0", '"4"', "NA", "+2", "."]
TIMES = ["978300760", "978300760.0", "1e9", " 7 ", "", "-1", "1e20", "now", '"5"', "0x5", "NaN", "9" * 400]
NOISE = ['"', ",", "\n", "\r\n", "\r", '""', '",', ',"', "\n\n", "\0", "\ufeff", "\x1f", '"a"b', "x" * 1200, "\udcff"]


def a_line(rng: random.Random, hostile: float) -> str:
    def rarely(values: list[str]) -> str:
        return rng.choice(values) if rng.random() < hostile else values[0]

    line = ",".join([rarely(IDS), rarely(IDS), rarely(RATINGS), rarely(TIMES)])
    if rng.random() < hostile / 2:
        start = rng.randrange(len(line) + 1)
        line = line[:start] + rng.choice(NOISE) + line[start + rng.randrange(3) :]
    return line


@pytest.mark.parametrize("seed", range(150))
def test_records_of_any_bytes_are_what_the_csv_module_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    hostile = rng.choice([0.0, 0.02, 0.3])
    lines = "".join(a_line(rng, hostile) + rng.choice(["\n", "\n", "\r\n"]) for _ in range(30))
    sane = "1,2,3,4\n" * 64  # a file that begins with a NUL is refused
    content = (HEADER + sane + lines).encode("utf-8", "surrogateescape")
    monkeypatch.setattr(reviews, "BLOCK_BYTES", rng.choice([1, 7, 64, 1 << 19]))
    monkeypatch.setattr(tables, "LINES_AT_ONCE", 3)
    rows, rejected = read(tmp_path / "dump", content, max_line_bytes=1 << 20)
    expected = [oracle(record) for record in records(content)][1:]
    found = [(row["user_id"], row["book_id"], columns.a_time("iso", row["timestamp"].isoformat())) for row in rows]
    assert found == [row for row in expected if row]
    assert [row["line_number"] for row in rejected] == [i for i, row in enumerate(expected, 2) if row is None]
    assert all(row["reason"] for row in rejected)


def test_quotes_that_enclose_fields_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_fault", None)  # which reading one by one calls
    lines = '"1","a,b",4,7\n2,"say ""so""",4,"7"\n' * 50
    assert len(read(tmp_path / "dump", (HEADER + lines).encode(), max_line_bytes=1 << 20)[0]) == 100


@pytest.mark.parametrize("delimiter", ["::", "é", ";", "tab"])
def test_any_delimiter_divides_the_columns(tmp_path: Path, delimiter: str) -> None:
    mark = "\t" if delimiter == "tab" else delimiter
    shape = PRESETS["movielens_1m"]._replace(delimiter=mark)
    content = "".join(f"{user}{mark}b{mark}4{mark}7\n" for user in ("1", "\x1f", "2")).encode() + b"3"
    rows, rejected = read(tmp_path / "dump", content, shape)
    assert [row["user_id"] for row in rows] == ["1", "2"]
    assert [row["reason"] for row in rejected] == ["Control character - at `1`", "Expected 4 columns, got 1"]


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 19])
def test_a_huge_line_or_field_is_one_rejected_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(reviews, "BLOCK_BYTES", block_bytes)
    good = "1,2,3,4\n"
    content = HEADER + good + "x" * 5000 + '"\n' + good * 2 + '"' + good * 200 + '5,6,1,"78'
    rows, rejected = read(tmp_path / "dump", content.encode())
    assert len(rows) == 3 + 200 - 126  # the field with the open quote has 1000 bytes, and ends with its line
    assert [row["line_number"] for row in rejected] == [3, 6, 7 + 200 - 126]
    reasons = [row["reason"] for row in rejected]
    assert reasons == [f"longer than parse_gzip.max_line_bytes, {MAX_LINE_BYTES}"] * 2 + ["unexpected end of data"]


@pytest.mark.long
def test_memory_stays_bounded_by_the_longest_record(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(gzip.compress((HEADER + '"').encode() + b"1,2,3,4\n" * 8_000_000, 1))
    params = parse_gzip_params(max_rejected_fraction=1.0, max_line_bytes=1 << 20)
    tracemalloc.start()
    sizes = [(len(good), len(bad)) for good, bad in tables.read_csv(path, params, FORMAT)]
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert sum(bad for _, bad in sizes) > 0


def test_a_file_with_a_header_alone_or_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert read(tmp_path / "dump", HEADER.encode()) == ([], [])
    assert len(read(tmp_path / "dump", ("\ufeff" + HEADER + "1,2,3,4").encode())[0]) == 1


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_cut_or_changed_zstd_file_is_refused(tmp_path: Path, cut: int) -> None:
    import pyarrow as pa

    whole = pa.Codec("zstd").compress((HEADER + "1,2,3,4\n" * 1000 + IDS[9]).encode(), asbytes=True)
    assert len(whole) > cut
    with pytest.raises(UserError, match="dump: not intact zstd"):
        read(tmp_path / "dump", whole[:-cut])


def test_a_file_full_of_malformed_lines_is_read_to_its_checksum(tmp_path: Path) -> None:
    """Only the checksum tells damage from malformed lines."""
    malformed = gzip.compress((HEADER + "1,2,3\n" * 2_000_000).encode(), mtime=0)
    assert len(read(tmp_path / "dump", malformed, max_rejected_fraction=0)[1]) < 2_000_000
    damaged = malformed[:-8] + bytes(8)
    with pytest.raises(reviews.DamagedError):
        read(tmp_path / "dump", damaged, max_rejected_fraction=0)
