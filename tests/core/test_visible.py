"""What others wrote reaches a terminal as text, on one line, in any encoding."""

import json
import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, set_params, terminal

from sasrec.commands import recommend
from sasrec.core import errors, visible
from sasrec.dump import download
from sasrec.evaluation.intervals import Estimate
from sasrec.reporting import metrics_table
from sasrec.runtime.world import ALONE
from sasrec.serving import listing, lookup
from sasrec.serving.recommender import Recommended
from sasrec.serving.vocabulary import Vocabulary
from sasrec.training import loop

HOSTILE = "a\n   1  forged\r\x1b[2J\x9b31m\u202ecod\u2066\u200f\u061c\u2028\u2029\x7f"
SHOWN = r"a\n   1  forged\r\x1b[2J\x9b31m\u202ecod\u2066\u200f\u061c\u2028\u2029\x7f"
ORDERS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_unseen(letter: str) -> bool:
    """By Unicode's own tables: control, surrogate, separator of lines, mark of direction."""
    is_mark = unicodedata.bidirectional(letter) in ORDERS or letter in "\u200e\u200f\u061c"
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or is_mark


def test_of_all_characters_those_that_are_not_seen_are_shown_as_their_escapes() -> None:
    obsolete = range(0x206A, 0x2070)  # marks of digits and of symmetric signs
    for letter in map(chr, set(range(sys.maxunicode + 1)) - set(obsolete)):
        if is_unseen(letter):
            assert visible.text(letter) == letter.encode("unicode_escape").decode()
        else:
            assert visible.text(letter) == letter


@pytest.mark.parametrize(
    "error",
    [errors.UserError(f"x{HOSTILE}"), FileNotFoundError(2, "not found", f"x{HOSTILE}"), MemoryError(HOSTILE)],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_one_line_that_no_terminal_obeys(error: Exception) -> None:
    with pytest.raises(SystemExit, match=r"^error: .*cod\\u2066\\u200f") as ended:
        errors.run(mock.Mock(side_effect=error))
    assert not any(map(is_unseen, ended.value.code))


def test_a_title_cannot_forge_a_row_nor_reorder_one() -> None:
    rows = [Recommended(1, f"7{HOSTILE}", 0.5, HOSTILE), Recommended(2, "8", 0.25, None)]
    header, first, second = listing.as_table(rows).split("\n")
    assert first == f"   1  7{SHOWN}     0.500  {SHOWN}"
    assert header.index("score") + len("score") == first.index("0.500") + len("0.500") == second.index("0.250") + 5
    assert not any(map(is_unseen, header + first + second))


def test_json_holds_the_exact_values_in_ascii() -> None:
    title = HOSTILE + "ü — 日本 👩\u200d💻"
    text = listing.as_json([Recommended(1, HOSTILE, 0.5, title, 7)])
    assert text.isascii()
    assert not any(is_unseen(letter) for line in text.split("\n") for letter in line)
    assert json.loads(text) == [{"rank": 1, "book_id": HOSTILE, "score": 0.5, "title": title, "ratings": 7}]


def test_what_is_left_out_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = Vocabulary(pa.array(["known"]), first=1)
    lookup.report_unknown("--history", ["known", HOSTILE], books, tmp_path / "reviews.parquet")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"--history: book {SHOWN} is left out: ")


def test_a_metric_cannot_forge_a_line_of_the_table() -> None:
    both = {ranked: {f"HR@{HOSTILE}": Estimate(0.5, 0.4, 0.6)} for ranked in ("sampled", "full")}
    lines = metrics_table.as_text({"sasrec": both, HOSTILE: both}).split("\n")
    assert len(lines) == 4
    assert not any(is_unseen(letter) for line in lines for letter in line)


def test_a_note_of_the_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / HOSTILE).touch()
    loop.resume(SimpleNamespace(losses=[]), tmp_path / "key", ALONE)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/{SHOWN}: ignored, it is of other params, inputs or code")


def test_a_notice_of_a_download_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "RETRIES", 0)
    with socket.socket() as silent:  # it listens to nobody: whoever connects is refused
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(errors.UserError, match="could not be downloaded"):
            download.download([url + HOSTILE], tmp_path / "dump", tmp_path / "unfinished")
    assert capsys.readouterr().err == f"downloading {url}{SHOWN}\n"


TWO_PROCESSES = r"""
import os
if "RANK" in os.environ:
    raise ValueError("bad\n  \x1b[2J here\nat \u202eend")

import torch
from sasrec.core import errors
from sasrec.runtime import launch

def main():
    with launch.connected(launch.world_of(2), torch.device("cpu")):
        pass

launch.GRACE_SECONDS = 0.1
errors.run(main)
"""


def test_what_another_process_said_is_text(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TWO_PROCESSES)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "stages")}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, text=True)
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ValueError: bad\n  \\x1b[2J here\nerror: process 2 of 2: at \\u202eend\n")


TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1253": {"PYTHONIOENCODING": "cp1253:strict"},  # Greek: it has ± and —, and lacks ü
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def run_on(name: str, folder: Path, *command: object) -> subprocess.CompletedProcess[bytes]:
    without = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    words = [sys.executable, *(str(ROOT / word) if str(word).endswith(".py") else str(word) for word in command)]
    done = subprocess.run(words, cwd=folder, env=without | TERMINALS[name], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


@pytest.mark.parametrize("name", ["ascii", "cp1253", "C"])
def test_the_table_of_metrics_is_shown_on_any_terminal(finished: Path, name: str) -> None:
    done = run_on(name, finished, "stages/show.py")
    assert done.returncode == 0
    assert done.stdout.count("±".encode("cp1253") if name == "cp1253" else rb"\xb1") == 20


@pytest.fixture(scope="module")
def with_titles(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a command that recommends two books, all titles in scripts that few terminals have, and an unknown id, too."""
    titles = tmp_path_factory.mktemp("titles") / "ü.csv"
    [first, *ids] = pq.ParquetFile(finished / "data/processed/books.parquet").read()["book_id"].to_pylist()
    titles.write_text("book_id,title,authors\n" + "".join(f"{id_},日本,ü\n" for id_ in ids), "utf-8")
    return ["--history", f"{first},ü", "--titles", str(titles), "-k", "2"]


def test_titles_and_unknown_ids_are_shown_in_the_c_locale(finished: Path, with_titles: list[str]) -> None:
    done = run_on("C", finished, "stages/recommend.py", *with_titles)
    assert done.returncode == 0
    assert done.stdout.count(rb"\u65e5\u672c") == 2
    assert b"is left out: not in the dump" in done.stderr


@pytest.fixture
def here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is a finished project, and nothing that runs in it changes this process."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))


@pytest.mark.usefixtures("here")
def test_titles_and_unknown_ids_are_shown_on_a_terminal_that_lacks_their_letters(with_titles: list[str]) -> None:
    with terminal("cp1253") as (shown, said):
        errors.run(lambda: recommend.main(with_titles))
    assert shown.buffer.getvalue().count(rb"\u65e5\u672c") == 2
    assert b"is left out: not in the dump" in said.buffer.getvalue()


@pytest.mark.usefixtures("here")
def test_json_has_the_exact_titles_on_a_terminal_that_lacks_their_letters(with_titles: list[str]) -> None:
    with terminal("ascii") as (shown, _said):
        errors.run(lambda: recommend.main([*with_titles, "--format", "json"]))
    assert {row["title"] for row in json.loads(shown.buffer.getvalue())} == {"日本 — ü"}


@pytest.mark.parametrize(("name", "shown"), [("utf-8", "日本".encode()), ("C", rb"\u65e5\u672c")])
def test_help_and_errors_show_params_of_any_script_on_any_terminal(project: Path, name: str, shown: bytes) -> None:
    set_params(project, fetch={"source": "file", "file": "日本.json.gz"})
    stage = project / "stages/fetch.py"
    assert b'fetch.file: "' + shown + b'.json.gz"' in run_on(name, project, stage, "--help").stdout
    failed = run_on(name, project, stage)
    assert failed.stderr.startswith(b"error: ")
    assert failed.returncode == 1


@pytest.mark.parametrize("script", sorted((ROOT / "stages").glob("*.py")), ids=lambda script: script.name)
def test_every_script_ends_through_the_one_place_that_prepares_the_terminal(script: Path) -> None:
    assert script.read_text().splitlines()[-1].startswith("    errors.run(")


def test_an_id_that_is_no_utf_8_is_refused_in_one_line(finished: Path) -> None:
    command = [sys.executable, str(ROOT / "stages/recommend.py"), "--user", b"\xff"]
    done = subprocess.run(command, cwd=finished, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(rb"argument --user: \udcff is not in UTF-8" + b"\n")
