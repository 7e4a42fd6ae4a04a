"""docs/params.md says what the code says of each param."""

import params_page
from conftest import ROOT
from ruamel.yaml import YAML


def test_the_page_is_what_the_code_gives() -> None:
    assert params_page.PAGE.read_text(encoding="utf-8") == params_page.page(), "run `make params`, and commit the page"


def test_the_page_names_every_key_of_params_yaml() -> None:
    sections = YAML(typ="safe").load(ROOT / "params.yaml")
    keys = {f"`{section}.{key}`" for section, values in sections.items() for key in values}
    lines = params_page.page().splitlines()
    assert {line.split(" ")[1] for line in lines if line.startswith("| `")} == keys
