"""The recipes of CONTRIBUTING.md work: their diffs are applied to a copy, and the small pipeline runs with them."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, copy_project, runner, set_params

pytestmark = pytest.mark.long

RECIPES = re.findall(
    r"^### A new ([a-z ]+)$.*?^```diff\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
)
CHANGES = {
    "fetch": {"source": "sample"},
    "split": {"protocol": "long_histories"},
    "evaluation": {"num_user_sample": 60},
    "sasrec": {"hidden_units": 16},
    "train": {"loss": "bpr", "num_negatives": 1, "num_epochs": 1, "batch_size": 64},
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after all recipes and `dvc repro`."""
    folder = copy_project(tmp_path_factory.mktemp("recipes"))
    for _name, diff in RECIPES:
        subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=folder, check=True)
    set_params(folder, **CHANGES)
    runner(folder)("dvc", "repro")
    return folder


def header(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


def drawn(folder: Path, plot: str) -> str:
    vl_convert = pytest.importorskip(
        "vl_convert", reason="vl_convert is not installed: it comes with the extra `report`"
    )
    shown = json.loads(runner(folder)("dvc", "plots", "show", "--json").stdout)["data"]
    return vl_convert.vegalite_to_svg(shown[plot][0]["content"])


def test_there_is_a_recipe_for_each_kind_of_change() -> None:
    assert [name for name, _diff in RECIPES] == ["loss", "baseline", "metric", "protocol", "source of data"]


def test_each_recipe_applies_alone(tmp_path: Path) -> None:
    copy_project(tmp_path)
    for _name, diff in RECIPES:
        subprocess.run(["git", "apply", "--check", "-"], input=diff, text=True, cwd=tmp_path, check=True)


def test_the_new_loss_trains(changed: Path) -> None:
    found = json.loads((changed / "metrics/train.json").read_text())
    assert found["steps"] > 0
    assert "  loss: bpr\n" in (changed / "models/README.md").read_text()


def test_the_new_baseline_is_wherever_the_others_are(changed: Path) -> None:
    assert set(json.loads((changed / "metrics/eval.json").read_text())["first_books"]) == {"sampled", "full"}
    for name in ("rank_histogram", "by_history_length", "by_popularity"):
        assert "first_books," in (changed / f"plots/{name}.csv").read_text()
    assert ">first books<" in drawn(changed, "rank_histogram")
    assert "\n| first books | " in (changed / "models/README.md").read_text()
    assert "\nfirst_books " in runner(changed)(sys.executable, "stages/show.py").stdout


def test_the_new_metric_is_wherever_the_others_are(changed: Path) -> None:
    of_model = json.loads((changed / "metrics/eval.json").read_text())["sasrec"]
    assert all("MRR@10" in of_list for of_list in of_model.values())
    assert "MRR@10" in json.loads((changed / "metrics/train.json").read_text())["kept_validation"]["full"]
    assert header(changed / "plots/validation.csv")[-3:] == ["full_HR@10", "full_NDCG@10", "full_MRR@10"]
    assert (changed / "dvclive/plots/metrics/validation/full/MRR@10.tsv").is_file()
    assert ",MRR@10," in (changed / "plots/by_popularity.csv").read_text()
    assert ">MRR@10<" in drawn(changed, "by_popularity")
    card = (changed / "models/README.md").read_text()
    assert "full MRR@10" in card
    assert "MRR@10 is the mean of 1 / rank" in card
    assert runner(changed)(sys.executable, "stages/show.py").stdout.count("MRR@10") == 2


def test_the_report_shows_the_new_baseline_and_metric(changed: Path) -> None:
    pytest.importorskip("vl_convert", reason="vl_convert is not installed: it comes with the extra `report`")
    runner(changed)(sys.executable, "stages/report.py")
    page = (changed / "report.html").read_text()
    assert ">first books</th>" in page
    assert page.count(">MRR@10</th>") == 2


def test_the_presets_compare_the_new_baseline(changed: Path) -> None:
    code = "import presets; print(presets.SCORERS)"
    path = f"import sys; sys.path[:0] = {[str(changed / 'stages'), str(changed / 'benchmarks')]}; "
    assert "'first_books'" in runner(changed)(sys.executable, "-c", path + code).stdout


def test_the_new_protocol_and_source_are_on_the_card(changed: Path) -> None:
    card = (changed / "models/README.md").read_text()
    assert "`long_histories`: users with 12 books or more trained" in card
    assert "\nA made-up sample.\n" in card


def test_nothing_is_left_to_run(changed: Path) -> None:
    assert json.loads(runner(changed)("dvc", "status", "--json").stdout) == {}
