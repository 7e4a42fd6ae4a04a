"""Prints the arguments of `dvc exp run` that take make's DATA as the dump: a path, a glob, a URL, or several of these.

Spaces separate several; a name with a space is then in quotes, as in a shell.
"""

import shlex
import sys
from pathlib import Path

from sasrec.dump import shards
from sasrec.io import storage
from sasrec.reporting import overrides


def names(data: str) -> list[str]:
    """Return the names in `data`: its words if each is that of a file or a URL, else all of it as one name."""
    if is_one(data):
        return [data]
    try:
        words = shlex.split(data)
    except ValueError:  # an apostrophe
        return [data]
    return words if words and all(map(is_one, words)) else [data]


def is_one(name: str) -> bool:
    """Return whether `name` is a URL, or a path or a glob that a file here has."""
    if storage.is_url(name):
        return len(name.split()) == 1
    return any(isinstance(path, Path) and path.exists() for path in shards.named(name))


def changes(named: list[str]) -> list[str]:
    """Return the changes of params.yaml that take the dump of these names, to follow -S."""
    return ["fetch.source=file", overrides.argument("fetch.file", named[0] if len(named) == 1 else named)]


def absolute(named: list[str]) -> list[str]:
    """Return the URLs and the absolute paths of the files of these names, in order."""
    return [str(each.resolve()) if isinstance(each, Path) else each for each in shards.named(named)]


def title(named: list[str]) -> str:
    """Return the names without their folders."""
    return " ".join(Path(name).name for name in named)


if __name__ == "__main__":
    print(shlex.join(word for change in changes(names(sys.argv[1])) for word in ("-S", change)))
