"""Titles come from any CSV file with two columns."""

from pathlib import Path

import pytest

from sasrec.core.errors import UserError
from sasrec.serving import titles


def test_a_book_goes_by_its_title_and_its_authors_if_there_are_any(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text('title,book_id\n"Emma, bound",7\n')
    (tmp_path / "authors.csv").write_text("\ufeffbook_id,title,authors\n7,Emma,Jane Austen\n8,Beowulf,\n")
    assert titles.read(tmp_path / "plain.csv") == {"7": "Emma, bound"}
    assert titles.read(tmp_path / "authors.csv") == {"7": "Emma — Jane Austen", "8": "Beowulf"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no columns book_id and title"),
        (b"id,name\n1,x\n", "has no columns book_id and title"),
        (b"book_id,title\n1,\xff\n", "no CSV file in UTF-8"),
    ],
)
def test_a_file_of_another_format_is_refused_with_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "titles.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"titles\.csv: {message}"):
        titles.read(tmp_path / "titles.csv")
