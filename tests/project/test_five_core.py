"""Every command of docs/five-core.md gives the counts that a plain loop derives; one 5-core is the published one."""

import json
import random
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
import shapes
from conftest import ROOT, set_params
from dvc.utils.hydra import apply_overrides

import split

PAGE = (ROOT / "docs/five-core.md").read_text()
COMMANDS = [block.replace("\\\n", "") for block in re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
Line = tuple[int, int, int]  # user, item, second


def made_up() -> list[Line]:
    """Users and items of which some have few lines, and others too few once those are dropped; some lines come again."""
    rng = random.Random(0)
    lines = [(int(rng.expovariate(0.006)), int(rng.expovariate(0.008)), second) for second in range(5000)]
    return lines + [(user, item, second + 5000) for user, item, second in lines[:300]]


LINES = made_up()


def left(lines: list[Line], duplicates: str, k_core: str) -> list[Line]:
    """What stays of the lines, which are in the order of time."""
    if duplicates == "first":
        lines = list({line[:2]: line for line in reversed(lines)}.values())
    while True:
        users, items = (Counter(line[column] for line in lines) for column in (0, 1))
        kept = [line for line in lines if users[line[0]] >= 5 and items[line[1]] >= 5]
        if k_core == "false" or kept == lines:
            return kept
        lines = kept


def written(preset: str) -> list[str]:
    """The lines in the shape of a preset."""
    if preset == "movielens_1m":
        return [f"{user}::{item}::5::{second}" for user, item, second in LINES]
    if preset == "amazon_2014":
        return [json.dumps({"reviewerID": f"{u}", "asin": f"{i}", "unixReviewTime": t}) for u, i, t in LINES]
    return [json.dumps({"user_id": f"{u}", "parent_asin": f"{i}", "timestamp": 1000 * t}) for u, i, t in LINES]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_leaves_what_a_plain_loop_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    options = shlex.split(command)[4::2]
    params = dict(option.split("=") for option in options)
    file = Path(params["fetch.file"])
    file.parent.mkdir(exist_ok=True)
    shapes.write(file, written(params["dump_format.preset"]), "gzip" if file.suffix == ".gz" else "plain")
    apply_overrides("params.yaml", options)
    shapes.histories()
    split.main()
    expected = left(LINES, params.get("filter_reindex.duplicates", "keep"), params["filter_reindex.k_core"])
    counts = json.loads(split.METRICS.read_text())
    assert counts["users"] == counts["train_users"] == len({user for user, _, _ in expected})
    assert (counts["books"], counts["ratings"]) == (len({item for _, item, _ in expected}), len(expected))


def test_the_made_up_lines_tell_the_ways_apart() -> None:
    numbers = {len(left(LINES, duplicates, k_core)) for duplicates in ("keep", "first") for k_core in ("true", "false")}
    assert len(numbers | {0, len(LINES)}) == 6


def test_the_5_core_of_sasrecs_video_data_is_the_published_one(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    file = {"source": "file", "file": str(shared / "data/amazon_video.json.gz")}
    set_params(tmp_path, fetch=file, filter_reindex={"min_ratings": 5, "min_item_ratings": 5, "k_core": True})
    found = shapes.histories()
    books = len({book for books in found for book in books})
    row = f"| Amazon 2014 Video Games | {len(found):,} | {books:,} | {sum(map(len, found)):,} |"
    assert row in PAGE
