"""Reads one section of params.yaml into the typed struct that the code using it declares."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sasrec import credentials, visible
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
    except msgspec.ValidationError as error:  # what the struct itself says begins with a key
        key = str(error).partition(" ")[0].removeprefix(f"{section}.")
        raise UserError(f"{_place(path, section, key) if key in values else path}: {error}") from None


def read(path: Path) -> dict[str, Any]:
    """Return the YAML file at `path` as `parse` does; raise UserError where it is missing, too."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the folder that holds dvc.yaml") from None
    return parse(content, str(path))


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Return the mapping of sections that the YAML `content` of the file `name` is; types and ranges are not checked.

    Raises:
        UserError: it is no mapping, or a value holds what no message, table or command may show.

    """
    try:
        document = YAML(typ="safe").load(content)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).partition(" with value ")[0]  # of a duplicate key, which may hold a password
        raise UserError(f"{name}:{line}: not valid YAML: {problem}") from None
    except YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise UserError(f"{name}: not a mapping of sections to keys; restore it with git")
    for section, values in document.items():
        if not isinstance(values, dict):
            raise UserError(f"{name}: section {section} is missing: it has no keys; add those of the README's table")
        for key, value in values.items():
            each = value if isinstance(value, list) else [value]
            reason = next(filter(None, map(_why_not_shown, map(str, each))), None)
            if reason:
                raise UserError(f"{name}:{_line(content, section, key)}: {section}.{key} {reason}")
    return document


def shown(value: object) -> str:
    """Return `value` as it may stand in params.yaml (JSON is YAML), in one line."""
    return visible.text(json.dumps(value, ensure_ascii=False, default=str))  # a day is no JSON


def _why_not_shown(text: str) -> str | None:
    if credentials.are_in(text):
        return (
            "has credentials in a URL, which dvc.lock and the report would show; remove them there, and set them in "
            "the environment, as docs/scaling.md says"
        )
    if visible.UNSEEN.search(text):
        return (
            f"is '{visible.text(text)}', which has a character that is not seen; remove it, or in the name of a dump "
            "write ? in its place, which matches any character"
        )
    if text == "???":
        return "is ???, which `dvc exp run` takes for a value that is missing; write ./???"
    return None


def _line(content: bytes, section: str, key: str) -> int:
    line, _column = YAML().load(content)[section].lc.key(key)  # only the round-trip loader keeps line numbers
    return line + 1


def _place(path: Path, section: str, key: str) -> str:
    return f"{path}:{_line(path.read_bytes(), section, key)}"


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)


def _allowed(expected: object) -> str:
    """Return what a field says of its values, or the choices of a Literal: msgspec's own message has neither."""
    for kind in (expected, *get_args(expected)):
        if get_origin(kind) is Literal:
            return "choose one of " + ", ".join(map(str, get_args(kind)))
        for said in getattr(kind, "__metadata__", ()):
            if said.description:
                return said.description
    return ""
