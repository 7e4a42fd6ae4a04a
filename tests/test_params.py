from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from sasrec import holdout, interactions, model, params, reviews
from sasrec.errors import UserError
from sasrec.train_params import TrainParams


class Oven(msgspec.Struct, frozen=True):
    heat: Annotated[int, msgspec.Meta(ge=1)]
    mode: Literal["grill", "fan"]
    gain: float


GOOD = "oven:\n  heat: 200\n  mode: fan\n  gain: 1e-5\n"


def load(tmp_path: Path, text: str) -> Oven:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return params.load("oven", Oven, path)


def test_values_are_read_as_yaml_1_2_as_dvc_reads_them(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == Oven(200, "fan", 0.00001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("heat: 200", "heat: 0"), r"params.yaml:2: oven.heat is 0: Expected `int` >= 1"),
        (("heat: 200", "heat: hot"), r"params.yaml:2: oven.heat is 'hot': Expected `int`, got `str`"),
        (("heat: 200", "heat: 200.5"), r"oven.heat is 200.5: Expected `int`, got `float`"),
        (("mode: fan", "mode: steam"), r"params.yaml:3: oven.mode is 'steam': choose one of grill, fan"),
        (("mode: fan", "mode: null"), r"oven.mode is null: choose one of grill, fan"),
        (("heat: 200", "heat: 200\n  heet: 3"), r"params.yaml:3: unknown key oven.heet; did you mean oven.heat\?"),
        (("  heat: 200\n", ""), r"key oven.heat is missing"),
        (("oven:", "stove:"), r"section oven is missing"),
        (("heat: 200", "heat: ["), r"params.yaml:\d: not valid YAML"),
        (("heat: 200", "heat: 200\n  heat: 3"), r"not valid YAML: .*duplicate key"),
    ],
)
def test_a_wrong_key_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, GOOD.replace(*change))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params.yaml: not found; run from the folder that holds dvc.yaml"):
        params.load("oven", Oven, tmp_path / "params.yaml")


SECTIONS = {
    "parse_gzip": reviews.ParseGzipParams,
    "filter_reindex": interactions.FilterReindexParams,
    "split": holdout.SplitParams,
    "evaluation": holdout.EvaluationParams,
    "sasrec": model.SasrecParams,
    "train": TrainParams,
}


@pytest.mark.parametrize(("section", "struct"), SECTIONS.items())
def test_the_committed_params_are_valid(section: str, struct: type[msgspec.Struct]) -> None:
    assert params.load(section, struct, Path(__file__).parent.parent / "params.yaml")


@pytest.mark.parametrize(
    ("section", "struct", "key", "value", "message"),
    [
        ("sasrec", model.SasrecParams, "num_heads", 3, "num_heads is 3, which does not divide sasrec.hidden_units, 50"),
        ("train", TrainParams, "loss", "bpr", "train.loss is 'bpr': choose one of bce, gbce, sampled_softmax, softmax"),
        (
            "train",
            TrainParams,
            "negatives",
            "in_batch",
            "train.negatives is in_batch, which train.loss bce cannot take",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(
    tmp_path: Path, section: str, struct: type[msgspec.Struct], key: str, value: object, message: str
) -> None:
    from conftest import ROOT, set_params

    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_params(tmp_path, **{section: {key: value}})
    with pytest.raises(UserError, match=message):
        params.load(section, struct, tmp_path / "params.yaml")
