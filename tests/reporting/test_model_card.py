"""The model card says what the model was made of, how good it is, and what its data permit."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, runner, set_params
from ruamel.yaml import YAML

from sasrec.commands import recommend
from sasrec.core.errors import UserError
from sasrec.dump.params import FetchParams
from sasrec.evaluation.intervals import Estimate
from sasrec.reporting import model_card
from sasrec.split.params import SplitParams

COUNTS = model_card.Counts(1_234, 567, 1_134, 98_765, 100)
IDS = ["18245960", "16981"]


def metrics(full_ndcg_of_popularity: float = 0.05) -> dict[str, dict[str, dict[str, Estimate]]]:
    def of(value: float) -> dict[str, Estimate]:
        return {
            "HR@10": Estimate(value, value - 0.02, value + 0.02),
            "NDCG@10": Estimate(value, value - 0.01, value + 0.01),
        }

    return {
        "sasrec": {"sampled": of(0.5), "full": of(0.25)},
        "popularity": {"sampled": of(0.125), "full": of(full_ndcg_of_popularity)},
    }


@pytest.fixture
def params(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path / "params.yaml"


def text(params: Path, **changes: dict[str, object]) -> str:
    set_params(params.parent, **changes)
    return model_card.text(model_card.read_params(params), COUNTS, metrics(), IDS)


def front_matter(content: str) -> dict[str, object]:
    nothing, head, _body = content.split("---\n", 2)
    assert nothing == ""
    return YAML(typ="safe").load(head)


def test_the_front_matter_is_yaml_with_the_metrics_of_the_model(params: Path) -> None:
    found = front_matter(text(params))
    assert found["library_name"] == "pytorch"
    assert "sasrec" in found["tags"]
    (model,) = found["model-index"]
    measured = {metric["name"]: metric["value"] for metric in model["results"][0]["metrics"]}
    assert measured == {
        "HR@10, 101 books": 0.5,
        "NDCG@10, 101 books": 0.5,
        "HR@10, all books": 0.25,
        "NDCG@10, all books": 0.25,
    }


def test_the_model_stands_beside_its_baselines_with_intervals(params: Path) -> None:
    lines = text(params).splitlines()
    assert "| SASRec, this model | 0.500 ± 0.020 | 0.500 ± 0.010 | 0.250 ± 0.020 | 0.250 ± 0.010 |" in lines
    assert "| popularity | 0.125 ± 0.020 | 0.125 ± 0.010 | 0.050 ± 0.020 | 0.050 ± 0.010 |" in lines


def test_a_baseline_that_did_better_is_named(params: Path) -> None:
    said = model_card.read_params(params)
    assert "By NDCG@10, no baseline did better than the model." in model_card.text(said, COUNTS, metrics(), IDS)
    beaten = model_card.text(said, COUNTS, metrics(full_ndcg_of_popularity=0.3), IDS)
    assert "By full NDCG@10, popularity did better than the model." in beaten
    assert "By sampled" not in beaten


@pytest.mark.parametrize(
    ("source", "licence", "words"),
    [
        ("demo", "mit", "**The figures say nothing about real readers**"),
        ("goodreads", "other", "for academic use only and must not be redistributed"),
        ("file", "unknown", "The params do not name the licence of the data"),
    ],
)
def test_the_licence_is_that_of_the_source(params: Path, source: str, licence: str, words: str) -> None:
    content = text(params, fetch={"source": source, "file": "/home/me/dump.json.gz"})
    assert front_matter(content)["license"] == licence
    assert words in content
    assert "/home/me" not in content


def test_counts_split_and_cutoff_are_told(params: Path) -> None:
    content = text(params, split={"protocol": "temporal", "cutoff": "2016-12-31"}, filter_reindex={"min_ratings": 7})
    assert "1,234 readers with at least 7 reviews, 567 books; 1,134 readers with 98,765 ratings trained" in content
    assert "`temporal`: what was read up to a day trained" in content
    shown = YAML(typ="safe").load(content.split("```yaml\n")[1].split("```")[0])
    assert str(shown["split"]["cutoff"]) == "2016-12-31"
    assert shown["train"] == YAML(typ="safe").load(params)["train"]


def test_the_format_of_a_file_and_a_filter_of_books_are_told(params: Path) -> None:
    own = {"source": "file", "file": "ratings.csv"}
    found = text(params, fetch=own, dump_format={"preset": "recbole"}, filter_reindex={"min_item_ratings": 5})
    assert "Your own file (`fetch.file`). It was read as `recbole`." in found
    assert re.search(r"reviews, [0-9,]+ books with at least 5; ", found)
    assert "books with at least" not in text(params, filter_reindex={"min_item_ratings": 1})


def test_every_protocol_and_source_has_words() -> None:
    assert set(model_card.PROTOCOLS) == set(get_args(get_type_hints(SplitParams)["protocol"]))
    assert set(model_card.SOURCES) == set(get_args(get_type_hints(FetchParams)["source"]))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"fetch": {"source": "web"}}, "fetch.source"),
        ({"filter_reindex": {"min_ratings": "x"}}, "filter_reindex.min_r"),
    ],
)
def test_a_wrong_param_is_named(params: Path, changes: dict[str, dict[str, object]], key: str) -> None:
    set_params(params.parent, **changes)
    with pytest.raises(UserError, match=rf"params.yaml: .*{key}"):
        model_card.read_params(params)


def test_evaluate_runs_again_where_a_param_that_the_card_names_changes() -> None:
    named = {
        f"{section.name}.{key.name}"
        for section in msgspec.structs.fields(model_card.Params)
        for key in msgspec.structs.fields(section.type)
    }
    declared = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["evaluate"]["params"]
    sections = YAML(typ="safe").load(ROOT / "params.yaml")
    keys = {f"{section}.{key}" for section in sections for key in sections[section]}
    assert {key for key in keys if {key, key.partition(".")[0]} & set(declared)} == named


def test_the_committed_card_is_of_the_committed_run() -> None:
    content = (ROOT / "models/README.md").read_text()
    measured = json.loads((ROOT / "metrics/eval.json").read_text())["sasrec"]
    (model,) = front_matter(content)["model-index"]
    values = [metric["value"] for metric in model["results"][0]["metrics"]]
    assert values == [measured[ranked][name] for ranked in ("sampled", "full") for name in ("HR@10", "NDCG@10")]
    data = json.loads((ROOT / "metrics/data.json").read_text())
    assert f"{data['users']:,} readers with at least 10 reviews, {data['books']:,} books" in content


def test_the_name_and_licence_of_one_s_own_data_come_from_params(params: Path) -> None:
    content = text(params, card={"data_name": "Loans of our library", "data_licence": "CC BY-SA 4.0"})
    found = front_matter(content)
    assert (found["license"], found["license_name"]) == ("other", "CC BY-SA 4.0")
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == "Loans of our library"
    assert "**Licence of the data.** CC BY-SA 4.0. What it forbids" in content


def test_the_usage_runs_beside_the_folder_and_prints_five_of_its_books(finished: Path) -> None:
    card = (finished / "models/sasrec/README.md").read_text()
    usage = card.split("```python\n")[1].split("```")[0]
    run = runner(finished / "models")
    printed = run("env", f"PYTHONPATH={ROOT / 'stages'}", sys.executable, "-c", usage).stdout
    assert [line.split()[0] for line in printed.splitlines()] == ["1", "2", "3", "4", "5"]
    assert card == (finished / "models/README.md").read_text()


def test_a_tagged_model_of_a_remote_recommends_in_an_empty_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))  # it would change this process
    run, elsewhere = runner(project), tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    run("dvc", "push", "-q")
    run("git", "commit", "-qam", "Add a remote")
    run("git", "tag", "-a", "sasrec@v1.0.0", "-m", "The first")
    history = pq.read_table(project / "models/sasrec/books.parquet")["book_id"][0].as_py()
    monkeypatch.chdir(project)
    recommend.main(["--history", history])
    expected = capsys.readouterr().out
    shutil.rmtree(project / ".dvc/cache")
    runner(elsewhere)("dvc", "artifacts", "get", str(project), "sasrec", "--rev", "v1.0.0")
    monkeypatch.chdir(elsewhere)
    recommend.main(["--model", "sasrec", "--history", history])
    assert capsys.readouterr().out == expected != ""
