"""Measures one piece of work in this process and prints its seconds and peak memory as JSON; `bench.py` calls it."""

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from ruamel.yaml import YAML

if TYPE_CHECKING:  # else each work imports what it needs, so that others do not pay for it
    from sasrec.holdout import TrainingSet
    from sasrec.model import SasrecParams
    from sasrec.sequences import Sequences
    from sasrec.train_params import TrainParams

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "stages"))
RAW = Path("data/raw/reviews.json.gz")
TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
WARM_UP_STEPS, STEPS = 10, 60
NUM_EPOCHS = 10  # of the notebook, and of params.yaml

Measured = dict[str, float]


@contextlib.contextmanager
def clock(measured: Measured) -> Iterator[None]:
    """Put the seconds that the block takes into `measured`."""
    start = time.perf_counter()
    yield
    measured["seconds"] = time.perf_counter() - start


def stage(name: str, *lazy_imports: str) -> Measured:
    """Run a stage's main, without Python's start and the imports, those that happen on first use included."""
    main = __import__(name).main
    for module in lazy_imports:
        importlib.import_module(module)
    measured: Measured = {}
    with clock(measured):
        main()
    return measured


def parse_plain() -> Measured:
    """Load the whole dump as the notebook does."""
    import reference

    measured: Measured = {}
    with clock(measured):
        reference.parse(RAW)
    return measured


def decompress() -> Measured:
    """Only decompress the dump, with the fastest library we know; the limit of parse_gzip."""
    from isal import igzip

    measured: Measured = {}
    with clock(measured), igzip.open(RAW, "rb") as file:
        while file.read(1 << 20):
            pass
    return measured


def filter_plain() -> Measured:
    """Filter, re-index and sort reviews that are in memory, in pandas."""
    import pandas as pd

    import reference

    reviews = pd.read_parquet("data/interim/reviews.parquet", columns=["user_id", "timestamp", "book_id"])
    reviews["timestamp"] = reviews["timestamp"].astype(str)
    measured: Measured = {}
    with clock(measured):
        reference.filter_reindex(reviews, min_ratings=10)
    return measured


def filter_files() -> Measured:
    """Read filter_reindex's input and write its outputs, and nothing between; its limit."""
    import pyarrow.parquet as pq

    outputs = [pq.ParquetFile(path).read() for path in sorted(Path("data/processed").glob("*.parquet"))]
    measured: Measured = {}
    with clock(measured):
        pq.ParquetFile("data/interim/reviews.parquet").read(columns=["user_id", "timestamp", "book_id"])
        for table in outputs:
            pq.write_table(table, io.BytesIO(), compression="zstd")
    return measured


def split_files() -> Measured:
    """Read split's input and write its outputs, and nothing between; its limit."""
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file, save

    outputs = [load_file(path) for path in sorted(Path("data/split").glob("*.safetensors"))]
    measured: Measured = {}
    with clock(measured):
        pq.ParquetFile("data/processed/interactions.parquet").read(columns=["user_idx", "book_idx"])
        for tensors in outputs:
            save(tensors)
    return measured


def params() -> "tuple[SasrecParams, TrainParams]":
    """Return the notebook's settings: sections sasrec and train of params.yaml."""
    from sasrec import model
    from sasrec.params import load
    from sasrec.train_params import TrainParams

    return load("sasrec", model.SasrecParams), load("train", TrainParams)


def short_histories() -> "TrainingSet":
    """Return a training set whose readers have 9 books in the mean, as Amazon's reviews of videos have."""
    from sasrec.holdout import TrainingSet
    from sasrec.sequences import Sequences

    rng = np.random.default_rng(0)
    lengths = 4 + rng.geometric(1 / 6, size=31_000) - 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = (rng.integers(1, 25_476, size=offsets[-1])).astype(np.int32)
    return TrainingSet(Sequences(items, offsets), np.zeros(len(items), np.int32), len(lengths), 25_475)


def training_set(histories: str) -> "TrainingSet":
    """Return the training set called `histories`."""
    from sasrec import holdout

    return short_histories() if histories == "short" else holdout.load_training_set(TRAIN)


def step(histories: str, device_name: str = "cpu") -> Measured:
    """Take training steps as train_gpu does; seconds are the median of a step, its sampling included."""
    import torch

    from sasrec import captured, device, sampling, training

    sasrec, section = params()
    where = device.use(device_name, section.num_threads)
    train = training_set(histories)
    state = training.start(train, section, sasrec, where)
    sizes = training.sizes(section, sasrec.max_len)
    objective = training.Objective(state.model, train, section)
    if where.type == "cuda":
        take_step = captured.CapturedStep(state, sampling.DeviceSampler(train, sizes, where), objective)
        return {"seconds": median_seconds(lambda: take_step(), torch.cuda.synchronize)}
    sampler = sampling.PackedSampler(train, sizes)
    draws: list[float] = []

    def take() -> None:
        start = time.perf_counter()
        batch = sampler.draw(state.batch_rng)
        draws.append(time.perf_counter() - start)
        training.step(state, batch, objective)

    seconds = median_seconds(take)
    batches = [sampler.draw(state.batch_rng) for _ in range(10)]

    def take_all() -> None:
        for batch in batches:
            training.step(state, batch, objective)

    limit = count_flops(take_all) / 10 / peak_flops()
    sampling_seconds = statistics.median(draws[-STEPS:])
    return {"seconds": seconds, "limit_seconds": limit, "sampling_share": sampling_seconds / seconds}


def median_seconds(
    act: Callable[[], object],
    wait: Callable[[], object] = lambda: None,
    warm_up: int = WARM_UP_STEPS,
    runs: int = STEPS,
) -> float:
    """Return the median time of `act`, after a warm-up."""
    times = []
    for _ in range(warm_up + runs):
        wait()
        start = time.perf_counter()
        act()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])


def count_flops(act: Callable[[], None]) -> int:
    """Return the floating-point operations of `act`, done with PyTorch's own products, which its counter knows."""
    from torch.utils.flop_counter import FlopCounterMode

    from sasrec import products

    with mock.patch.object(products, "PORTABLE", False), FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()


def peak_flops() -> float:
    """Return the floating-point operations a second of a large matrix product in this process."""
    import torch

    from sasrec import products

    x = torch.randn(2048, 2048)
    products.linear(x, x)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        products.linear(x, x)
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def plain_model(num_books: int) -> tuple[Any, Any, "SasrecParams", "TrainParams"]:
    """Return the reference's model, its optimiser, and the params."""
    import torch

    import reference

    sasrec, section = params()
    torch.set_num_threads(section.num_threads)
    model = reference.Sasrec(sasrec, num_books)
    torch.nn.init.normal_(model.item_embedding.weight, std=sasrec.init_std)
    return model, torch.optim.Adam(model.parameters(), lr=section.lr), sasrec, section


def step_plain(histories: str) -> Measured:
    """Take the reference's steps; seconds are the median of a step, its sampling included."""
    import reference

    train = training_set(histories)
    model, optimizer, sasrec, section = plain_model(train.num_books)
    books = as_arrays(train.histories)
    rng = np.random.default_rng(0)

    def take() -> None:
        batch = reference.sample(books, section, sasrec.max_len, train.num_books, rng)
        reference.step(model, optimizer, batch)

    return {"seconds": median_seconds(take)}


def as_arrays(sequences: "Sequences") -> list[np.ndarray]:
    """Return one array of books a reader."""
    return np.split(sequences.items, sequences.offsets[1:-1])


def evaluate() -> Measured:
    """Rank the true book of every held-out reader, sampled and in the full catalogue, by an untrained model."""
    from sasrec import device, holdout, ranking, scorers, training

    sasrec, section = params()
    where = device.use("cpu", section.num_threads)
    train = holdout.load_training_set(TRAIN)
    model = training.start(train, section, sasrec, where).model
    held_out = holdout.load_held_out(EVALUATION, train)

    def evaluate_all() -> None:
        ranking.rank(held_out, scorers.by_model(model))

    start = time.perf_counter()
    evaluate_all()
    first = time.perf_counter() - start
    seconds = median_seconds(evaluate_all, warm_up=0, runs=5)
    return {"seconds": seconds, "first_seconds": first, "limit_seconds": count_flops(evaluate_all) / peak_flops()}


def evaluate_plain() -> Measured:
    """Draw books and rank them one reader at a time; the sampled ranking only."""
    import reference
    from sasrec import holdout

    train = holdout.load_training_set(TRAIN)
    held_out = holdout.load_held_out(EVALUATION, train)
    model, _, sasrec, _ = plain_model(train.num_books)
    books = as_arrays(held_out.histories)
    rng = np.random.default_rng(0)
    return {
        "seconds": median_seconds(
            lambda: reference.evaluate(model, books, held_out.true_books, sasrec.max_len, rng), warm_up=1, runs=5
        )
    }


def pipeline_plain() -> Measured:
    """Do all the work the plain way, from the dump to the metrics, in one process without any cache."""
    import reference
    from sasrec import holdout, sequences

    measured: Measured = {}
    with clock(measured):
        rows = reference.filter_reindex(reference.parse(RAW), min_ratings=10)
        users, books = rows["user_idx"].to_numpy(), rows["book_idx"].to_numpy()
        num_readers = int(users[-1]) + 1
        histories = sequences.from_sorted_rows(users, books, num_readers)
        held_out = holdout.load_held_out(
            EVALUATION, holdout.load_training_set(TRAIN)
        )  # the plain way to draw it costs too little to matter
        train = [part for i, part in enumerate(as_arrays(histories)) if i not in set(held_out.users.tolist())]
        model, optimizer, sasrec, section = plain_model(int(books.max()))
        rng = np.random.default_rng(0)
        for _ in range(NUM_EPOCHS * (num_readers // section.batch_size)):
            batch = reference.sample(train, section, sasrec.max_len, int(books.max()), rng)
            reference.step(model, optimizer, batch)
        reference.evaluate(model, as_arrays(held_out.histories), held_out.true_books, sasrec.max_len, rng)
    return measured


def repro(mode: str) -> Measured:
    """Run `dvc repro` in a fresh clone of HEAD with an empty cache, then again with nothing to do."""
    dump = RAW.resolve()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:  # on the dump's file system, so that it is linked
        clone = Path(scratch, "clone")
        run("git", "clone", "-q", str(ROOT), str(clone))
        document = YAML().load(clone / "params.yaml")
        document["fetch"].update(source="file", file=str(dump))
        document["train"].update(reproducibility=mode)
        YAML().dump(document, clone / "params.yaml")
        cold = run("dvc", "repro", folder=clone)
        idle = run("dvc", "repro", folder=clone)
        start_up = run("dvc", "root", folder=clone)
    return {"seconds": cold, "idle_seconds": idle, "dvc_start_seconds": start_up}


def run(*command: str, folder: Path = Path()) -> float:
    """Run a command; return its seconds."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr}")
    return time.perf_counter() - start


WORK: dict[str, Callable[[], Measured]] = {
    "parse_gzip": lambda: stage("parse_gzip"),
    "parse_plain": parse_plain,
    "decompress": decompress,
    "filter_reindex": lambda: stage("filter_reindex", "ibis.backends.duckdb"),
    "filter_plain": filter_plain,
    "filter_files": filter_files,
    "split": lambda: stage("split"),
    "split_files": split_files,
    "step": lambda: step("long"),
    "step_plain": lambda: step_plain("long"),
    "step_short": lambda: step("short"),
    "step_short_plain": lambda: step_plain("short"),
    "step_cuda": lambda: step("long", "cuda"),
    "evaluate": evaluate,
    "evaluate_plain": evaluate_plain,
    "repro_portable": lambda: repro("portable"),
    "repro_fast": lambda: repro("fast"),
    "pipeline_plain": pipeline_plain,
}


def main() -> None:
    """Measure the work that the command line names, in the folder that it names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    os.chdir(arguments.folder)
    with contextlib.redirect_stdout(sys.stderr):
        measured = WORK[arguments.work]()
    who = resource.RUSAGE_CHILDREN if arguments.work.startswith("repro") else resource.RUSAGE_SELF
    measured["peak_mb"] = resource.getrusage(who).ru_maxrss / 1024  # of the largest process
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
