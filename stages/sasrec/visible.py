"""Shows text that others wrote (ids, titles, paths, params, names in files) as text, whatever characters it holds."""

import re
import sys

UNSEEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters, which a terminal obeys; a line feed would begin a line of its own
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks that reorder the text beside them
    "\u2028\u2029"  # ends of a line or paragraph
    "\ud800-\udfff"  # halves of characters: what Python makes of the bytes of a name that it cannot decode
    "]"
)

UNDECODED = re.compile("[\ud800-\udfff]")


def on_any_terminal() -> None:
    r"""Let standard output write the escape, such as \xb1, of what its encoding lacks, as standard error does."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a StringIO has none; DVC puts a wrapper there, which has
    if reconfigure:
        reconfigure(errors="backslashreplace")


def text(given: object) -> str:
    r"""Return `given` as one line in which each unseen character is its escape, such as \n, \x1b or \u202e."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), str(given))
