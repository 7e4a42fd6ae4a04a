"""Writes docs/params.md, a table of every key of params.yaml, from the structs. `make params` runs this script."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import inspect

sys.path.insert(0, str(Path(__file__).parent.parent / "stages"))

from check_params import SECTIONS
from sasrec.core import params

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/params.md"
INTRODUCTION = """# Params

Each key of `params.yaml`, its default, the values that it takes, and what it means. The first stage checks all of them
before any work: an unknown key, another type or a value out of range stops the run. `dvc exp run -S section.key=value`
changes a key for one experiment. `make params` writes this page from the code.
"""


def page() -> str:
    """Return the page as Markdown."""
    defaults = params.read(ROOT / "params.yaml")
    lines = [INTRODUCTION, "| key | default | takes | meaning |", "|---|---|---|---|"]
    for section, struct in SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            kind = inspect.type_info(field.type)
            cells = [f"`{section}.{field.name}`", json.dumps(defaults[section][field.name]), takes(kind), meaning(kind)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def meaning(kind: inspect.Type) -> str:
    """Return the description of a field; raise KeyError where it has none."""
    found = next(part for part in _layers(kind) if isinstance(part, inspect.Metadata))
    return (found.extra_json_schema or {})["description"]


def takes(kind: inspect.Type) -> str:
    """Return the valid values of a field, in words."""
    for part in _layers(kind):
        if isinstance(part, inspect.Metadata) and part.extra:
            return part.extra["allowed"].removeprefix("choose one of ").removeprefix("give ")
        if isinstance(part, inspect.UnionType):
            return ", ".join(takes(each) for each in part.types)
        if isinstance(part, inspect.LiteralType):
            return ", ".join(map(str, part.values))
        if isinstance(part, inspect.IntType | inspect.FloatType):
            return _number(part)
        if isinstance(part, inspect.StrType):
            return "text"
    return _name(part)


def _layers(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Yield a type and, layer by layer, the types that its annotations wrap."""
    yield kind
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
        yield kind


def _number(kind: inspect.IntType | inspect.FloatType) -> str:
    name = "whole number" if isinstance(kind, inspect.IntType) else "number"
    bounds = [
        f"{word} {bound:,}"
        for word, bound in (("from", kind.ge), ("above", kind.gt), ("to", kind.le), ("below", kind.lt))
        if bound is not None
    ]
    return " ".join([name, *bounds])


def _name(kind: inspect.Type) -> str:
    names = {
        inspect.BoolType: "true, false",
        inspect.NoneType: "null",
        inspect.ListType: "list",
        inspect.DateType: "day",
    }
    return names[type(kind)]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(PAGE.read_text().splitlines())} lines")


if __name__ == "__main__":
    main()
