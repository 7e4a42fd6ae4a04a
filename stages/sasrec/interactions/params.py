"""The section `filter_reindex` of params.yaml, apart from the expression, so that it is checked without Ibis."""

from typing import Annotated, Literal

import msgspec

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
    duplicates: Annotated[
        Literal["keep", "first", "last"],
        about("of several reviews of one book by one user, in the order of time, those that stay"),
    ] = "keep"
    min_item_ratings: Annotated[Count, about("books with fewer reviews are dropped, both counted in the dump")] = 1
    k_core: Annotated[
        bool, about("whether `min_ratings` and `min_item_ratings` are applied again until nothing changes")
    ] = False
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
