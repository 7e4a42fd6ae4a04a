"""Titles come from the files that data sets bring, told by their content."""

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.core.errors import UserError
from sasrec.serving import titles

SHAPES = {
    "goodreads_books.json": '{"asin": "B7", "book_id": "7", "authors": [{"author_id": "1", "role": ""}], "title": "Émile"}\n',
    "a CSV": "title,book_id\nÉmile,7\n",
    "a CSV with authors": 'book_id,title,authors\n7,Émile,\n8,"Emma, bound","Jane\nAusten"\n',
    "a CSV of a spreadsheet": "\ufeffbook_id;title\r\n7;Émile\r\n",
    "movies.csv": "movieId,title,genres\n7,Émile,Drama|War\n",
    "movies.dat": "6::Heat (1995)::Action\n7::Émile::Drama|War\n",
    "u.item": "6|Heat (1995)|01-Jan-1995||http://localhost/|0|1\n7|Émile|01-Jan-1995||http://localhost/|1|0\n",
    "metadata of 2014": "{'asin': '6'}\n{'asin': '7', 'title': 'Émile', 'description': \"It's \\/\", 'price': 9.5}\n",
    "metadata of 2018": '{"category": [], "title": "Émile", "asin": "7"}\n\n',
    "metadata of 2023": '{"title": "Émile", "store": null, "parent_asin": "7", "asin": "8"}\n',
    "ml.item": 'item_id:token\tmovie_title:token_seq\trelease_year:token\n6\t"Heat\t1995\n7\tÉmile\t1762\n',
    "amazon.item": "item_id:token\tprice:float\ttitle:token\n7\t9.5\tÉmile\n",
    "numbers": '{"book_id": 7.0, "title": "Émile"}\n',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_title_is_found_in_each_shape(tmp_path: Path, shape: str) -> None:
    (tmp_path / "titles").write_text(SHAPES[shape], "utf-8", newline="")
    assert titles.read(tmp_path / "titles", ["7"]) == {"7": "Émile"}


@pytest.mark.parametrize("compress", [gzip.compress, lambda content: pa.Codec("zstd").compress(content, asbytes=True)])
def test_the_first_bytes_tell_how_a_file_is_compressed(tmp_path: Path, compress: object) -> None:
    (tmp_path / "titles.csv").write_bytes(compress(SHAPES["movies.csv"].encode()))
    assert titles.read(tmp_path / "titles.csv", ["7"]) == {"7": "Émile"}


@pytest.mark.parametrize("shape", ["movies.dat", "u.item"])
def test_old_files_may_be_in_latin_1(tmp_path: Path, shape: str) -> None:
    (tmp_path / "titles").write_text(SHAPES[shape], "latin-1")
    assert titles.read(tmp_path / "titles", ["7"]) == {"7": "Émile"}


def test_a_name_is_the_title_and_the_authors_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "titles").write_text(SHAPES["a CSV with authors"])
    assert titles.read(tmp_path / "titles", ["7", "8"]) == {"7": "Émile", "8": "Emma, bound — Jane Austen"}


def test_only_the_books_that_are_asked_for_are_kept_by_their_last_title(tmp_path: Path) -> None:
    lines = [{"book_id": "7", "title": "Old"}, {"book_id": "9", "title": "Other"}, {"book_id": "7", "title": "New"}]
    (tmp_path / "titles").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert titles.read(tmp_path / "titles", ["7", "8"]) == {"7": "New"}


BAD_LINES = {
    "a cut object": ("{}", ['{"book_id": "8", "ti']),
    "an object without an id": ("{}", ['{"title": "No id"}']),
    "a title of another type": ("{}", ['{"book_id": "8", "title": ["a"]}']),
    "a huge object": ("{}", ['{"book_id": "8", "title": "' + "x" * 2_000_000 + '"}']),
    "a literal that is code": ("{}", ["{'asin': __import__('os').getcwd()}"]),
    "a deep literal": ("{}", ["{'asin': " + "-" * 100_000 + "1}"]),
    "too few columns": ("title,book_id\n", ["Lonely"]),
    "a huge field": ("title,book_id\n", ["x" * 200_000 + ",8"]),
    "a quote that stays open": ("title,book_id\n", ['"x,8']),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_left_out_and_its_number_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    header, bad = BAD_LINES[name]
    good = '{"book_id": "7", "title": "Émile"}' if header == "{}" else "Émile,7"
    lines = [good, *bad] if header == "{}" else [header.strip(), good, *bad]
    (tmp_path / "titles").write_text("\n".join(lines))
    assert titles.read(tmp_path / "titles", ["7", "8"]) == {"7": "Émile"}
    (shown,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"titles: 1 of its lines cannot be read and are left out \(line {len(lines)}: .+\)$", shown)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 names no columns of ids and titles: ''; docs/your-data.md"),
        (b"id,name\n1,x\n", "line 1 names no columns of ids and titles: 'id,name'"),
        (b"x" * 3_000_000, "line 1 names no columns of ids and titles: 'xxx"),
        (b"book_id,title\n1,x\n", "names no book of the model, such as 7; docs/your-data.md"),
        (b"{\n}\n", r"names no book of the model, such as 7; 2 of its lines cannot be read \(line 1: "),
        (b"PAR1\0\0\0PAR1", "is Parquet; docs/your-data.md"),
        (b"PK\3\4\0\0", "is neither gzip, zstd, Parquet, JSON lines nor CSV; docs/your-data.md"),
        (gzip.compress(SHAPES["movies.csv"].encode(), mtime=0)[:-9], "the gzip data end too early"),
    ],
)
def test_a_file_without_titles_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "titles.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"titles\.csv: {message}"):
        titles.read(tmp_path / "titles.csv", ["7"])


@given(shape=st.sampled_from(sorted(SHAPES)), place=st.floats(0, 1), noise=st.binary(max_size=30))
def test_any_bytes_give_titles_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, shape: str, place: float, noise: bytes
) -> None:
    content = SHAPES[shape].encode()
    cut = int(place * len(content))
    path = tmp_path_factory.getbasetemp() / "noisy"
    path.write_bytes(content[:cut] + noise + content[cut + len(noise) // 2 :])
    try:
        assert titles.read(path, ["7"]).keys() == {"7"}
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
