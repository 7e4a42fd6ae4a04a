"""The plots of dvc.yaml, drawn by Vega as a browser draws them."""

import copy
import json
import re
import sys
from pathlib import Path

import pytest
import vl_convert
from conftest import ROOT, runner
from ruamel.yaml import YAML

DEFINED = {
    name: content for plot in YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"] for name, content in plot.items()
}
SCORERS = ["sasrec", "popularity", "recent popularity", "item transitions"]


@pytest.fixture(scope="module")
def shown(finished: Path) -> dict[str, list[dict]]:
    return json.loads(runner(finished)("dvc", "plots", "show", "--json").stdout)["data"]


@pytest.fixture(scope="module")
def compared(finished: Path) -> dict[str, list[dict]]:
    return json.loads(runner(finished)("dvc", "plots", "diff", "HEAD", "HEAD~1", "--json").stdout)["data"]


def drawn(plots: dict[str, list[dict]], name: str) -> str:
    assert len(plots[name]) == 1
    return vl_convert.vegalite_to_svg(plots[name][0]["content"])


@pytest.mark.parametrize("name", DEFINED)
def test_a_plot_shows_its_title_and_both_axes_names(shown: dict, name: str) -> None:
    svg = drawn(shown, name)
    for key in ("title", "x_label", "y_label"):
        assert DEFINED[name][key].replace("'", "&#39;") in svg.replace("&apos;", "&#39;").replace("'", "&#39;")


@pytest.mark.parametrize("name", DEFINED)
def test_a_comparison_of_two_revisions_tells_them_apart(compared: dict, name: str) -> None:
    svg = drawn(compared, name)
    assert all(re.search(f"[> ]{revision}<", svg) for revision in ("HEAD", "HEAD~1"))


@pytest.mark.parametrize("name", ["rank_histogram", "by_history_length", "by_popularity"])
def test_the_model_is_drawn_beside_every_baseline(shown: dict, name: str) -> None:
    svg = drawn(shown, name)
    assert all(f">{scorer}<" in svg for scorer in SCORERS)


def of_five_runs(plots: dict[str, list[dict]], name: str) -> dict:
    """The specification of a plot whose rows five runs have in common."""
    content = copy.deepcopy(plots[name][0]["content"])
    content["data"]["values"] = [
        {**row, "rev": f"run{number}"} for number in range(5) for row in content["data"]["values"]
    ]
    return content


def bars_in(svg: str) -> int:
    return svg.count('aria-roledescription="bar"')


@pytest.mark.parametrize("name", ["ratings_per_reader", "ratings_per_book", "history_length"])
def test_bars_that_five_runs_have_in_common_are_drawn_once(shown: dict, name: str) -> None:
    svg = vl_convert.vegalite_to_svg(of_five_runs(shown, name))
    assert bars_in(svg) == bars_in(drawn(shown, name)) > 0
    assert "run0" not in svg


@pytest.mark.parametrize("name", ["rank_histogram", "by_history_length", "by_popularity"])
def test_a_series_has_the_name_of_its_run_only_where_runs_differ(shown: dict, name: str) -> None:
    content = of_five_runs(shown, name)
    [changed, *_] = [row for row in content["data"]["values"] if (row["rev"], row["ranker"]) == ("run3", "sasrec")]
    changed["users" if name == "rank_histogram" else "value"] = 0.125
    svg = vl_convert.vegalite_to_svg(content)
    assert all(f">{label}<" in svg for label in ("sasrec, run3", "sasrec, run0, run1, run2, run4", "popularity"))
    assert f">{'sasrec'}<" not in svg


def test_the_ranges_stand_in_order_also_where_the_first_run_lacks_one(shown: dict) -> None:
    content = copy.deepcopy(shown["ratings_per_reader"][0]["content"])
    first, *rest = content["data"]["values"]
    content["data"]["values"] = [*({**row, "rev": "a"} for row in rest), {**first, "rev": "b"}]
    svg = vl_convert.vegalite_to_svg(content)
    labels = [
        found for found in re.findall(r">([0-9-]+)</text>", svg) if found in {row["ratings"] for row in (first, *rest)}
    ]
    assert labels[0] == first["ratings"]


@pytest.mark.long
def test_the_page_and_the_pictures_of_two_runs_load_nothing(finished: Path, tmp_path: Path) -> None:
    runner(finished)(sys.executable, "stages/plots.py", "HEAD", "HEAD~1", "--output", str(tmp_path / "drawn"))
    page = (tmp_path / "drawn/index.html").read_text()
    assert re.findall(r"<script[^>]*\ssrc|<link\s|//cdn", page) == []
    assert page.count("vegaEmbed('#") == len(DEFINED)
    assert {path.stem for path in tmp_path.glob("drawn/*.png")} == set(DEFINED)
    assert sorted(path.suffix for path in tmp_path.glob("drawn/*") if path.suffix != ".png") == [".html"]
