"""Filters, re-indexes and orders reviews in one Ibis expression, which any Ibis engine can run."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import ibis
import msgspec
from ibis import _
from ibis.expr.types import Table

from sasrec.core.params import Count, about


class FilterReindexParams(msgspec.Struct, frozen=True):
    """Section `filter_reindex` of params.yaml."""

    min_ratings: Annotated[Count, about("users with fewer reviews are dropped")]
    same_day_order: Annotated[
        Literal["line_order", "newest_first", "oldest_first", "book_idx"],
        about(
            "order of one user's reviews of one day, or of one second where the dump has seconds: `line_order`: as "
            "`dump_format.line_order` says · `newest_first`: the dump lists newest first, so a later line is an "
            "earlier event · `oldest_first` · `book_idx`: ascending index, as in the notebook"
        ),
    ]
    engine: Annotated[
        Literal["duckdb", "spark"],
        about("`duckdb`: in this process · `spark`: the same rows, [on one machine or many](scaling.md)"),
    ] = "duckdb"
    memory_limit: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B$")] | None,
        about("memory of DuckDB, such as `4GB`; it writes the rest to the disk; null: 80 % of the memory"),
    ] = None

    def with_line_order(self, line_order: Literal["newest_first", "oldest_first"]) -> "FilterReindexParams":
        """Return the params with the order of the dump's lines where they ask for it."""
        order = line_order if self.same_day_order == "line_order" else self.same_day_order
        return msgspec.structs.replace(self, same_day_order=order)


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


def reindex(reviews: Table, params: FilterReindexParams, store: Store = lazily) -> Tables:
    """Return the surviving users and books with their indices, and the interactions between them.

    `reviews` has the columns user_id, timestamp, book_id and position, the row's number in the file. Indices, int32,
    follow the first appearance in the file among the rows that survive the filter. `store` is called for tables of
    distinct users and books, which are small and used several times. The params' same_day_order is not line_order (see
    `with_line_order`).
    """
    by_user = store("readers", reviews.group_by("user_id").agg(num_ratings=_.count(), first=_.position.min()))
    survivors = by_user.filter(_.num_ratings >= params.min_ratings)
    users = store("users", _numbered(survivors, "user", first_index=0))

    # One pass over the rows counts each book's reviews in the dump and those that survive.
    kept = _.user_idx.notnull()
    by_book = reviews.left_join(users, "user_id").group_by("book_id")
    by_book = by_book.agg(in_dump=_.count(), num_ratings=kept.sum(), first=_.position.min(where=kept))
    by_book = store("books_of_dump", by_book)
    books = store("books", _numbered(by_book.filter(_.num_ratings > 0), "book", first_index=1))

    same_day = [_.book_idx, _.position] if params.same_day_order == "book_idx" else [_line_order(params)]
    interactions = (
        reviews.inner_join(users, "user_id")
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


def _numbered(counted: Table, kind: str, first_index: int) -> Table:
    """Return index, id and num_ratings of users or books, numbered by their first appearance."""
    index = (ibis.row_number().over(order_by="first") + first_index).cast("int32").name(f"{kind}_idx")
    return counted.select(index, f"{kind}_id", "num_ratings").order_by(f"{kind}_idx")
