"""The folder is the model: complete, whole, of one version, and enough to recommend the same books."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import model_of, sequences

from sasrec.core.errors import UserError
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import HybridWeights, build_model
from sasrec.serving import model_folder
from sasrec.serving.model_folder import Model
from sasrec.serving.recommender import Recommender
from sasrec.serving.vocabulary import Vocabulary
from sasrec.split import transitions

PARAMS = SasrecParams(4, 8, 2, 2, 0.5, False, 0.5)


def build(**changes: object) -> Model:
    network = build_model(PARAMS, 5, torch.Generator().manual_seed(0))
    return replace(model_of(network, hybrid=HybridWeights(0.5, 4.0), padding=False), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_folder.write(tmp_path / "sasrec", build(), "# A card\n")
    return tmp_path / "sasrec"


def test_what_is_read_recommends_as_what_was_written(folder: Path) -> None:
    read = Recommender.load(folder)
    assert read.recommend([["10", "20"], ["nowhere"]], k=3) == Recommender(build()).recommend(
        [["10", "20"], ["nowhere"]], 3
    )
    assert read.similar("10", 3) == Recommender(build()).similar("10", 3)


def test_the_folder_that_holds_it_is_as_good(folder: Path) -> None:
    assert Recommender.load(folder.parent).model.version == Recommender.load(folder).model.version


def test_the_same_model_has_the_same_bytes_and_version(folder: Path, tmp_path: Path) -> None:
    model_folder.write(tmp_path / "again", build(), "# A card\n")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"hybrid": HybridWeights(1.0)},
        {"padding": True},
        {"ratings": np.ones(6, np.int64)},
        {"books": Vocabulary(pa.array(list("abcde")), 1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_model_has_another_version(folder: Path, tmp_path: Path, change: dict[str, object]) -> None:
    model_folder.write(tmp_path / "other", build(**change), "")
    assert model_folder.load(tmp_path / "other").version != model_folder.load(folder).version


def test_the_card_may_be_edited(folder: Path) -> None:
    (folder / "README.md").write_text("What our users should know")
    assert model_folder.load(folder).num_books == 5


@pytest.mark.parametrize("name", ["weights.safetensors", "books.parquet", "transitions.parquet", "model.json"])
def test_a_file_that_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: not found; give the folder `sasrec`"):
        model_folder.load(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "books.parquet", "transitions.parquet"])
def test_a_file_of_another_model_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    network = build_model(PARAMS, 5, torch.Generator().manual_seed(1))
    counted = transitions.count(sequences([1, 2, 4]), 5)
    model_folder.write(
        tmp_path / "other", build(network=network, ratings=np.ones(6, np.int64), transitions=counted), ""
    )
    shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(UserError, match="its files are not those of one model; get the folder again"):
        model_folder.load(folder)


def test_a_model_of_another_format_is_refused(folder: Path) -> None:
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(described | {"format": model_folder.FORMAT + 1}))
    with pytest.raises(
        UserError, match=f"is of format {model_folder.FORMAT + 1}, and this library reads {model_folder.FORMAT}"
    ):
        model_folder.load(folder)


@pytest.mark.parametrize("spoil", [lambda content: content[:-5], lambda _: b"[]", lambda _: b"", lambda _: b"{}"])
def test_a_damaged_description_is_named(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = folder / "model.json"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=r"model.json: (cannot be used|is of format None)"):
        model_folder.load(folder)
