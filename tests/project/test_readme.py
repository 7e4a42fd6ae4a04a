"""The README says what the repository holds."""

import json

from conftest import ROOT
from ruamel.yaml import YAML

README = (ROOT / "README.md").read_text()


def test_the_demos_figures_are_those_of_the_committed_run() -> None:
    metrics, intervals = (json.loads((ROOT / f"metrics/{name}.json").read_text()) for name in ("eval", "intervals"))
    for scorer, label in (("sasrec", "SASRec"), ("popularity", "popularity")):
        keys = [(scorer, ranked, name) for ranked in ("sampled", "full") for name in ("HR@10", "NDCG@10")]
        found = [(metrics[a][b][c], intervals[a][b][c]) for a, b, c in keys]
        cells = [f"{mean:.3f} ± {(ends['high'] - ends['low']) / 2:.3f}" for mean, ends in found]
        assert f"| {label} | {' | '.join(cells)} |" in README


def test_every_stage_is_explained() -> None:
    assert all(f"| `{stage}` |" in README for stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])


def test_the_page_of_every_param_is_linked() -> None:
    assert "(docs/params.md)" in README
