"""Escapes unseen characters in text that others wrote: ids, titles, paths, params, names in files."""

import re
import sys

UNSEEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters: a terminal obeys them, and a line feed splits the line
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks that reorder neighbouring text
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff"  # surrogates: Python's stand-ins for bytes of a file name that it cannot decode
    "]"
)

UNDECODED = re.compile("[\ud800-\udfff]")


def on_any_terminal() -> None:
    r"""Make standard output, like standard error, write an escape such as \xb1 for what its encoding lacks."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a StringIO has none; DVC's wrapper has one
    if reconfigure:
        reconfigure(errors="backslashreplace")


def text(given: object) -> str:
    r"""Return `given` as one line, each unseen character replaced by an escape such as \n, \x1b or \u202e."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), str(given))
