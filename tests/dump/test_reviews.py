import datetime
import gzip
import json
import queue
import shutil
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, parse_gzip_params, review, set_params, write_dump
from isal import igzip_threaded

import parse_gzip
from sasrec.core.errors import UserError
from sasrec.dump import download, reviews


def read(path: Path, **limits: object) -> tuple[list[dict], list[dict]]:
    good, bad = zip(*reviews.read(path, parse_gzip_params(**limits)), strict=True)
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
        (GOOD.replace(b'"user_id"', b'"user"'), "Object missing required field `user_id`"),
        (GOOD.replace(b'"u"', b'"\xff"'), "'utf-8' codec can't decode byte 0xff"),
        (GOOD.replace(b"word", b"\xff"), "'utf-8' codec can't decode byte 0xff"),
        (GOOD.replace(b"word", b"\\ud800"), "JSON is malformed: unexpected end"),
        (GOOD.replace(b'"r"', b"NaN"), "JSON is malformed: invalid character"),
        (b"\xef\xbb\xbf" + GOOD, "JSON is malformed: invalid character (byte 0)"),
        (GOOD.replace(b'"u"', b'"u\\u0000"'), "Control character - at `$.user_id`"),
        (GOOD.replace(b'"b"', b'"\x7f"'), "Control character - at `$.book_id`"),
        (GOOD.replace(b'"b"', '"\x9f"'.encode()), "Control character - at `$.book_id`"),
        (GOOD.replace(b'"b"', b'"' + b"b" * 256 + b'"'), "Expected `str` of length <= 255 - at `$.book_id`"),
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


@pytest.mark.parametrize("beginning", [b'{"x":\n{},', b'{"x":{}\n,'])
def test_as_many_values_as_lines_are_no_reviews_where_a_line_does_not_hold_one(
    tmp_path: Path, beginning: bytes
) -> None:
    spanning, two = GOOD.replace(b"{", beginning, 1), GOOD + GOOD
    good, bad = read(dump_of(tmp_path, GOOD, spanning, two))
    assert len(good) == 1
    assert [row["line_number"] for row in bad] == [2, 3, 4]


def test_a_line_nested_a_million_deep_is_malformed_and_the_next_one_is_read(tmp_path: Path) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = GOOD.replace(b'"r"', opening * 1_000_000 + b"1" + closing * 1_000_000)
        good, bad = read(dump_of(tmp_path, GOOD, deep, GOOD))
        assert (len(good), [row["line_number"] for row in bad]) == (2, [2])


def test_a_line_nested_500_deep_is_read(tmp_path: Path) -> None:
    assert len(read(dump_of(tmp_path, GOOD.replace(b'"r"', b"[" * 499 + b"]" * 499)))[0]) == 1


@pytest.mark.parametrize("block_bytes", [1, 64, 1 << 20])
def test_a_line_of_more_than_the_allowed_bytes_is_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(reviews, "BLOCK_BYTES", block_bytes)
    longest, longer = (GOOD.replace(b"word", "é".encode() * number) for number in (500, 501))
    path = dump_of(tmp_path, longest, longer, longest, longer * 3, longer, end=b"")
    good, bad = read(path, max_line_bytes=len(longest))
    assert len(good) == 2
    assert [row["line_number"] for row in bad] == [2, 4, 5]
    assert {row["reason"] for row in bad} == {f"longer than parse_gzip.max_line_bytes, {len(longest)}"}
    assert {row["text"] for row in bad} == {longer.decode()[:200]}


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    assert len(read(dump_of(tmp_path, GOOD, GOOD, end=b""))[0]) == 2


def test_blocks_cut_anywhere_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"user {i} é" for i in range(200)]
    path = write_dump(tmp_path / "dump.json.gz", [review(user_id=user) for user in users])
    for size in (1, 7, 64, 1 << 20):
        monkeypatch.setattr(reviews, "BLOCK_BYTES", size)
        assert [row["user_id"] for row in read(path)[0]] == users


def test_several_gzip_members_are_one_dump(tmp_path: Path) -> None:
    path = tmp_path / "dump.json.gz"
    path.write_bytes(gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:] + b"\n" + GOOD))
    assert len(read(path)[0]) == 2


def test_the_rest_of_a_dump_is_read_though_the_user_gave_up_waiting_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that inflates may put the rest down, and end, just after the user's wait timed out."""

    class Queue(queue.Queue):
        def get(self, block: bool = True, timeout: float | None = None) -> bytes:
            if timeout and not hasattr(self, "gave_up"):
                self.gave_up = True
                others = set(threading.enumerate()) - before
                for thread in others:
                    thread.join()
                raise queue.Empty
            return super().get(block, timeout)

    before = set(threading.enumerate())
    monkeypatch.setattr(igzip_threaded.queue, "Queue", Queue)
    assert len(read(dump_of(tmp_path, *[GOOD] * 100))[0]) == 100


def test_a_small_file_that_expands_a_thousandfold_is_refused(tmp_path: Path) -> None:
    path = dump_of(tmp_path, b"x" * (65 << 20))
    size = path.stat().st_size
    message = f"dump.json.gz: {size} bytes expand to .* raise parse_gzip.max_expansion in params.yaml, now 200"
    with pytest.raises(UserError, match=message):
        read(path)
    assert len(read(path, max_expansion=1100)[1]) == 1


def test_a_file_that_expands_to_less_than_64_mib_is_read_whatever_the_limit(tmp_path: Path) -> None:
    assert len(read(dump_of(tmp_path, b"x" * (63 << 20)), max_expansion=1)[1]) == 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / parse_gzip.RAW).parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def peak_bytes_of_the_stage(folder: Path) -> tuple[int, str]:
    """Return the largest memory of a run of the stage, and its error.

    A process starts with its parent's peak as its own, so it is started by a small one.
    """
    measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    command = [sys.executable, "-c", measure, sys.executable, str(ROOT / "stages/parse_gzip.py")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024), done.stderr


def test_a_line_of_200_mb_is_rejected_in_bounded_memory(folder: Path) -> None:
    dump_of(folder / parse_gzip.RAW.parent, GOOD, b"x" * 200_000_000, GOOD).rename(parse_gzip.RAW)
    set_params(folder, parse_gzip={"max_expansion": 2000, "max_rejected_fraction": 0.5})
    peak, error = peak_bytes_of_the_stage(folder)
    assert (error, pq.read_table(parse_gzip.REVIEWS).num_rows) == ("", 2)
    [row] = pq.read_table(parse_gzip.REJECTED).to_pylist()
    assert (row["line_number"], row["text"]) == (2, "x" * 200)
    assert peak < 300_000_000


WHOLE = gzip.compress(b"\n".join([GOOD] * 1000), mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "dump.json.gz: is empty$"),
        (b"<html>quota</html>", "dump.json.gz: is neither gzip, zstd, Parquet, JSON lines nor CSV$"),
        (b"PK\x03\x04\0\0", "dump.json.gz: is neither gzip, zstd, Parquet, JSON lines nor CSV$"),
        (WHOLE[:-1], "dump.json.gz: the gzip data end too early"),
        (WHOLE[:50], "dump.json.gz: the gzip data end too early"),
        (WHOLE[:-8] + zlib.crc32(b"other").to_bytes(4, "little") + WHOLE[-4:], "dump.json.gz: not intact gzip"),
    ],
)
def test_a_damaged_dump_is_named_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "dump.json.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(path)


def with_header(name: bytes = b"", comment: bytes = b"", extra: bytes = b"") -> bytes:
    """A dump of one review whose header holds all that RFC 1952 knows, and its checksum."""
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + len(extra).to_bytes(2, "little") + extra + name + b"\0" + comment + b"\0"
    checksum = (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    return header + checksum + gzip.compress(GOOD, mtime=0)[10:]


@pytest.mark.parametrize("header", [{"name": b"n" * 600_000}, {"comment": b"c" * 600_000}, {"extra": b"x" * 65_535}])
def test_a_long_header_is_read_wherever_it_is(tmp_path: Path, header: dict[str, bytes]) -> None:
    path = tmp_path / "dump.json.gz"
    path.write_bytes(gzip.compress(GOOD + b"\n") + with_header(**header))
    assert len(read(path)[0]) == 2
    download.check_intact(path)


@pytest.mark.parametrize(
    "content",
    [
        with_header(name=b"n" * 9_000_000),
        with_header(name=b"n" * 9_000_000)[:8_500_000],
        with_header(comment=b"c").replace(b"c", b"d", 1),
        gzip.compress(GOOD, mtime=0)[:10] + b"\xff" * 30,  # a kind of block that there is not
        gzip.compress(GOOD, mtime=0)[:-1],
    ],
)
def test_what_no_header_and_no_block_may_be_is_refused_here_and_as_a_download(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dump.json.gz"
    path.write_bytes(content)
    for read_all in (read, download.check_intact):
        with pytest.raises(UserError, match=r"not intact gzip|end too early"):
            read_all(path)


def test_memory_and_time_stay_small_however_many_lines_a_block_holds(folder: Path) -> None:
    parse_gzip.RAW.write_bytes(gzip.compress(b"\n" * 600_000))
    sizes = [
        len(rejected) for _good, rejected in reviews.read(parse_gzip.RAW, parse_gzip_params(max_rejected_fraction=1))
    ]
    assert sum(sizes) == 600_000
    assert max(sizes) == reviews.LINES_AT_ONCE
    with pytest.raises(
        UserError, match=rf"{sizes[0]} of the first {sizes[0]} lines are no reviews \(line 1: blank line; "
    ):
        parse_gzip.main()


SHORT = json.dumps(review()).encode()
FIRST, SECOND = (gzip.compress(part, mtime=0) for part in (SHORT + b"\n" + SHORT[:9], SHORT[9:] + b"\n" + SHORT))


def outcome(content: bytes) -> list[int] | str:
    """Run the stage; return the numbers of its rows, or what it says, having left no file behind."""
    parse_gzip.RAW.write_bytes(content)
    shutil.rmtree(parse_gzip.REVIEWS.parent, ignore_errors=True)
    try:
        parse_gzip.main()
    except UserError as error:
        assert list(parse_gzip.REVIEWS.parent.iterdir()) == []
        return str(error)
    return [pq.read_table(path).num_rows for path in (parse_gzip.REVIEWS, parse_gzip.REJECTED)]


def test_a_dump_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dump.json.gz"
    whole = FIRST + SECOND
    said = set()
    for num_bytes in set(range(1, len(whole))) - {len(FIRST)}:
        path.write_bytes(whole[:num_bytes])
        with pytest.raises(reviews.DamagedError) as refused:
            read(path)
        said.add(str(refused.value))
    assert said == {f"{path}: the gzip data end too early or with garbage"}


def test_of_a_dump_that_is_cut_off_nothing_is_written(folder: Path) -> None:
    set_params(folder, parse_gzip={"max_rejected_fraction": 0.5})
    whole = FIRST + SECOND
    assert outcome(whole) == [3, 0]
    assert outcome(FIRST) == [1, 1]  # a whole gzip file, whose last line is cut off
    for num_bytes in (1, len(FIRST) - 1, len(FIRST) + 1, len(whole) - 1):
        assert outcome(whole[:num_bytes]).startswith(f"{parse_gzip.RAW}: the gzip data end too early or with garbage;")


def test_a_dump_with_any_bit_flipped_is_refused_or_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "dump.json.gz"
    whole = FIRST + SECOND
    num_read = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            rows = [len(rows) for rows in read(path)]
        except UserError as error:
            assert "dump.json.gz: " in str(error)
        else:
            assert rows == [3, 0]
            num_read += 1
    assert num_read < 2 * 8 * 8  # a header's flags, time and system, and the bits that fill a last byte


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (gzip.compress(b"", mtime=0) + FIRST + SECOND + gzip.compress(b"", mtime=0), [3, 0]),
        (FIRST + SECOND + b"\0" * 100, [3, 0]),  # padding, as tapes have it
        (FIRST + b"\0" * 100 + SECOND, [3, 0]),
        (FIRST[:3] + b"\x08" + FIRST[4:10] + b"name\0" + FIRST[10:] + SECOND, [3, 0]),
    ],
)
def test_members_padding_and_a_name_in_the_header_lose_no_line(folder: Path, content: bytes, rows: list[int]) -> None:
    assert outcome(content) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FIRST + SECOND + b"garbage", "end too early or with garbage"),
        (FIRST + SECOND + b"\n", "end too early or with garbage"),
        (FIRST + SECOND + FIRST[:1], "end too early or with garbage"),
        (FIRST + SHORT, "Not a gzipped file"),
        (FIRST[:-8] + SECOND[-8:-4] + FIRST[-4:] + SECOND, "CRC check failed"),
        (FIRST[:-4] + (999).to_bytes(4, "little") + SECOND, "Incorrect length of data"),
        (FIRST + SECOND[:-4] + (999).to_bytes(4, "little"), "Incorrect length of data"),
        (FIRST + SECOND[:10] + b"\xff" * 20, "not intact gzip"),
    ],
)
def test_what_is_wrong_with_a_member_is_said(folder: Path, content: bytes, message: str) -> None:
    assert message in outcome(content)
