"""The same made-up interactions in the shape of each preset, and the histories that they hold."""

import datetime
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import fetch
import filter_reindex
import parse_gzip

Row = tuple[int, int, int, int]  # user, item, stars, second


def made_up() -> list[list[Row]]:
    """Each user's rows, oldest first: 12 items, most on one day, each at a second of its own."""
    rng = random.Random(0)
    users = []
    for user in range(1, 21):
        second = rng.randrange(1_200_000_000, 1_500_000_000)
        rows = []
        for item in rng.sample(range(1, 60), 12):
            second += rng.choice([61, 3_607, 86_411])
            rows.append((user, item, rng.randrange(1, 6), second))
        users.append(rows)
    return users


USERS = made_up()
OLDEST_FIRST = [row for rows in USERS for row in rows]
NEWEST_FIRST = [row for rows in USERS for row in reversed(rows)]
HISTORIES = [[item for _, item, _, _ in rows] for rows in USERS]


def in_california(second: int) -> str:
    zone = datetime.timezone(datetime.timedelta(hours=-7))
    return datetime.datetime.fromtimestamp(second, zone).strftime("%a %b %d %H:%M:%S %z %Y")


def a_day(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.UTC).date().isoformat()


def json_lines(rows: list[Row], shape: Callable[[int, int, int, int], object]) -> list[str]:
    return [json.dumps(shape(*row)) for row in rows]


def goodreads(time: str, told: Callable[[int], str]) -> list[str]:
    return json_lines(
        NEWEST_FIRST,
        lambda u, i, r, t: {"user_id": str(u), "book_id": str(i), "rating": r, time: told(t), "text": "a, é"},
    )


SHAPES = {
    "goodreads_spoiler": goodreads("timestamp", a_day),
    "goodreads_reviews": goodreads("date_added", in_california),
    "goodreads_interactions": goodreads("date_added", in_california),
    "amazon_2014": json_lines(
        OLDEST_FIRST,
        lambda u, i, r, t: {"reviewerID": str(u), "asin": str(i), "overall": float(r), "unixReviewTime": t},
    ),
    "amazon_2023": json_lines(
        OLDEST_FIRST,
        lambda u, i, r, t: {"user_id": str(u), "parent_asin": str(i), "rating": r, "timestamp": t * 1000 + 7},
    ),
    "movielens_csv": ["userId,movieId,rating,timestamp", *(f"{u},{i},{r - 0.5},{t}" for u, i, r, t in OLDEST_FIRST)],
    "movielens_1m": [f"{u}::{i}::{r}::{t}" for u, i, r, t in OLDEST_FIRST],
    "movielens_100k": [f"{u}\t{i}\t{r}\t{t}" for u, i, r, t in OLDEST_FIRST],
    "recbole": [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        *(f"{u}\t{i}\t{float(r)}\t{float(t)}" for u, i, r, t in OLDEST_FIRST),
    ],
}
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "zstd": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


def write(path: Path, lines: list[str], compressor: str = "plain") -> str:
    path.write_bytes(COMPRESSORS[compressor]("".join(f"{line}\n" for line in lines).encode()))
    return str(path)


def histories() -> list[list[int]]:
    """Run the first stages in this folder; return each user's items, by their numbers in the dump."""
    fetch.main()
    parse_gzip.main()
    filter_reindex.main()
    return histories_found(Path())


def histories_found(project: Path) -> list[list[int]]:
    """What the first stages wrote."""
    tables = (filter_reindex.BOOKS, filter_reindex.USERS, filter_reindex.INTERACTIONS)
    books, users, interactions = (pq.ParquetFile(project / path).read().to_pydict() for path in tables)
    found: list[list[int]] = [[] for _ in users["user_id"]]
    for user, book in zip(interactions["user_idx"], interactions["book_idx"], strict=True):
        found[user].append(int(books["book_id"][book - 1]))
    return found
