"""Compares training and ranking with SASRec of other libraries; prints a table and writes it as JSON.

Each library gets an environment of its own in benchmarks/data. The libraries take turns, each measurement in a process
of its own with one thread. Figures are CPU time where nothing else is said, because it changes the least on a busy
machine.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import bench
from sasrec.core.params import read
from sasrec.runtime import reproducibility

HERE = bench.HERE / "peers"
DATA = bench.DATA / "peers"
RESULT = bench.HERE / "results" / "peers.json"
SEED = 0
TORCH = f"torch=={version('torch').partition('+')[0]}"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)

Turn = dict[tuple[str, str, str], dict[str, float]]
"""What work.py measured once, by the peer's title, the work and the histories."""


@dataclass(frozen=True)
class Peer:
    """A row of the table: a library, measured by the module `program` beside work.py."""

    title: str
    program: str
    environment: str = ""  # the name of its environment; empty: this one
    requirements: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    lacks: str = ""  # the work that the library cannot do


FAST = Peer("this project, fast", "ours", variables=reproducibility.ALWAYS)
PORTABLE = Peer("this project, portable", "ours", variables=reproducibility.ALWAYS | reproducibility.PORTABLE)
RECTOOLS = ("rectools[torch]==0.19.0", "pytorch-lightning==2.5.2", "numpy==1.26.4", "pandas==2.3.3", TORCH)
REPLAY = ("replay-rec[torch]==0.22.0", "lightning==2.6.6", "numpy==2.4.6", "pandas==2.3.3", TORCH)
# RecBole needs what was current when it was released: removed names of NumPy 1 and SciPy, and pkg_resources.
RECBOLE = ("recbole==1.2.1", "numpy==1.26.4", "scipy==1.11.4", "pandas==2.3.3", "setuptools==80.10.2", TORCH)
PEERS = (
    FAST,
    PORTABLE,
    Peer("RecTools", "with_rectools", "rectools", RECTOOLS),
    Peer("RePlay", "with_replay", "replay", REPLAY),
    Peer("RePlay, trimmed", "with_replay_trimmed", "replay", REPLAY),
    Peer("RecBole", "with_recbole", "recbole", RECBOLE, lacks="step_sampled_softmax"),
)


@dataclass(frozen=True)
class Column:
    """A column of the table: what work.py measures on the `histories` under the name `key`."""

    title: str
    work: str
    histories: str
    key: str
    unit: str


COLUMNS = (
    Column("step, long histories", "step_bce", "long", "step_cpu_seconds", "ms"),
    Column("step, short histories", "step_bce", "short", "step_cpu_seconds", "ms"),
    Column("sampled softmax step, long histories", "step_sampled_softmax", "long", "step_cpu_seconds", "ms"),
    Column("softmax step, long histories", "step_softmax", "long", "step_cpu_seconds", "ms"),
    Column("fit, short histories", "whole", "short", "fit_cpu_seconds", "s"),
    Column("rank, short histories", "whole", "short", "rank_cpu_seconds", "s"),
    Column("fit and rank, elapsed", "whole", "short", "whole_seconds", "s"),
)


@dataclass(frozen=True)
class Sizes:
    """The size of a made-up data set."""

    users: int
    items: int
    mean: float  # of a history's length
    least: int


SIZES = {
    "long": Sizes(6_040, 3_416, 165, 20),  # MovieLens-1M
    "short": Sizes(31_013, 23_715, 9.3, 5),  # Amazon Video, as the SASRec paper's authors prepared it
}


def make_up(sizes: Sizes, path: Path) -> Path:
    """Write made-up histories, in which every item occurs; return the path."""
    rng = np.random.default_rng(SEED)
    lengths = sizes.least - 1 + rng.geometric(1 / (sizes.mean - sizes.least + 1), size=sizes.users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    more = rng.integers(1, sizes.items + 1, size=offsets[-1] - sizes.items)
    items = rng.permutation(np.concatenate([np.arange(1, sizes.items + 1), more])).astype(np.int32)
    return save(path, items, offsets, sizes.items)


def save(path: Path, items: np.ndarray, offsets: np.ndarray, num_items: int) -> Path:
    """Write what work.py reads as Histories, with params.yaml beside it; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(bench.ROOT / "params.yaml", path.parent)
    np.savez(path, items=items, offsets=offsets, num_items=num_items)
    return path


def from_dump(dump: Path, folder: Path) -> Path:
    """Write the histories of a dump's users, whom the data stages read in `folder`; return the path."""
    import pyarrow.parquet as pq
    from ruamel.yaml import YAML

    from sasrec.split import sequences

    raw = folder / "data/raw/reviews.json.gz"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.unlink(missing_ok=True)
    raw.symlink_to(dump.resolve())
    document = read(bench.ROOT / "params.yaml")
    document["filter_reindex"]["min_ratings"] = 1
    YAML().dump(document, folder / "params.yaml")
    for stage in ("parse_gzip", "filter_reindex"):
        bench.measure(stage, folder, portable=False)
    rows = pq.read_table(folder / "data/processed/interactions.parquet", columns=["user_idx", "book_idx"])
    users, books = (rows[name].to_numpy() for name in ("user_idx", "book_idx"))
    histories = sequences.from_sorted_rows(users, books, int(users[-1]) + 1)
    return save(folder / "histories.npz", histories.items, histories.offsets, int(books.max()))


def python_of(peer: Peer) -> str:
    """Return the interpreter of the peer's environment, which is made if it is missing or of other versions."""
    if not peer.environment:
        return sys.executable
    folder = DATA / peer.environment
    installed, wanted = folder / "requirements.txt", "\n".join(peer.requirements)
    if not installed.is_file() or installed.read_text() != wanted:
        print(f"installing {peer.requirements[0]}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *peer.requirements], check=True)
        installed.write_text(wanted)
    return str(folder / "bin/python")


def measure(peer: Peer, work: str, histories: Path, num_epochs: int) -> dict[str, float]:
    """Run work.py beside the histories, in a process of its own; return its measurements by name."""
    command = [python_of(peer), str(HERE / "work.py"), peer.program, work, str(histories), "--epochs", str(num_epochs)]
    variables = {**os.environ, **ONE_THREAD, **peer.variables}
    done = subprocess.run(command, cwd=histories.parent, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def measure_turn(peers: Sequence[Peer], paths: Mapping[str, Path], num_epochs: int) -> Turn:
    """Return one measurement of each work by each peer."""
    turn: Turn = {}
    for work, histories in dict.fromkeys((column.work, column.histories) for column in COLUMNS):
        for peer in (each for each in peers if each.lacks != work):
            print(f"{work}, {histories}: {peer.title}", file=sys.stderr)
            turn[peer.title, work, histories] = measure(peer, work, paths[histories], num_epochs)
    return turn


def summarise(peers: Sequence[Peer], turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return a row for each peer: the spread of each column, and of its ratio to the first peer's in the same turn."""
    rows = []
    for peer in peers:
        row: dict[str, Any] = {"title": peer.title, "requirements": peer.requirements, "columns": {}}
        for column in (each for each in COLUMNS if each.work != peer.lacks):
            values, first = (
                [turn[title, column.work, column.histories][column.key] for turn in turns]
                for title in (peer.title, peers[0].title)
            )
            ratios = [a / b for a, b in zip(values, first, strict=True)]
            row["columns"][column.title] = {"measured": bench.spread(values), "times_first": bench.spread(ratios)}
        row["peak_mb"] = max(turn[peer.title, "whole", "short"]["peak_mb"] for turn in turns)
        rows.append(row)
    return rows


def cell(spreads: dict[str, dict[str, float]] | None, unit: str) -> str:
    """Return what a cell of the table shows."""
    if spreads is None:
        return "none"
    return f"{bench.shown(spreads['measured'], unit)}, {spreads['times_first']['median']:.1f}x"


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    lines = [["library", *(column.title for column in COLUMNS), "peak"], ["---"] * (len(COLUMNS) + 2)]
    for row in rows:
        cells = [cell(row["columns"].get(column.title), column.unit) for column in COLUMNS]
        lines.append([row["title"], *cells, f"{row['peak_mb']:.0f} MB"])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    """Measure all peers; write JSON, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a dump whose histories replace the made-up short ones")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1, help="of the fit")
    parser.add_argument("--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    paths = {name: make_up(sizes, DATA / f"{name}.npz") for name, sizes in SIZES.items()}
    if asked.data:
        paths["short"] = from_dump(asked.data, DATA / "dump")
    sizes = {name: asdict(each) for name, each in SIZES.items()}
    content = {"epochs": asked.epochs, "data": asked.data and asked.data.name, "sizes": sizes}
    content["environment"] = bench.environment()
    turns: list[Turn] = []
    while len(turns) < asked.runs:
        turns.append(measure_turn(PEERS, paths, asked.epochs))
        rows = summarise(PEERS, turns)  # after each turn, because half an hour may be cut short
        asked.output.write_text(json.dumps({"runs": len(turns), **content, "rows": rows}, indent=2) + "\n")
    print(as_markdown(rows))


if __name__ == "__main__":
    main()
