"""The commands of the tutorial and of serving.md, run one after the other in a fresh clone, print what is shown there."""

import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, copy_project, runner

PAGES = "".join((ROOT / "docs" / name).read_text() for name in ("tutorial.md", "serving.md"))
MAKE = (
    "make --no-print-directory --old-file=.venv/installed --old-file=.venv/report "  # this environment is the clone's
)
ANYTHING = "…"  # a line of its own that stands for any number of lines


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of the console blocks, which begins with a dollar sign, and the lines shown below it."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.replace("\\\n", "").partition("\n")
            yield command, shown.splitlines()


def first_difference(shown: list[str], printed: list[str]) -> str | None:
    """The first line shown that does not follow those before it, or None."""
    place, may_skip = 0, False
    for line in shown:
        if line == ANYTHING:
            may_skip = True
            continue
        rest = printed[place:] if may_skip else printed[place : place + 1]
        if line.rstrip() not in rest:
            return line
        place, may_skip = place + rest.index(line.rstrip()) + 1, False
    return None if may_skip or place == len(printed) else f"nothing more, but {printed[place]}"


def test_a_line_that_is_not_printed_is_found() -> None:
    assert first_difference(["a", "b"], ["a", "b"]) is None
    assert first_difference(["a", ANYTHING, "c"], ["a", "b", "b", "c"]) is None
    assert first_difference(["a", "c"], ["a", "b", "c"]) == "c"
    assert first_difference(["a", ANYTHING, "d"], ["a", "b", "c"]) == "d"
    assert first_difference(["a"], ["a", "b"]) == "nothing more, but b"


def test_a_command_ends_where_its_output_begins() -> None:
    text = "```console\n$ one \\\n  two\n1\n2\n$ three\n```\n"
    assert list(commands(text)) == [("one   two", ["1", "2"]), ("three", [])]


@pytest.mark.long
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the figures shown are those of x86-64 processors")
def test_every_command_prints_what_the_pages_show(tmp_path: Path) -> None:
    run = runner(copy_project(tmp_path))
    for command, shown in commands(PAGES):
        command = command.replace("make ", MAKE)
        done = run("bash", "-c", command, fails=shown[:1] != [] and shown[0].startswith("error: "))
        printed = [line.rstrip() for line in (done.stderr if done.returncode else done.stdout).splitlines()]
        difference = first_difference(shown, printed)
        assert difference is None, "\n".join([command, f"differs in: {difference}", "it printed:", *printed])
    for block in re.findall(r"^```python\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL):
        run("env", "PYTHONPATH=stages", sys.executable, "-c", block)
