import csv
import hashlib
import itertools
import json
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from conftest import parse_gzip_params

from filter_reindex import write_histogram
from sasrec.dump import reviews
from sasrec.interactions.params import FilterReindexParams
from sasrec.interactions.reindex import Tables, reindex

NOTEBOOK_ORDERS = ["newest_first", "book_idx"]
ORDERS = ["newest_first", "oldest_first", "book_idx"]


def table_of(*rows: tuple[str, int, str]) -> ibis.Table:
    """Reviews from (user, day of January 2015, book), in file order."""
    users, days, books = zip(*rows, strict=True)
    columns = {"user_id": users, "timestamp": [date(2015, 1, day) for day in days], "book_id": books}
    return ibis.memtable(pa.table(columns | {"position": range(len(rows))}))


def rows_of(tables: Tables) -> list[tuple[int, int, int]]:
    columns = tables.interactions.to_pyarrow().to_pydict()
    return [(u, day.day, b) for u, day, b in zip(*columns.values(), strict=True)]


def test_indices_follow_first_appearance_among_the_survivors() -> None:
    given = table_of(("lone", 1, "z"), ("b", 2, "y"), ("a", 3, "x"), ("a", 1, "y"), ("b", 1, "w"))
    tables = reindex(given, FilterReindexParams(2, "newest_first"))
    assert tables.users.to_pyarrow()["user_id"].to_pylist() == ["b", "a"]
    assert tables.books.to_pyarrow()["book_id"].to_pylist() == ["y", "x", "w"]
    assert tables.books.to_pyarrow()["num_ratings"].to_pylist() == [2, 1, 1]
    assert rows_of(tables) == [(0, 1, 3), (0, 2, 1), (1, 1, 1), (1, 3, 2)]


@pytest.mark.parametrize(("order", "books"), [("newest_first", [2, 1, 3]), ("book_idx", [1, 2, 3])])
def test_the_order_of_one_day_is_a_param(order: str, books: list[int]) -> None:
    given = table_of(("a", 2, "later"), ("a", 2, "earlier"), ("a", 3, "last"))
    tables = reindex(given, FilterReindexParams(1, order))
    assert [book for _, _, book in rows_of(tables)] == books


@pytest.mark.parametrize("order", ORDERS)
def test_random_reviews_give_what_plain_python_gives(order: str) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{rng.integers(12)}", int(rng.integers(1, 6)), f"b{rng.integers(30)}") for _ in range(150)]
    tables = reindex(table_of(*rows), FilterReindexParams(10, order))
    kept = [row for row in rows if sum(other[0] == row[0] for other in rows) >= 10]
    users = list(dict.fromkeys(user for user, _, _ in kept))
    books = list(dict.fromkeys(book for _, _, book in kept))
    plain = [(users.index(u), day, books.index(b) + 1) for u, day, b in kept]
    in_file = plain[::-1] if order == "newest_first" else plain  # sorting is stable: within a day this order stays
    expected = sorted(plain) if order == "book_idx" else sorted(in_file, key=lambda row: row[:2])
    assert rows_of(tables) == expected


def test_line_order_is_the_order_that_the_format_says() -> None:
    params = FilterReindexParams(1, "line_order")
    assert params.with_line_order("oldest_first") == FilterReindexParams(1, "oldest_first")
    assert FilterReindexParams(1, "book_idx").with_line_order("oldest_first").same_day_order == "book_idx"


def test_seconds_order_a_users_books_and_the_interactions_keep_the_day() -> None:
    times = [datetime(2015, 1, 2, 0, 0, 1), datetime(2015, 1, 1, 23, 59, 59), datetime(2015, 1, 1, 23, 59, 58, 999_000)]
    columns = {"user_id": ["a"] * 3, "book_id": ["x", "y", "z"], "position": range(3)}
    table = pa.table(columns | {"timestamp": pa.array(times, pa.timestamp("ms"))})
    rows = reindex(ibis.memtable(table), FilterReindexParams(1, "oldest_first")).interactions.to_pyarrow()
    assert rows.schema.field("timestamp").type == pa.date32()
    assert rows.to_pydict() == {
        "user_idx": [0] * 3,
        "timestamp": [d.date() for d in sorted(times)],
        "book_idx": [3, 2, 1],
    }


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("duplicates", ["first", "last"])
def test_of_duplicates_the_first_or_last_in_time_stays(order: str, duplicates: str) -> None:
    rng = np.random.default_rng(1)
    rows = [(f"u{rng.integers(3)}", int(rng.integers(1, 4)), f"b{rng.integers(4)}") for _ in range(60)]
    tables = reindex(table_of(*rows), FilterReindexParams(2, order, duplicates=duplicates))
    in_file = list(enumerate(rows))[:: -1 if order == "newest_first" else 1]
    in_time = sorted(in_file, key=lambda row: row[1][1])
    # The later of two equal keys stays in a dict.
    places = {(u, b): place for place, (u, _, b) in (in_time if duplicates == "last" else in_time[::-1])}
    kept = [row for place, row in enumerate(rows) if place in places.values()]
    assert rows_of(tables) == rows_of(reindex(table_of(*kept), FilterReindexParams(2, order)))
    assert tables.users.num_ratings.sum().to_pyarrow().as_py() == len(kept) == len({(u, b) for u, _, b in rows})


def stored(_name: str, table: ibis.Table) -> ibis.Table:
    return ibis.memtable(table.to_pyarrow())


def enough(rows: list[tuple], column: int, least: int) -> set[str]:
    counts = Counter(row[column] for row in rows)
    return {name for name, number in counts.items() if number >= least}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k_core", [False, True])
def test_books_with_few_reviews_are_dropped_once_or_until_nothing_changes(k_core: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, books = rng.geometric(0.08, size=300), rng.geometric(0.05, size=300)
    rows = [(f"u{user}", int(rng.integers(1, 5)), f"b{book}") for user, book in zip(users, books, strict=True)]
    kept, before = rows, None
    while kept != before:
        before = kept
        users_left, books_left = enough(kept, 0, 5), enough(kept, 2, 4)
        kept = [row for row in kept if row[0] in users_left and row[2] in books_left]
        if not k_core:
            break
    assert 0 < len(kept) < len(rows)
    params = FilterReindexParams(5, "newest_first", min_item_ratings=4, k_core=k_core)
    tables = reindex(table_of(*rows), params, stored)
    expected = reindex(table_of(*kept), FilterReindexParams(1, "newest_first"))
    assert rows_of(tables) == rows_of(expected)
    for name in ("users", "books"):
        assert getattr(tables, name).to_pyarrow().equals(getattr(expected, name).to_pyarrow())
    num_of_dump = sum(r * n for r, n in zip(*tables.ratings_per_book.to_pyarrow().to_pydict().values(), strict=True))
    assert num_of_dump == len(rows)


def test_the_histograms_count_every_user_and_book_of_the_dump_in_growing_ranges(tmp_path: Path) -> None:
    reviews_of = {"a": 1, "b": 2, "c": 4, "d": 5, "e": 9, "f": 10, "g": 19, "h": 250}
    given = table_of(*[(user, 1, "x") for user, number in reviews_of.items() for _ in range(number)])
    tables = reindex(given, FilterReindexParams(10, "newest_first"))
    write_histogram(tmp_path / "readers.csv", tables.ratings_per_reader.to_pyarrow())
    assert (tmp_path / "readers.csv").read_text() == "ratings,readers\n1,1\n2-4,2\n5-9,2\n10-19,2\n200-499,1\n"
    assert tables.ratings_per_book.to_pyarrow().to_pydict() == {"ratings": [300], "books": [1]}


def ground_truth(shared: Path, name: str, order: str) -> tuple[dict, pa.Table, Tables]:
    folder = "golden" if name == "ties" else "data"
    batches = reviews.read(shared / folder / f"{name}.json.gz", parse_gzip_params())
    parsed = pa.Table.from_batches([good for good, _ in batches])
    table = ibis.memtable(parsed.append_column("position", pa.array(range(len(parsed)))))
    truth = json.loads((shared / "golden" / f"{name}.json").read_text())
    return truth, parsed, reindex(table, FilterReindexParams(10, order))


@pytest.mark.parametrize(
    ("name", "order"), list(itertools.product(["ties", "goodbooks", "amazon_video"], NOTEBOOK_ORDERS))
)
def test_the_rows_and_counts_are_those_of_the_notebook(shared: Path, name: str, order: str) -> None:
    truth, parsed, tables = ground_truth(shared, name, order)
    rows = tables.interactions.to_pyarrow()
    lines = "".join(f"{u},{day},{b}\n" for u, day, b in zip(*rows.to_pydict().values(), strict=True))
    assert hashlib.sha256(lines.encode()).hexdigest() == truth[f"sha256_{order}"]
    counts = [len(parsed), len(rows), tables.users.count().to_pyarrow().as_py(), tables.books.count().execute()]
    assert counts == [truth[key] for key in ("reviews", "ratings", "users", "books")]


@pytest.mark.parametrize("order", NOTEBOOK_ORDERS)
def test_ties_are_ordered_row_for_row_as_the_notebook_does(shared: Path, order: str) -> None:
    _, _, tables = ground_truth(shared, "ties", order)
    with (shared / "golden" / f"ties_{order}.csv").open() as file:
        expected = [tuple(row) for row in csv.reader(file)][1:]
    columns = tables.interactions.to_pyarrow().to_pydict()
    assert [(str(u), str(day), str(b)) for u, day, b in zip(*columns.values(), strict=True)] == expected
