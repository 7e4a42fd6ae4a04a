"""Reads the titles of books, because the ids of a dump mean nothing to a person."""

import csv
from pathlib import Path

from sasrec.core.errors import UserError


def read(path: Path) -> dict[str, str]:
    """Return the name of each book id in a CSV file with the columns book_id, title and, optionally, authors.

    Raises:
        UserError: the file is not UTF-8, not CSV, or lacks a column.

    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"book_id", "title"} <= set(rows.fieldnames or []):
                raise UserError(f"{path}: has no columns book_id and title; its first line must name them")
            return {row["book_id"]: _name(row["title"] or row["book_id"], row.get("authors")) for row in rows}
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no CSV file in UTF-8: {error}; give another one") from None


def _name(title: str, authors: str | None) -> str:
    return f"{title} — {authors}" if authors else title
