"""Filters, re-indexes and orders reviews in one Ibis expression, which any Ibis engine can run."""

from collections.abc import Callable
from typing import NamedTuple

import ibis
from ibis import _
from ibis.expr.types import Table

from sasrec.interactions.params import FilterReindexParams


class Tables(NamedTuple):
    """The expression's tables; the README describes the columns."""

    users: Table  # user_idx, user_id, num_ratings, ordered by user_idx (from 0)
    books: Table  # book_idx, book_id, num_ratings, ordered by book_idx (from 1: 0 pads histories)
    interactions: Table  # user_idx, timestamp, book_idx, in the order in which each user read
    ratings_per_reader: Table  # ratings, readers: how many users of the dump have that many reviews
    ratings_per_book: Table  # ratings, books: the same for books


Store = Callable[[str, Table], Table]
"""Returns the rows of a named expression; an engine may compute them once and keep them."""


def lazily(_name: str, table: Table) -> Table:
    """Return `table` unchanged, so that each use computes it again."""
    return table


def num_rows(table: Table) -> int:
    """Return the number of rows of `table`, which is computed for that."""
    return table.count().to_pyarrow().as_py()


def reindex(
    reviews: Table, params: FilterReindexParams, store: Store = lazily, num_rows: Callable[[Table], int] = num_rows
) -> Tables:
    """Return the surviving users and books with their indices, and the interactions between them.

    `reviews` has the columns user_id, timestamp, book_id and position, the row's number in the file. Indices, int32,
    follow the first appearance in the file among the rows that survive the filter. `store` is called for tables of
    distinct users and books, which are small and used several times, and for the rows without duplicates. The params'
    same_day_order is not line_order (see `with_line_order`).
    """
    reviews = _without_duplicates(reviews, params, store)
    by_user = store("readers", reviews.group_by("user_id").agg(num_ratings=_.count(), first=_.position.min()))
    kept = _core(reviews, params, store, num_rows)
    if kept is reviews:
        survivors = by_user.filter(_.num_ratings >= params.min_ratings)
    else:
        survivors = kept.group_by("user_id").agg(num_ratings=_.count(), first=_.position.min())
    users = store("users", _numbered(survivors, "user", first_index=0))
    by_book = _count_books(reviews, kept, users, store)
    books = store("books", _numbered(by_book.filter(_.num_ratings > 0), "book", first_index=1))

    same_day = [_.book_idx, _.position] if params.same_day_order == "book_idx" else [_line_order(params)]
    interactions = (
        kept.inner_join(users, "user_id")
        .inner_join(books, "book_id")
        .order_by("user_idx", "timestamp", *same_day)
        .select("user_idx", "timestamp", "book_idx")
    )
    if reviews.timestamp.type().is_timestamp():
        interactions = interactions.mutate(timestamp=_.timestamp.cast("date"))
    return Tables(
        users=users.order_by("user_idx"),
        books=books.order_by("book_idx"),
        interactions=interactions,
        ratings_per_reader=by_user.group_by(ratings=_.num_ratings).agg(readers=_.count()),
        ratings_per_book=by_book.group_by(ratings=_.in_dump).agg(books=_.count()),
    )


def _line_order(params: FilterReindexParams) -> ibis.Value:
    """Return what orders rows of the same time: where the dump lists newest first, a later line is earlier."""
    return _.position.desc() if params.same_day_order == "newest_first" else _.position.asc()


def _without_duplicates(reviews: Table, params: FilterReindexParams, store: Store) -> Table:
    if params.duplicates == "keep":
        return reviews
    order = [_.timestamp, _line_order(params)]
    if params.duplicates == "last":
        order = [_.timestamp.desc(), _.position.asc() if params.same_day_order == "newest_first" else _.position.desc()]
    ranked = reviews.mutate(rank=ibis.row_number().over(group_by=["user_id", "book_id"], order_by=order))
    return store("distinct", ranked.filter(_.rank == 0).drop("rank"))


def _core(reviews: Table, params: FilterReindexParams, store: Store, num_rows: Callable[[Table], int]) -> Table:
    """Return the rows of users and books that have enough; `reviews` itself if only the users count."""
    if params.min_item_ratings == 1:
        return reviews
    kept, sizes = reviews, list[tuple[int, int]]()
    while not sizes or (params.k_core and sizes[-1] not in sizes[:-1]):
        users = kept.group_by("user_id").agg(number=_.count()).filter(_.number >= params.min_ratings)
        books = kept.group_by("book_id").agg(number=_.count()).filter(_.number >= params.min_item_ratings)
        users, books = store(f"core_users_{len(sizes)}", users), store(f"core_books_{len(sizes)}", books)
        kept = reviews.semi_join(users, "user_id").semi_join(books, "book_id")
        sizes.append((num_rows(users), num_rows(books)))
    return kept


def _count_books(reviews: Table, kept: Table, users: Table, store: Store) -> Table:
    """Return each book's number of reviews in the dump, and of those that survive: num_ratings, and the first."""
    if kept is reviews:  # one pass over the rows counts both
        is_kept = _.user_idx.notnull()
        by_book = reviews.left_join(users, "user_id").group_by("book_id")
        by_book = by_book.agg(in_dump=_.count(), num_ratings=is_kept.sum(), first=_.position.min(where=is_kept))
        return store("books_of_dump", by_book)
    in_dump = reviews.group_by("book_id").agg(in_dump=_.count())
    survivors = kept.group_by("book_id").agg(num_ratings=_.count(), first=_.position.min())
    return store("books_of_dump", in_dump.left_join(survivors, "book_id").drop("book_id_right"))


def _numbered(counted: Table, kind: str, first_index: int) -> Table:
    """Return index, id and num_ratings of users or books, numbered by their first appearance."""
    index = (ibis.row_number().over(order_by="first") + first_index).cast("int32").name(f"{kind}_idx")
    return counted.select(index, f"{kind}_id", "num_ratings").order_by(f"{kind}_idx")
