"""The plots of dvc.yaml, drawn by Vega as a browser draws them."""

import json
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
    assert ">HEAD<" in svg
    assert ">HEAD~1<" in svg


@pytest.mark.parametrize("name", ["rank_histogram", "by_history_length", "by_popularity"])
def test_the_model_is_drawn_beside_every_baseline(shown: dict, name: str) -> None:
    svg = drawn(shown, name)
    assert all(f">{scorer}<" in svg for scorer in SCORERS)
