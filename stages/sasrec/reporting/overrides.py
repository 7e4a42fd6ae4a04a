"""Writes params as arguments of `dvc exp run -S`, so that Hydra, DVC's parser, reads the same values back."""

import re
import shlex
from collections.abc import Mapping

from hydra.core.override_parser.types import Quote, QuotedString


def words(changed: Mapping[str, object]) -> list[str]:
    """Return a shell word for each param, to follow -S, in the order given.

    A text may hold anything that `params.parse` accepts.
    """
    return [shlex.quote(argument(key, value)) for key, value in changed.items()]


def argument(key: str, value: object) -> str:
    """Return the argument after -S, not quoted for a shell."""
    return f"{key}={_literal(value)}"


def _literal(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    # OmegaConf, which Hydra uses, reads ${ as a reference and halves the backslashes before it.
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    return QuotedString(escaped, Quote.double).with_quotes()
