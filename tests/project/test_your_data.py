"""Every command of docs/your-data.md reads made-up files of the shape that it names."""

import datetime
import json
import re
import shlex
import shutil
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapes
from conftest import ROOT, copy_project, runner
from dvc.utils.hydra import apply_overrides
from shapes import COMPRESSORS, HISTORIES, OLDEST_FIRST, SHAPES

from sasrec.dump.formats import PRESETS

PAGE = (ROOT / "docs/your-data.md").read_text()
MAKE = (
    "make --no-print-directory --old-file=.venv/installed --old-file=.venv/report "  # this environment is the clone's
)


def commands(text: str) -> list[str]:
    """The lines of the code blocks, each a command."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


EXPERIMENTS = [command for command in commands(PAGE) if command.startswith("dvc exp run ")]
OTHERS = [command for command in commands(PAGE) if command not in EXPERIMENTS]


def in_utc(pattern: str) -> list[tuple[int, int, str]]:
    return [(u, i, datetime.datetime.fromtimestamp(t, datetime.UTC).strftime(pattern)) for u, i, _, t in OLDEST_FIRST]


def plays() -> bytes:
    users, items, _stars, seconds = map(list, zip(*OLDEST_FIRST, strict=True))
    sink = pa.BufferOutputStream()
    times = pa.array(seconds).cast(pa.timestamp("s", "UTC"))
    pq.write_table(pa.table({"listener": users, "track": items, "played_at": times}), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


HEADER, *RATINGS = SHAPES["movielens_csv"]
FIRST_AGAIN = [f"{rows[0][0]},{rows[0][1]},1.0,{rows[-1][3] + 9}" for rows in shapes.USERS]
FILES: dict[str, list[str] | bytes] = {
    "goodreads_reviews_spoiler.json.gz": SHAPES["goodreads_spoiler"],
    "goodreads_reviews_dedup.json.gz": SHAPES["goodreads_reviews"],
    "goodreads_interactions_dedup.json.gz": SHAPES["goodreads_interactions"],
    "reviews_Beauty_5.json.gz": SHAPES["amazon_2014"],
    "Video_Games.jsonl.gz": SHAPES["amazon_2023"],
    "Video_Games.csv.gz": [
        "user_id,parent_asin,rating,timestamp",
        *(f"{u},{i},{r}.0,{t * 1000}" for u, i, r, t in OLDEST_FIRST),
    ],
    "ratings_Beauty.csv": [f"{u},{i},{r}.0,{t}" for u, i, r, t in OLDEST_FIRST],
    "ml-25m/ratings.csv": SHAPES["movielens_csv"],
    "ml-1m/ratings.dat": SHAPES["movielens_1m"],
    "ml-100k/u.data": SHAPES["movielens_100k"],
    "ml-1m/ml-1m.inter": SHAPES["recbole"],
    "shop/orders.csv": [
        "ordered;article;note;customer",
        *(f'{told};{i};"a; b";{u}' for u, i, told in in_utc("%d.%m.%Y %H:%M:%S")),
    ],
    "yelp_academic_dataset_review.json": [
        json.dumps({"review_id": "r", "user_id": f"{u}", "business_id": f"{i}", "stars": 4.0, "date": told})
        for u, i, told in in_utc("%Y-%m-%d %H:%M:%S")
    ],
    "warehouse/plays.parquet": plays(),
    "years/ratings-1.csv.gz": [HEADER, *RATINGS[:100]],
    "years/ratings-2.csv.gz": [HEADER, *RATINGS[100:]],
    "diary.json.gz": [
        json.dumps({"user_id": f"{u}", "book_id": f"{i}", "timestamp": told, "rating": 5})
        for u, i, told in in_utc("%Y-%m-%d")
    ],
    "log/ratings.csv": [HEADER, *RATINGS, "7,no time,5.0,"],
    "log/again.csv": [HEADER, *RATINGS, *FIRST_AGAIN],
}
EXPECTED = {"log/again.csv": [[*rest, first] for first, *rest in HISTORIES]}


def content(path: str) -> bytes:
    given = FILES[path]
    plain = given if isinstance(given, bytes) else "".join(f"{line}\n" for line in given).encode()
    return COMPRESSORS["gzip" if path.endswith(".gz") else "plain"](plain)


def write_files(folder: Path) -> None:
    for path in FILES:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content(path))


def test_the_table_of_presets_is_that_of_the_code() -> None:
    for preset, shape in PRESETS.items():
        columns = " | ".join(f"`{column}`" for column in (shape.user, shape.item, shape.time, shape.rating))
        delimiter, header = f"`{shape.delimiter}`".replace("`\t`", "tab"), "yes" if shape.header else "no"
        csv = f"{delimiter} | {header}" if shape.file == "csv" else "|"
        row = f"| `{preset}` | {shape.file} | {columns} | {shape.time_format} | {csv} | {shape.line_order} |"
        assert row.replace("  ", " ") in PAGE


def test_each_preset_has_an_example() -> None:
    named = {word.removeprefix("dump_format.preset=") for command in EXPERIMENTS for word in shlex.split(command)}
    assert {*PRESETS, "custom"} <= named


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_each_command_reads_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, command: str
) -> None:
    """Apply the options as DVC does, and run the stages that read the file."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    if "s3://" in command:
        request.getfixturevalue("s3")
        boto3.client("s3").put_object(Bucket="books", Key="ratings.csv.gz", Body=content("ml-25m/ratings.csv"))
    options = shlex.split(command)[3:]
    assert set(options[::2]) == {"-S"}
    apply_overrides("params.yaml", options[1::2])
    file = next(option.removeprefix("fetch.file=") for option in options if option.startswith("fetch.file="))
    assert shapes.histories() == EXPECTED.get(file, HISTORIES)


@pytest.mark.long
def test_dvc_reads_a_command_with_quotes_as_this_test_does(tmp_path: Path) -> None:
    (command,) = [command for command in EXPERIMENTS if "delimiter" in command]
    project = copy_project(tmp_path)
    write_files(project)
    runner(project)("bash", "-c", f"{command} filter_reindex")
    assert shapes.histories_found(project) == HISTORIES


@pytest.mark.long
def test_titles_are_shown_by_the_commands_that_take_them(project: Path) -> None:
    ids = pq.ParquetFile(project / "data/processed/books.parquet").read()["book_id"].to_pylist()
    user = pq.ParquetFile(project / "data/processed/users.parquet").read()["user_id"][0].as_py()
    (project / "ml-25m").mkdir()
    rows = [f'{id_},"Volume {id_}, bound (1995)",Drama|War\n' for id_ in ids]
    (project / "ml-25m/movies.csv").write_text("".join(["movieId,title,genres\n", *rows]))
    recommend, report = OTHERS
    shown = runner(project)("bash", "-c", recommend.replace("ID", user)).stdout.splitlines()[1:]
    assert [line.partition("Volume ")[2] for line in shown] == [f"{line.split()[1]}, bound (1995)" for line in shown]
    runner(project)("bash", "-c", report.replace("make ", MAKE))
    assert len(re.findall(r"Volume \d+, bound \(1995\)", (project / "report.html").read_text())) > 5
