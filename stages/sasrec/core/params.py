"""Reads one section of params.yaml into the typed struct that its user declares.

ruamel parses it, as in DVC, so that both see the same values (YAML 1.2); messages name the line. Nothing else is read
with ruamel.
"""

import copy
import datetime
import difflib
import functools
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from sasrec.core import credentials, visible
from sasrec.core.errors import UserError

Section = TypeVar("Section", bound=msgspec.Struct)
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]  # fits int32, the type of user and book indices
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 2)]  # a seed and its successor fit PyTorch's 64 bits


def about(text: str) -> msgspec.Meta:
    """Return the annotation that describes a field in docs/params.md."""
    return msgspec.Meta(description=text)


def one_of(names: Collection[str]) -> msgspec.Meta:
    """Return the annotation that limits a text field to `names`."""
    pattern = f"^({'|'.join(map(re.escape, names))})$"
    return msgspec.Meta(pattern=pattern, extra={"allowed": f"choose one of {', '.join(names)}"})


def check_sections(path: Path, sections: Mapping[str, type[msgspec.Struct]]) -> None:
    """Raise UserError if a section of the YAML file at `path` is unknown, or if `load` refuses one of `sections`."""
    for name in read(path):
        if name not in sections:
            near = difflib.get_close_matches(str(name), sections, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its sections are {', '.join(sections)}"
            raise UserError(f"{path}: unknown section {name}; {hint}")
    keys = {section: set(struct.__struct_fields__) for section, struct in sections.items()}
    for section, values in read(path).items():
        for key in set(values) - keys[section]:
            other = next((each for each in keys if key in keys[each]), None)
            if other:
                location = _location(path, section, key)
                raise UserError(f"{location}: unknown key {section}.{key}; did you mean {other}.{key}?")
    for section, struct in sections.items():
        load(path, section, struct)


def load(path: Path, section: str, struct: type[Section]) -> Section:
    """Return `section` of the YAML file at `path` as a `struct` whose values are all checked.

    Raises:
        UserError: see `read`; or the section or a key is missing or unknown, or a value has another type or range.

    """
    document = read(path)
    values = document.get(section)
    if not isinstance(values, dict):
        near = difflib.get_close_matches(section, map(str, document), n=1)
        hint = f"is {near[0]} meant to be it?" if near else "add it with the keys of docs/params.md"
        raise UserError(f"{path}: section {section} is missing; {hint}")
    types = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key in values:
        if key not in types:
            near = difflib.get_close_matches(str(key), types, n=1)
            hint = f"did you mean {section}.{near[0]}?" if near else f"its keys are {', '.join(types)}"
            raise UserError(f"{_location(path, section, key)}: unknown key {section}.{key}; {hint}")
    for key, expected in types.items():
        if key not in values:
            raise UserError(f"{path}: key {section}.{key} is missing; add it, as in docs/params.md")
        try:
            msgspec.convert(values[key], expected)
        except msgspec.ValidationError as error:
            location = _location(path, section, key)
            reason = _allowed(expected) or f"{error}{_spelling(expected, values[key], f'{section}.{key}')}"
            raise UserError(f"{location}: {section}.{key} is {_shown(values[key])}: {reason}") from None
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:  # the message of a struct's own check begins with a key
        key = str(error).partition(" ")[0].removeprefix(f"{section}.")
        raise UserError(f"{_location(path, section, key) if key in values else path}: {error}") from None


def read(path: Path) -> dict[str, Any]:
    """Return the YAML file at `path` as `parse` does; raise UserError also if it is missing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the folder that holds dvc.yaml") from None
    return parse(content, str(path))


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Return the YAML `content` of the file `name` as sections of keys and values; types and ranges are not checked.

    Raises:
        UserError: it is no YAML or no mapping, or no message, table or command may show one of its values.

    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # see `_from_yaml`

    try:
        document = copy.deepcopy(_from_yaml(content))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).partition(" with value ")[0]  # a duplicate key's value may hold a password
        raise UserError(f"{name}:{line}: not valid YAML: {problem}") from None
    except YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise UserError(f"{name}: not a mapping of sections to keys; restore it with git")
    for section, values in document.items():
        if not isinstance(values, dict):
            raise UserError(f"{name}: section {section} is missing: it has no keys; add those of docs/params.md")
        for key, value in values.items():
            elements = value if isinstance(value, list) else [value]
            reason = next(filter(None, map(_why_not_shown, elements)), None)
            if reason:
                raise UserError(f"{name}{_line(content, section, key)}: {section}.{key} {reason}")
    return document


@functools.lru_cache(maxsize=4)  # each section is loaded by itself, and ruamel is slow
def _from_yaml(content: bytes) -> object:
    # Not above: a served model uses this module's annotations, and its environment needs no YAML.
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(content)


def shown(value: object) -> str:
    """Return `value` in one line that params.yaml could hold (JSON is YAML)."""
    return visible.text(json.dumps(value, ensure_ascii=False, default=str))  # JSON has no dates


def _why_not_shown(value: object) -> str | None:
    text = str(value)
    if isinstance(value, datetime.date):
        return f'is a day without quotes, which DVC cannot read; write "{text}"'
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


def _line(content: bytes, section: str, key: str) -> str:
    """Return the line of a key after a colon; "" where it is not in its section, but merged from another."""
    from ruamel.yaml import YAML  # see `_from_yaml`

    position = YAML().load(content)[section].lc.key(key)  # only the round-trip loader keeps line numbers
    return f":{position[0] + 1}" if position else ""


def _location(path: Path, section: str, key: str) -> str:
    return f"{path}{_line(path.read_bytes(), section, key)}"


def _spelling(expected: object, value: object, key: str) -> str:
    """Return how to write a value that YAML takes for one of another type."""
    types = _types(expected)
    if str in types and isinstance(value, int | float):
        return f"""; write text in quotes, here and as -S '{key}="…"' after `dvc exp run`"""
    return "; write true or false" if bool in types else ""


def _types(expected: object) -> set[object]:
    parts = get_args(expected)
    return set().union(*map(_types, parts)) if parts else {expected}


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)


def _allowed(expected: object) -> str:
    """Return the values that a Literal or an annotated type allows, else "": msgspec's own message lacks them."""
    if get_origin(expected) is Literal:
        return "choose one of " + ", ".join(map(str, get_args(expected)))
    for meta in getattr(expected, "__metadata__", ()):
        if meta.extra:
            return meta.extra["allowed"]
    return next(filter(None, map(_allowed, get_args(expected))), "")
