"""`make report`: one HTML file that says all of a run, opens without a network and fits a phone."""

import base64
import contextlib
import html
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, runner, set_params, terminal
from dvc.utils.hydra import apply_overrides

with mock.patch.dict(os.environ):  # the stages set variables for torch when they are imported
    import report
from sasrec.commands import recommend
from sasrec.core import errors, params
from sasrec.reporting import data_set, provenance
from sasrec.reporting.model_card import SOURCES

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
HOSTILE = "<script>alert(1)</script>"
BACKWARDS = "\u2069\u202etxt.\u05d0\x9b"  # ends what isolates it, and turns the text after it round


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the small run against itself, on an ASCII terminal.

    Each title would be a script, and turn text round.
    """
    folder = tmp_path_factory.mktemp("report")
    ids = pq.ParquetFile(finished / report.BOOKS).read()["book_id"].to_pylist()
    rows = "".join(f"{id_},{HOSTILE} {BACKWARDS} {id_},A. Author\n" for id_ in ids)
    (folder / "titles.csv").write_text("book_id,title,authors\n" + rows)
    options = ["--titles", str(folder / "titles.csv"), "--against", "HEAD", "--output", str(folder / "ü.html")]
    cpu = mock.patch("sasrec.runtime.device.use")  # it would change this process
    with contextlib.chdir(finished), terminal("ascii"), cpu:
        run_main(*options)
    return folder / "ü.html"


def test_it_ends_on_a_terminal_that_lacks_its_letters(page: Path) -> None:
    assert "±" in page.read_text("utf-8")


def text_of(page: Path) -> str:
    """What a user sees, spaces made one."""
    visible = re.sub("<style>.*?</style>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(visible).split())


def test_it_shows_every_metric_with_its_interval_and_every_count(page: Path, finished: Path) -> None:
    text = text_of(page)
    metrics, intervals = (json.loads((finished / f"metrics/{name}.json").read_text()) for name in ("eval", "intervals"))
    for ranker, lists in metrics.items():
        for ranked, values in lists.items():
            for name in ("HR@10", "NDCG@10"):
                ends = intervals[ranker][ranked][name]
                assert f"{values[name]:.3f} ± {(ends['high'] - ends['low']) / 2:.3f}" in text
    counts = json.loads((finished / "metrics/data.json").read_text())
    assert f"train users {counts['train_users']:,}" in text
    assert f"mean ratings per user {counts['mean_ratings_per_user']:,.1f}" in text


def test_it_begins_with_who_leads_each_ranking_and_what_the_figures_may_not_do(page: Path) -> None:
    before, _, _after = text_of(page).partition(" Accuracy ")
    assert re.search(r"Among 101 books, .* NDCG@10 0\.\d{3}.*Among all \d+ books, .* NDCG@10 0\.\d{3}", before)
    assert "The figures may not say anything about real users: the demo's data are made up" in before


def test_the_best_of_each_column_is_marked_whoever_it_is(page: Path, finished: Path) -> None:
    metrics = json.loads((finished / "metrics/eval.json").read_text())
    table = page.read_text("utf-8").partition("<tbody>")[2].partition("</tbody>")[0]
    marked = {cell.partition(" ")[0] for cell in re.findall('class="number best">(.*?)</td>', table)}
    columns = [(ranked, name) for ranked in ("sampled", "full") for name in ("HR@10", "NDCG@10")]
    assert marked == {f"{max(lists[ranked][name] for lists in metrics.values()):.3f}" for ranked, name in columns}


def test_it_names_the_data_and_what_each_stage_took_where(page: Path) -> None:
    text = text_of(page)
    assert re.search(r"made-up demo , format .* training ratings are of \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d", text)
    assert len(re.findall(r"\b(?:train_gpu|evaluate) \d+\.\d [\d,]+ MB (?:cpu|.*), \d+ threads", text)) == 2
    assert f"Python {platform.python_version()}" in text
    assert "not recorded here" not in text


def test_a_user_shown_is_one_to_recommend_to(
    page: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))  # it would change this process
    shown = re.findall("<h3>User <code><bdi>(.*?)</bdi></code>", page.read_text("utf-8"))
    recommend.main(shlex.split(f"--user {html.unescape(shown[0])} -k 1"))
    assert capsys.readouterr().out.startswith("rank ")


def test_no_plot_names_the_workspace_or_a_param(page: Path) -> None:
    pictures = re.findall('src="data:image/svg\\+xml;base64,(.*?)"', page.read_text("utf-8"))
    texts = " ".join(" ".join(re.findall(">([^<>]+)</text>", base64.b64decode(each).decode())) for each in pictures)
    assert "NDCG@10" in texts
    assert not re.search(r"workspace|evaluation\.k|max_len|\.tsv", texts)


def test_another_run_is_compared_user_by_user(page: Path) -> None:
    text = text_of(page)
    assert "Against HEAD No difference between HEAD and this run beyond chance." in text
    assert "Both ranked the same lists of the same users. No param differs." in text


def test_it_holds_every_plot_of_dvc_yaml(page: Path) -> None:
    from ruamel.yaml import YAML

    expected = [name for plot in YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"] for name in plot]
    assert re.findall('<figure id="(.*?)"', page.read_text()) == expected


def test_it_refers_to_nothing_outside_and_runs_no_script(page: Path) -> None:
    content = page.read_text()
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]*)""", content)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert "<script" not in content
    assert "@import" not in content


def test_a_title_is_shown_as_text_whatever_it_holds(page: Path) -> None:
    assert re.search(re.escape(HOSTILE) + r" \S+ \d+ — A\. Author", text_of(page))


def test_no_title_reorders_what_is_beside_it(page: Path) -> None:
    content = page.read_text("utf-8")
    titles = re.findall(r"<(li|li class=\"best\"|span class=\"best\")>(<bdi>.*?)</(?:li|span)>", content)
    assert len(titles) == 6 * (5 + 5 + 1)
    for _tag, title in titles:
        assert re.fullmatch(r"<bdi>[^<>]+ \\u2069\\u202etxt\.\u05d0\\x9b \d+ — A\. Author</bdi>", title)
    assert not [letter for letter in content if unicodedata.category(letter) in ("Cc", "Cf") and letter != "\n"]


def test_every_param_stands_apart_from_what_is_beside_it(page: Path) -> None:
    table = page.read_text("utf-8").partition("<h2>Params</h2>")[2]
    assert re.findall("<td><code>(?!<bdi>)", table) == []
    assert "<code><bdi>fetch.file</bdi></code></td><td><code><bdi>null</bdi></code>" in table


def test_it_gives_the_commands_that_lead_to_it(page: Path, finished: Path) -> None:
    revision = runner(finished)("git", "rev-parse", "HEAD").stdout.strip()
    assert f"git checkout {revision} make repro" in text_of(page)
    assert "Out of date" not in text_of(page)


def command_of(page: str) -> str:
    """What a user who selects the commands pastes."""
    return html.unescape(re.sub("<.*?>", "", re.search("<pre>(git checkout.*?)</pre>", page, re.DOTALL)[1]))


def test_changed_params_are_commands_that_dvc_reads_and_readable_in_the_table(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "dumps/O'Reilly'; touch PWNED; echo 'ü.json.gz"
    set_params(
        project, train={"lr": 0.003, "warmup_steps": 5}, fetch={"file": [hostile, "b\\c"]}, card={"data_name": "null"}
    )
    monkeypatch.chdir(project)
    run_main()
    page = Path("report.html").read_text()
    _before, run, options = command_of(page).partition("dvc exp run")
    pasted = runner(project)("sh", "-c", f"dvc() {{ printf '%s\\0' \"$@\"; }}; {run}{options}")
    _exp, _run, *words = pasted.stdout.split("\0")[:-1]
    assert words[0::2] == ["-S"] * 4
    assert not Path("PWNED").exists()
    assert [word.partition("=")[0] for word in words[1::2]] == [
        *["fetch.file", "train.lr", "train.warmup_steps", "card.data_name"]  # as in params.yaml
    ]
    expected = params.read(Path("params.yaml"))
    runner(project)("git", "checkout", "-q", "params.yaml")
    apply_overrides("params.yaml", words[1::2])
    assert params.read(Path("params.yaml")) == expected
    assert "; touch PWNED; echo 'ü.json.gz" in text_of(Path("report.html"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}),
        ({"a": {"b": 1}}, {"a": {"b": True}}, {"a.b": {"old": 1, "new": True}}),
        ({}, {"a": {"b": None}}, {"a.b": {"old": None, "new": None}}),
    ],
)
def test_a_param_is_changed_where_it_is_not_the_same_value(
    old: dict[str, object], new: dict[str, object], expected: dict[str, object]
) -> None:
    assert provenance.changed_params(old, new) == expected


def test_changed_params_and_code_and_what_is_out_of_date_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params(project, train={"lr": 0.003})
    code = project / "stages/sasrec/evaluation/ranking.py"
    code.write_text(code.read_text() + "# changed\n")
    monkeypatch.chdir(project)
    found = provenance.origin(report.CODE, params.read(report.PARAMS))
    [(key, values)] = found["changed_params"].items()
    assert (key, values["old"], values["new"]) == ("train.lr", 0.005, 0.003)
    assert found["changed_code"] == ["stages/sasrec/evaluation/ranking.py"]
    assert found["out_of_date"] == ["check_params", "train_gpu", "evaluate"]


def run_main(*arguments: str) -> None:
    with mock.patch("sys.argv", ["report.py", *arguments]):
        errors.run(report.main)


def test_a_missing_output_ends_it_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"error: data/split/train.safetensors: not found; run `dvc repro`"):
        run_main()


@pytest.mark.parametrize("output", ["precious", "precious/..", "missing/report.html"])
def test_a_folder_in_the_place_of_the_report_is_refused_and_stays(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(finished)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("precious")
    monkeypatch.setattr(sys, "argv", ["report.py", "--output", str(tmp_path / output)])
    with pytest.raises(SystemExit, match=r"error: .*(is no regular file|there is no folder)"):
        errors.run(report.main)
    assert (tmp_path / "precious/file").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_missing_library_ends_it_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # as where it is not installed
    with pytest.raises(SystemExit, match=r"error: the report needs vl_convert; run `pip install -c constraints.txt -e"):
        run_main()


MEASURE = """<!DOCTYPE html><title>test</title><iframe id="it" width="{width}" height="900" srcdoc="{page}"></iframe>
<script>onload = () => {{
  const inner = document.getElementById("it").contentWindow, root = inner.document.documentElement;
  const fetched = inner.performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:"));
  const drawn = [...inner.document.images].every(image => image.complete && image.naturalWidth > 0);
  document.body.dataset.found = [root.clientWidth, root.scrollWidth, fetched.length, drawn].join(" ");
}}</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page in")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_opens_it_without_a_complaint_a_request_or_a_sideways_scroll(
    page: Path, tmp_path: Path, width: int
) -> None:
    (tmp_path / "test.html").write_text(MEASURE.format(width=width, page=html.escape(page.read_text())))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *options, profile, (tmp_path / "test.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search('data-found="(.*?)"', done.stdout)[1].split()
    assert int(found[1]) <= int(found[0]) <= width
    assert found[2:] == ["0", "true"]
    assert "CONSOLE" not in done.stderr


def test_the_name_and_licence_that_you_give_your_data_are_shown() -> None:
    given = {"fetch": {"source": "file", "file": "loans.csv"}, "dump_format": {"preset": "custom"}}
    given |= {"card": {"data_name": "Loans of our library"}}
    source = SOURCES["file"]._replace(licence="CC BY-SA 4.0.")
    shown = data_set.describe(source, given, np.zeros(1, int), Path("no lock"))
    assert (shown["name"], shown["licence"]) == ("Loans of our library", "CC BY-SA 4.0.")
