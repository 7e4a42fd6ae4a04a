"""Reads one section of params.yaml into the typed struct that the code using it declares."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sasrec.errors import UserError

Section = TypeVar("Section", bound=msgspec.Struct)
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]  # what an int32 holds, as the indices of readers and books do
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 2)]  # it and the next one fit into PyTorch's 64 bits


def load(section: str, struct: type[Section], path: Path = Path("params.yaml")) -> Section:
    """Return `section` of the YAML file at `path` as a `struct`, every value checked.

    The file is parsed as DVC parses it (YAML 1.2), so that both see the same values.

    Raises:
        UserError: the section or a key is missing or unknown, or a value has another type or range.

    """
    document = read(path)
    values = document.get(section)
    if not isinstance(values, dict):
        near = difflib.get_close_matches(section, map(str, document), n=1)
        hint = f"is {near[0]} meant to be it?" if near else "add it with the keys of the README's table"
        raise UserError(f"{path}: section {section} is missing; {hint}")
    types = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key in values:
        if key not in types:
            near = difflib.get_close_matches(str(key), types, n=1)
            hint = f"did you mean {section}.{near[0]}?" if near else f"its keys are {', '.join(types)}"
            raise UserError(f"{_place(path, section, key)}: unknown key {section}.{key}; {hint}")
    for key, expected in types.items():
        if key not in values:
            raise UserError(f"{path}: key {section}.{key} is missing; add it, as in the README's table")
        try:
            msgspec.convert(values[key], expected)
        except msgspec.ValidationError as error:
            place = _place(path, section, key)
            reason = _allowed(expected) or str(error)
            raise UserError(f"{place}: {section}.{key} is {_shown(values[key])}: {reason}") from None
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {error}") from None


def read(path: Path) -> dict[str, Any]:
    """Return the YAML file at `path`, its sections not checked; raise UserError where it is no mapping."""
    try:
        document = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the folder that holds dvc.yaml") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: not a mapping of sections to keys; restore it with git")
    return document


def _place(path: Path, section: str, key: str) -> str:
    line, _column = YAML().load(path)[section].lc.key(key)  # only the round-trip loader keeps line numbers
    return f"{path}:{line + 1}"


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)


def _allowed(expected: object) -> str:
    """Return the choices of a Literal, which msgspec's own message does not list."""
    if get_origin(expected) is Literal:
        return "choose one of " + ", ".join(map(str, get_args(expected)))
    return ""
