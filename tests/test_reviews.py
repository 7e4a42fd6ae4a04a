import datetime
import gzip
import json
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import review, write_dump

from sasrec import reviews
from sasrec.errors import UserError


def read(path: Path) -> tuple[list[dict], list[dict]]:
    good, bad = zip(*reviews.read(path), strict=True)
    return pa.Table.from_batches(good).to_pylist(), pa.Table.from_batches(bad).to_pylist()


def dump_of(tmp_path: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    path = tmp_path / "dump.json.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines) + end))
    return path


GOOD = json.dumps(review(review_sentences=[[0, 'a "quoted" word']], review_id="r")).encode()


def test_a_line_keeps_user_day_book_and_rating(tmp_path: Path) -> None:
    good, bad = read(dump_of(tmp_path, GOOD))
    assert good == [{"user_id": "u", "timestamp": datetime.date(2015, 1, 5), "book_id": "b", "rating": 3}]
    assert bad == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "blank line"),
        (b"{", "Input data was truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (GOOD + GOOD, "JSON is malformed: trailing characters"),
        (GOOD.replace(b'"b"', b"7"), "Expected `str`, got `int` - at `$.book_id`"),
        (GOOD.replace(b'"b"', b'""'), "Expected `str` of length >= 1 - at `$.book_id`"),
        (GOOD.replace(b"2015-01-05", b"2015-02-30"), "Invalid RFC3339 encoded date - at `$.timestamp`"),
        (GOOD.replace(b'"rating": 3', b'"rating": 6'), "Expected `int` <= 5 - at `$.rating`"),
        (GOOD.replace(b'"user_id"', b'"reader"'), "Object missing required field `user_id`"),
        (GOOD.replace(b'"u"', b'"\xff"'), "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_malformed_line_is_kept_with_its_number_and_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    good, bad = read(dump_of(tmp_path, GOOD, line, GOOD))
    assert len(good) == 2
    assert [row["line_number"] for row in bad] == [2]
    assert bad[0]["reason"].startswith(reason)
    assert bad[0]["text"] == line.decode("utf-8", "replace")[:200]


def test_a_value_that_spans_two_lines_is_two_malformed_lines(tmp_path: Path) -> None:
    good, bad = read(dump_of(tmp_path, GOOD.replace(b", ", b",\n", 1)))
    assert good == []
    assert [row["line_number"] for row in bad] == [1, 2]


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    assert len(read(dump_of(tmp_path, GOOD, GOOD, end=b""))[0]) == 2


def test_blocks_cut_anywhere_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"reader {i} é" for i in range(200)]
    path = write_dump(tmp_path / "dump.json.gz", [review(user_id=user) for user in users])
    for size in (1, 7, 64, 1 << 20):
        monkeypatch.setattr(reviews, "BLOCK_BYTES", size)
        assert [row["user_id"] for row in read(path)[0]] == users


def test_several_gzip_members_are_one_dump(tmp_path: Path) -> None:
    path = tmp_path / "dump.json.gz"
    path.write_bytes(gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:] + b"\n" + GOOD))
    assert len(read(path)[0]) == 2


WHOLE = gzip.compress(b"\n".join([GOOD] * 1000), mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "dump.json.gz: is empty; remove it"),
        (b"<html>quota</html>", "dump.json.gz: not intact gzip"),
        (WHOLE[:-1], "dump.json.gz: the gzip data end too early"),
        (WHOLE[:50], "dump.json.gz: the gzip data end too early"),
        (WHOLE[:-8] + zlib.crc32(b"other").to_bytes(4, "little") + WHOLE[-4:], "dump.json.gz: not intact gzip"),
    ],
)
def test_a_damaged_dump_is_named_with_the_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "dump.json.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(path)
