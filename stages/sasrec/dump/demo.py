"""Writes a dump in the format of Goodreads' spoiler reviews, offline, with the same bytes on every machine.

Users finish series in order, stay with authors and drift between genres: a sequence model can learn that, popularity
cannot. Only integers are drawn, and pyarrow, which is pinned, brings the compressor. So neither the processor nor the
system's zlib can change a byte.
"""

import datetime
import itertools
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
from tqdm import tqdm

NUM_GENRES = 12
FIRST_DAY = datetime.date(2007, 1, 1)
LAST_DAY = datetime.date(2017, 10, 31)
LINES_PER_GZIP_MEMBER = 4096
SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnprstvz" for vowel in "aeiou"]
ODD_SENTENCES = (
    'She said "read it twice", and I did.',
    "Ein Buch über Schuld, Sühne – und Käse.",
    "C:\\novels\\draft is where it should have stayed.",
    "最後の一章がすべて。",
    "Magnifique… mais « trop » long 📚",
)


class ReviewLine(msgspec.Struct):
    """One line of the dump, with its fields in Goodreads' order."""

    user_id: str
    timestamp: str
    review_sentences: list[tuple[int, str]]
    rating: int
    has_spoiler: bool
    book_id: str
    review_id: str


@dataclass(frozen=True)
class Catalogue:
    """The books, by number: a series' books follow one another, and so do an author's series."""

    ids: list[str]
    sequel: list[int]  # the next book of the series, or -1
    author: list[int]
    openers_by_author: list[list[int]]  # first books of series, and single books
    openers_by_genre: list[list[int]]
    cumulative_weights_by_genre: list[list[int]]  # the same openers' popularity, summed up


def write_dump(file: BinaryIO, num_users: int, num_books: int, seed: int) -> None:
    """Write the reviews of `num_users` users as gzip JSON lines; a third of the users have fewer than 10."""
    rng = np.random.default_rng(seed)
    catalogue = make_catalogue(num_books, rng)
    sentences = _make_sentences(rng)
    lines = itertools.chain.from_iterable(
        reviews_of_user(catalogue, sentences, _draw_number(rng), rng)
        for _ in tqdm(range(num_users), desc="demo", unit=" users", unit_scale=True, disable=None)
    )
    while member := list(itertools.islice(lines, LINES_PER_GZIP_MEMBER)):
        file.write(compress(member))


def compress(lines: list[ReviewLine]) -> bytes:
    """Return `lines` as JSON lines in one gzip member."""
    codec = pa.Codec("gzip", compression_level=6)
    return codec.compress(msgspec.json.Encoder().encode_lines(lines), asbytes=True)


def make_catalogue(num_books: int, rng: np.random.Generator) -> Catalogue:
    """Return at least `num_books` books; the last author's series may exceed that number."""
    sequel: list[int] = []
    author: list[int] = []
    openers_by_author: list[list[int]] = []
    openers_by_genre: list[list[int]] = [[] for _ in range(NUM_GENRES)]
    while len(sequel) < num_books or len(openers_by_author) < NUM_GENRES:
        author_genre = len(openers_by_author) % NUM_GENRES  # in turn, so that no genre lacks books
        openers_by_author.append([])
        for _ in range(int(rng.integers(1, 4))):
            length = int(rng.choice([1, 1, 3, 4, 5, 7]))
            opener = len(sequel)
            openers_by_author[-1].append(opener)
            openers_by_genre[author_genre].append(opener)
            sequel += [*range(opener + 1, opener + length), -1]
            author += [len(openers_by_author) - 1] * length
    ids = rng.choice(10**7, size=len(sequel), replace=False) + 1
    cumulative = [_zipf_cumulative(len(openers), rng) for openers in openers_by_genre]
    return Catalogue([str(i) for i in ids.tolist()], sequel, author, openers_by_author, openers_by_genre, cumulative)


def _zipf_cumulative(number: int, rng: np.random.Generator) -> list[int]:
    return np.cumsum(1_000_000 // (rng.permutation(number) + 3)).tolist()


def _make_sentences(rng: np.random.Generator) -> list[str]:
    words = np.array(["".join(rng.choice(SYLLABLES, size=length)) for length in rng.integers(1, 5, size=2000)])
    sentences = [
        " ".join(rng.choice(words, size=length)).capitalize() + "." for length in rng.integers(4, 24, size=4000)
    ]
    return sentences + list(ODD_SENTENCES) * 20


def _draw_number(rng: np.random.Generator) -> int:
    is_casual = rng.integers(3) == 0
    return int(rng.integers(1, 10) if is_casual else 5 + 600 // rng.integers(3, 103))  # 10 to 205, mean 27


def reviews_of_user(
    catalogue: Catalogue, sentences: list[str], number: int, rng: np.random.Generator
) -> Iterator[ReviewLine]:
    """Yield one user's `number` reviews, newest first as in the Goodreads dump."""
    draws = rng.integers(2**31, size=(number, 12)).tolist()
    user_id = rng.bytes(16).hex()
    review_ids = rng.bytes(16 * number).hex()
    books = _draw_books(catalogue, draws)
    days = _draw_days(draws)
    for i in reversed(range(number)):
        chosen = draws[i][7:11][: 1 + draws[i][5] % 4]
        yield ReviewLine(
            user_id,
            days[i],
            [(int(draw % 50 == 0), sentences[draw % len(sentences)]) for draw in chosen],
            draws[i][6] % 6,
            draws[i][6] % 17 == 0,
            catalogue.ids[books[i]],
            review_ids[32 * i : 32 * i + 32],
        )


def _draw_books(catalogue: Catalogue, draws: list[list[int]]) -> list[int]:
    """Return a book for each draw: mostly the last book's sequel, else one by its author, else one of the genre."""
    genre = draws[0][0] % NUM_GENRES
    books: list[int] = []
    read: set[int] = set()
    for whim, drift, choice, *_ in draws:
        if drift % 12 == 0:
            genre = (genre + (1 if drift % 24 else NUM_GENRES - 1)) % NUM_GENRES
        book = _next_book(catalogue, books, read, genre, whim % 100, choice)
        books.append(book)
        read.add(book)
    return books


def _next_book(catalogue: Catalogue, books: list[int], read: set[int], genre: int, whim: int, choice: int) -> int:
    if books and whim == 99:
        return books[choice % len(books)]  # a re-read
    if books and whim < 65:
        sequel = catalogue.sequel[books[-1]]
        if sequel >= 0 and sequel not in read:
            return sequel
    if books and whim < 80:
        unread = [opener for opener in catalogue.openers_by_author[catalogue.author[books[-1]]] if opener not in read]
        if unread:
            return unread[choice % len(unread)]
    openers, cumulative = catalogue.openers_by_genre[genre], catalogue.cumulative_weights_by_genre[genre]
    for attempt in range(8):  # a user who has read all of a genre's favourites reads one again
        opener = openers[bisect_right(cumulative, (choice * (2 * attempt + 1)) % cumulative[-1])]
        if opener not in read:
            break
    return opener


def _draw_days(draws: list[list[int]]) -> list[str]:
    """Return each book's day: often the previous book's, never after LAST_DAY."""
    span = (LAST_DAY - FIRST_DAY).days
    day = draws[0][3] % (span * 2 // 3)
    days = []
    for draw in draws:
        day = min(day + (draw[4] // 4 % 40 if draw[4] % 4 else 0), span)
        days.append((FIRST_DAY + datetime.timedelta(day)).isoformat())
    return days
