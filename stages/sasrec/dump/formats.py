"""The shapes of dumps that can be read, as one table, and the section `dump_format` of params.yaml, which picks one."""

import datetime
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from sasrec.core.params import about, one_of

File = Literal["json_lines", "csv", "parquet"]
LineOrder = Literal["newest_first", "oldest_first"]
Column = str | Annotated[int, msgspec.Meta(ge=1, le=10_000)]
ROLES = ("user", "item", "time", "rating")
TIME_FORMATS = ("date", "iso", "epoch_s", "epoch_ms")
TAB = ("tab", "\\t")  # params.yaml may hold no character that is not seen


class Format(NamedTuple):
    """How a dump is written."""

    file: File
    user: Column  # a name, or a number from 1
    item: Column
    time: Column
    rating: Column | None  # None: there is none
    time_format: str  # one of TIME_FORMATS, or a pattern of strptime
    delimiter: str = ","
    header: bool = True
    line_order: LineOrder = "oldest_first"

    @property
    def has_seconds(self) -> bool:
        """Whether the time is more than a day."""
        return self.time_format in TIME_FORMATS[1:] or bool(re.search(r"%[HIcX]", self.time_format.replace("%%", "")))


DEFAULT = "goodreads_spoiler"
GOODREADS_TIME = "%a %b %d %H:%M:%S %z %Y"  # with %z, the writer's own day and clock count
PRESETS: Mapping[str, Format] = {
    DEFAULT: Format("json_lines", "user_id", "book_id", "timestamp", "rating", "date", line_order="newest_first"),
    # Not date_updated: it changes when a reader edits a review years later.
    "goodreads_reviews": Format(
        "json_lines", "user_id", "book_id", "date_added", "rating", GOODREADS_TIME, line_order="newest_first"
    ),
    "goodreads_interactions": Format(
        "json_lines", "user_id", "book_id", "date_added", "rating", GOODREADS_TIME, line_order="newest_first"
    ),
    "amazon_2014": Format("json_lines", "reviewerID", "asin", "unixReviewTime", "overall", "epoch_s"),
    "amazon_2023": Format("json_lines", "user_id", "parent_asin", "timestamp", "rating", "epoch_ms"),  # also as CSV
    "movielens_csv": Format("csv", "userId", "movieId", "timestamp", "rating", "epoch_s"),
    "movielens_1m": Format("csv", 1, 2, 4, 3, "epoch_s", delimiter="::", header=False),
    "movielens_100k": Format("csv", 1, 2, 4, 3, "epoch_s", delimiter="\t", header=False),
    "recbole": Format(
        "csv", "user_id:token", "item_id:token", "timestamp:float", "rating:float", "epoch_s", delimiter="\t"
    ),
}
"""The formats by their names in dump_format.preset."""


def is_default(dump_format: Format) -> bool:
    """Return whether a line is one of the default preset; the order of the lines may be another."""
    return dump_format._replace(line_order=PRESETS[DEFAULT].line_order) == PRESETS[DEFAULT]


class DumpFormatParams(msgspec.Struct, frozen=True, kw_only=True):
    """Section `dump_format` of params.yaml; what is null is as the preset says."""

    preset: Annotated[
        str, one_of([*PRESETS, "custom"]), about("the shape of the dump; `custom`: as the keys below say")
    ]
    file: Annotated[File | None, about("`json_lines`: one object a line · `csv`: any delimiter · `parquet`")]
    user: Annotated[Column | None, about("column of the user: a name, or in `csv` a number from 1")]
    item: Annotated[Column | None, about("column of the item")]
    time: Annotated[Column | None, about("column of the time")]
    rating: Annotated[Column | None, about("column of the rating; a dump may lack it")]
    time_format: Annotated[
        str | None,
        about(
            "`date`: YYYY-MM-DD · `iso`: ISO 8601 · `epoch_s`, `epoch_ms`: since 1970, in UTC · or a pattern of "
            "Python's strptime such as `%d/%m/%Y %H:%M`; with a zone, the local time counts"
        ),
    ]
    delimiter: Annotated[
        Annotated[str, msgspec.Meta(min_length=1, max_length=10)] | None,
        about("of `csv`: any text such as `::`, or `tab`; quotes count where it is one character"),
    ]
    header: Annotated[bool | None, about("whether a `csv` begins with the names of its columns")]
    line_order: Annotated[
        LineOrder | None,
        about("order of one user's lines, which orders those of the same time; `custom`: oldest_first"),
    ]

    def __post_init__(self) -> None:
        for key in ("file", "user", "item", "time", "time_format"):
            if self.preset == "custom" and getattr(self, key) is None:
                raise ValueError(f"dump_format.{key} is null, but dump_format.preset is custom, which needs it; set it")
        resolved = self.format
        for key in ("delimiter", "header"):
            if resolved.file != "csv" and getattr(self, key) is not None:
                raise ValueError(
                    f"dump_format.{key} is {getattr(self, key)!r}, but dump_format.file is {resolved.file}, which has "
                    "none; set it to null"
                )
        set_first = sorted(ROLES, key=lambda role: getattr(self, role) is None)
        _check_columns(resolved, set_first)
        _check_time_format(resolved.time_format)
        if re.search('[\r\n"]', resolved.delimiter):
            raise ValueError(f"dump_format.delimiter is {self.delimiter!r}; choose one without a quote or line end")

    @property
    def format(self) -> Format:
        """The preset with the keys that are set beside it."""
        given: dict[str, Any] = {name: getattr(self, name) for name in Format._fields}
        given = {name: value for name, value in given.items() if value is not None}
        if given.get("delimiter") in TAB:
            given["delimiter"] = "\t"
        if self.preset == "custom":
            return Format(**({"rating": None} | given))
        return PRESETS[self.preset]._replace(**given)


def _check_columns(dump_format: Format, roles: list[str]) -> None:
    columns = {role: getattr(dump_format, role) for role in roles}
    for role, column in columns.items():
        said = f"dump_format.{role} is {column!r}"
        if isinstance(column, int) and dump_format.file != "csv":
            raise ValueError(f"{said}, but the columns of {dump_format.file} have names; set it to a name")
        if isinstance(column, str) and dump_format.file == "csv" and not dump_format.header:
            raise ValueError(f"{said}, but dump_format.header is false; set it to the column's number, from 1")
        if column == "":
            raise ValueError(f"{said}; set it to a name")
        if column is not None and Counter(columns.values())[column] > 1:
            raise ValueError(f"{said}, which another key of dump_format names, too; set each to its own column")


def _check_time_format(time_format: str) -> None:
    said = f"dump_format.time_format is {time_format!r}"
    if time_format in TIME_FORMATS:
        return
    if "%" not in time_format:
        raise ValueError(f"{said}; choose one of {', '.join(TIME_FORMATS)}, or a pattern of strptime such as %Y-%m-%d")
    try:
        datetime.datetime.strptime("", time_format)
    except (ValueError, re.error) as error:
        if "does not match" not in str(error):
            raise ValueError(f"{said}, which is no pattern of strptime ({error}); correct it") from None
