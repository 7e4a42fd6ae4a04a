"""Any bytes at all: each line of a dump is a review, or is rejected with its number, as the oracle says.

`make test` tries some thousand lines, the same ones each time; `make fuzz` tries FUZZ_LINES others.
"""

import datetime
import gzip
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import parse_gzip_params
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrec.dump import reviews

Row = tuple[str, datetime.date, str, int]

MAX_LINE_BYTES = 2000
LIMITS = parse_gzip_params(max_line_bytes=MAX_LINE_BYTES, max_rejected_fraction=1.0)  # else reading ends early
MIN_LINES = 12  # of a generated dump
NUM_LINES = int(os.environ.get("FUZZ_LINES", "1000"))
SETTINGS = settings(
    max_examples=-(-NUM_LINES // (2 * MIN_LINES)),  # by each of two tests
    derandomize="FUZZ_LINES" not in os.environ,
    database=None,
    deadline=None,
    print_blob=True,
)


class Fields(list):
    """A JSON object, as its (name, value) pairs; json's dict would hide a name that comes twice."""


def oracle(line: bytes) -> Row | None:
    """Return the review that a line is, None where it is none.

    A line is a review exactly if all of this holds:

    - It has at most max_line_bytes bytes, its line feed not counted.
    - It is valid UTF-8 without a byte order mark, all of it, the ignored fields too.
    - It is one JSON value by RFC 8259, which may have space, tab and carriage return around it, and nothing else. So
      there is no NaN or Infinity; numbers of ignored fields may have any size.
    - No string of it, names included, has half a surrogate pair (\\ud800): that is no character, and no UTF-8.
    - It nests at most 500 deep. Deeper ones may be rejected, as Python's recursion limit wants it.
    - It is an object that has the four fields below; names are compared after their escapes are decoded. A field that
      comes twice has its last value, but each of its values must follow the rule.
    - user_id and book_id: strings of 1 to 255 characters. The last value has no control character (Unicode's Cc).
    - timestamp: a string YYYY-MM-DD, ASCII digits, of a day that exists, from 0001-01-01.
    - rating: an integer from 0 to 5, written as one: 3.0, 3e0, "3" and true are none, -0 is 0.

    Other fields are ignored.
    """
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        value = json.loads(line.decode(), object_pairs_hook=Fields, parse_int=integer, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()  # no half of a surrogate pair
        if not isinstance(value, Fields):
            return None
        row = {name: RULES[name](each) for name, each in value if name in RULES}
        user_id, day, book_id, rating = (row[name] for name in RULES)
    except (ValueError, KeyError):  # json's error and those of Unicode are ValueErrors
        return None
    has_control = any(unicodedata.category(character) == "Cc" for character in user_id + book_id)
    return None if has_control else (user_id, day, book_id, rating)


def integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 10 else float("inf")  # int() refuses thousands of digits


def refuse(constant: str) -> None:
    raise ValueError(constant)


def an_id(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 255:
        raise ValueError
    return value


def a_day(value: object) -> datetime.date:
    if not isinstance(value, str) or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError
    return datetime.date(*map(int, value.split("-")))


def a_rating(value: object) -> int:
    if type(value) is not int or not 0 <= value <= 5:
        raise ValueError
    return value


RULES = {"user_id": an_id, "timestamp": a_day, "book_id": an_id, "rating": a_rating}

HOSTILE = [
    *(b'""', b'"\\u0000"', b'"\\u001f"', b'"\\n"', b'"\x7f"', b'"\\u007f"', b'"\\u0085"', b'"\xc2\x85"', b'"\xc2\xa0"'),
    *(b'"\x00"', b'"\x1f"', b'"\t"', b'"\\x41"', b'"\\u12"', b'"\\u+123"', b'"\\"', b'"', b"'a'"),
    *(b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xf0\x9f\x98\x80"'),
    *(b'"\\ud800"', b'"\\udc00"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\ud83d\\ud83d\\ude00"', b'"\\ud83dx"'),
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"null", b"true", b"tru", b"nulll", b"undefined", b""),
    *(b"0", b"-0", b"-1", b"3", b"5", b"6", b"03", b"+3", b"3.", b".5", b"3.0", b"3e0", b"-0.0", b"1e", b"1e+", b"0x3"),
    *(b"1e400", b"1e-400", b"9" * 25, b"-" + b"9" * 400, b"1" * 5000, b"18446744073709551619", b'"3"', b"1-1", b"--1"),
    *(b"[]", b"{}", b"[1,]", b'{"a":1,}', b"{,}", b"[1 2]", b'{"a" 1}', b"{1:2}", b"[}", b"/**/1", b'{"\xff":1}'),
    *(b'{"rating":9}', b'{"a":{"user_id":1}}', b'"' + b"x" * 255 + b'"', b'"' + b"x" * 256 + b'"', b'"' + b"x" * 2000),
    *(b"[" * 300 + b"]" * 300, b'{"a":' * 300 + b"1" + b"}" * 300, b"[" * 300, b"}" * 3),
    *(b'"2015-02-29"', b'"2016-02-29"', b'"1900-02-29"', b'"2015-13-01"', b'"2015-00-10"', b'"2015-04-31"'),
    *(b'"0000-01-01"', b'"0001-01-01"', b'"9999-12-31"', b'"10000-01-01"', b'"2015-1-5"', b'"20150105"'),
    *(b'"2015-01-05T00:00:00"', b'"2015-01-05Z"', b'" 2015-01-05"', b'"2015-01-0\\u0035"', b'"2015-01-0\\uff15"'),
    *('"2015-01-0５"'.encode(), '"２０１５-01-05"'.encode(), b"1420416000", b'"2015-W01-1"', b'"+015-01-05"'),
]
SEPARATORS = [b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b"\r", b"\r\n", b"\n\n", b"\x0b", b"\x0c", b" "]
MARKS = [
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc2\xa0",
    b"\xe2\x80\xa8",
    b"\x00",
    b"//",
    b"#",
    b"}\n{",
    b"}{",
    b"},{",
    b"{}",
]

SPACES = st.sampled_from([b""] * 12 + [b" ", b"\t", b"\r", b" \t\r ", b"\x0b", b"\x0c", b"\xc2\xa0", b"\n"])
SURE_SPACES = st.sampled_from([b"", b"", b"", b" ", b"\t", b"\r"])


def escaped(text: str) -> bytes:
    return b'"' + b"".join(b"\\u%04x" % unit for unit in memoryview(text.encode("utf-16")).cast("H")[1:]) + b'"'


def in_utf_8(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


TEXTS = st.builds(
    lambda text, write: write(text),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6),
    st.sampled_from([escaped, in_utf_8, lambda text: json.dumps(text).encode()]),
)
IDS = st.one_of(st.sampled_from([b'"u1"', b'"b2"', '"é"'.encode(), '"書"'.encode()]), TEXTS)
DAYS = st.dates().map(lambda day: f'"{day.isoformat()}"'.encode())
RATINGS = st.integers(0, 5).map(lambda rating: str(rating).encode())
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
).map(lambda value: json.dumps(value, ensure_ascii=False).encode())
SANE = {b"user_id": IDS, b"timestamp": DAYS, b"book_id": IDS, b"rating": RATINGS}
NAMES = st.sampled_from(
    [*SANE, b"user\\u005fid", b"Rating", b"x", b"", b"\\u0000", b"\xff", b"\\ud800", b"rating\\u0000"]
)
HOSTILE_FIELDS = st.tuples(NAMES, st.one_of(st.sampled_from(HOSTILE), *SANE.values()))
SANE_FIELDS = st.tuples(st.sampled_from([b"review_id", b"review_sentences", "é".encode()]), JSON)


@st.composite
def objects(draw: st.DrawFn, extra: st.SearchStrategy[tuple[bytes, bytes]], spaces: st.SearchStrategy[bytes]) -> bytes:
    """The four fields and some others, in any order, which decides the last value of one that comes twice."""
    fields = [(name, draw(values)) for name, values in SANE.items()] + draw(st.lists(extra, max_size=2))
    space = draw(spaces)
    written = [b'"' + name + b'"' + space + b":" + value for name, value in draw(st.permutations(fields))]
    return space + b"{" + (space + b",").join(written) + b"}" + space


SANE_LINES = objects(SANE_FIELDS, SURE_SPACES)
HOSTILE_LINES = objects(HOSTILE_FIELDS, SPACES)


@st.composite
def replaced(draw: st.DrawFn) -> bytes:
    """An object with the value of a kept field replaced, or the field left out."""
    name = draw(st.sampled_from(list(SANE)))
    fields = {each: draw(values) for each, values in SANE.items() if each != name}
    if value := draw(st.sampled_from(HOSTILE)):
        fields[name] = value
    return b"{" + b",".join(b'"' + name + b'":' + value for name, value in fields.items()) + b"}"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An object with bytes cut out and others put in, at most three times."""
    line = draw(st.one_of(SANE_LINES, HOSTILE_LINES))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(line)))
        put_in = draw(st.one_of(st.sampled_from([*SEPARATORS, *MARKS, *HOSTILE]), st.binary(max_size=2)))
        line = line[:start] + put_in + line[start + draw(st.integers(0, 4)) :]
    return line


SOUP = st.lists(st.sampled_from([*SEPARATORS, *MARKS, *HOSTILE, *SANE]), max_size=8).map(b"".join)
ANY_LINES = st.one_of(SANE_LINES, HOSTILE_LINES, replaced(), damaged(), SOUP, st.binary(max_size=20))


def padded(line: bytes, character: str, num_bytes: int) -> bytes:
    """The object with a field that makes it `num_bytes` long, or a little shorter."""
    room = max(0, num_bytes - len(line) - len(b'"x":"",'))
    return line.replace(b"{", b'{"x":"' + (character * (room // len(character.encode()))).encode() + b'",', 1)


def spread(one: bytes, other: bytes, end: bytes, start: bytes) -> bytes:
    """As many values as lines, and all of them reviews, but the first one on two lines, the others on one."""
    return one[:-1] + b',"x":{"y":1' + end + b"\n" + start + b"}\n" + one + other


LONG_LINES = st.builds(padded, SANE_LINES, st.sampled_from("xé書😀"), st.sampled_from([1900, 1999, 2000, 2001, 9000]))
TRIMMED_LINES = objects(SANE_FIELDS, st.just(b""))  # blocks of them are parsed at once
SPREAD_LINES = st.one_of(
    st.builds(lambda one, other: one + other, TRIMMED_LINES, TRIMMED_LINES),
    st.builds(spread, TRIMMED_LINES, TRIMMED_LINES, st.just(b"}"), st.just(b',"z":1')),
    st.builds(spread, TRIMMED_LINES, TRIMMED_LINES, st.just(b',"z":'), st.just(b"{}}")),
    st.builds(spread, TRIMMED_LINES, TRIMMED_LINES, st.just(b""), st.just(b"}")),
)
CUTS = st.sampled_from([1, 7, 64, 1000, reviews.BLOCK_BYTES])


@st.composite
def dumps(draw: st.DrawFn, lines: st.SearchStrategy[bytes], others: st.SearchStrategy[bytes]) -> bytes:
    """Lines, at least MIN_LINES, and at most three others between them."""
    chosen = draw(st.lists(lines, min_size=MIN_LINES, max_size=MIN_LINES + 4))
    for other in draw(st.lists(others, max_size=3)):
        chosen.insert(draw(st.integers(0, len(chosen))), other)
    return b"\n".join(chosen) + draw(st.sampled_from([b"", b"\n", b"\n", b"\n\n", b"\r\n"]))


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    """Counts what was tried; pytest -s shows it."""
    counts: Counter[str] = Counter()
    yield counts
    print(f"\n{counts.total()} lines tried: {counts['parsed']} parsed, {counts['rejected']} rejected")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "dump.json.gz"


def check(content: bytes, block_bytes: int, path: Path, tally: Counter[str]) -> None:
    """Compare what is read of a dump, in blocks of `block_bytes`, with the oracle, line by line."""
    path.write_bytes(gzip.compress(content, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reviews, "BLOCK_BYTES", block_bytes)
        patch.setattr(reviews, "LINES_AT_ONCE", 3)
        batches = list(reviews.read(path, LIMITS))
    parsed = [tuple(row.values()) for good, _ in batches for row in good.to_pylist()]
    rejected = [row for _, bad in batches for row in bad.to_pylist()]
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    expected = [oracle(line) for line in lines]
    assert parsed == [row for row in expected if row]
    assert [row["line_number"] for row in rejected] == [i for i, row in enumerate(expected, 1) if row is None]
    texts = [line.decode("utf-8", "replace")[:200] for line, row in zip(lines, expected, strict=True) if row is None]
    assert [row["text"] for row in rejected] == texts
    assert all(row["reason"] for row in rejected)
    tally.update(parsed=len(parsed), rejected=len(rejected))


GOOD = {b"user_id": b'"u"', b"timestamp": b'"2015-01-05"', b"book_id": b'"b"', b"rating": b"3", b"other": b"[]"}


@pytest.mark.parametrize("block_bytes", [1, reviews.BLOCK_BYTES])
@pytest.mark.parametrize("field", [name.decode() for name in GOOD])
def test_every_hostile_value_in_every_field(path: Path, tally: Counter[str], field: str, block_bytes: int) -> None:
    for value in HOSTILE:
        fields = GOOD | {field.encode(): value}
        check(b"{" + b",".join(b'"' + each + b'":' + fields[each] for each in fields) + b"}", block_bytes, path, tally)


@pytest.mark.timeout(0)
@SETTINGS
@given(dumps(ANY_LINES, LONG_LINES), CUTS)
def test_lines_of_any_bytes(path: Path, tally: Counter[str], content: bytes, block_bytes: int) -> None:
    check(content, block_bytes, path, tally)


@pytest.mark.timeout(0)
@SETTINGS
@given(dumps(TRIMMED_LINES, st.one_of(SPREAD_LINES, LONG_LINES, ANY_LINES)), CUTS)
def test_good_lines_with_few_others(path: Path, tally: Counter[str], content: bytes, block_bytes: int) -> None:
    check(content, block_bytes, path, tally)
