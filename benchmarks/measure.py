"""Measures one piece of work in this process, and prints its seconds and peak memory as JSON for `bench.py`."""

import argparse
import contextlib
import functools
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
import timeit
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from ruamel.yaml import YAML

if TYPE_CHECKING:  # at run time each work imports only what it needs
    from sasrec.dump.formats import File
    from sasrec.model.params import SasrecParams
    from sasrec.split.datasets import TrainingSet
    from sasrec.split.sequences import Sequences
    from sasrec.training.params import TrainParams

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "stages"))
RAW = Path("data/raw/reviews.json.gz")
REVIEWS = Path("data/interim/reviews.parquet")
TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
WARM_UP_STEPS, STEPS = 10, 60
TURNS = 5
BATCH_ROWS = 1 << 16  # of Parquet, as many as we read at a time
NUM_EPOCHS = 10  # as in the notebook and in params.yaml
PAPER: dict[str, dict[str, Any]] = {  # the SASRec paper's training, which the reference does as well
    "sasrec": {"dropout_rate": 0.5, "init": "normal"},
    "train": {"loss": "bce", "num_negatives": 1, "lr": 0.001, "warmup_steps": 0, "schedule": "constant"},
}
LOSSES: dict[str, dict[str, Any]] = {  # measured in turns with that of PAPER
    "gbce": {"loss": "gbce", "num_negatives": 32},
    "sampled_softmax": {"loss": "sampled_softmax", "num_negatives": 1024},
    "softmax": {"loss": "softmax", "num_negatives": 1},
}

Measured = dict[str, float]


@contextlib.contextmanager
def clock(measured: Measured) -> Iterator[None]:
    """Store the seconds of the block in `measured`."""
    start = time.perf_counter()
    yield
    measured["seconds"] = time.perf_counter() - start


def stage(name: str, *lazy_imports: str) -> Measured:
    """Measure a stage's main, without Python's start, the imports and `lazy_imports`, which happen on first use."""
    main = __import__(name).main
    for module in lazy_imports:
        importlib.import_module(module)
    measured: Measured = {}
    with clock(measured):
        main()
    return measured


def parse_plain() -> Measured:
    """Load the whole dump, as the notebook does."""
    import reference

    measured: Measured = {}
    with clock(measured):
        reference.parse(RAW)
    return measured


def decompress() -> Measured:
    """Only decompress the dump, with the fastest library we know: the limit of parse_gzip."""
    from isal import igzip

    measured: Measured = {}
    with clock(measured), igzip.open(RAW, "rb") as file:
        while file.read(1 << 20):
            pass
    return measured


def read_csv() -> Measured:
    """Read the reviews as CSV, and let pyarrow alone read them, in turns; return both's seconds."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    path, serial = RAW.with_name("reviews.csv"), csv.ReadOptions(use_threads=False)
    if not path.exists():
        csv.write_csv(pq.read_table(REVIEWS), path)
    return read_in_turns(path, "rating", lambda: csv.open_csv(path, serial))


def read_parquet() -> Measured:
    """Read the reviews as Parquet, and let pyarrow alone read them, in turns; return both's seconds."""
    import pyarrow.parquet as pq

    path = RAW.with_name("reviews.parquet")
    if not path.exists():
        pq.write_table(pq.read_table(REVIEWS), path)
    return read_in_turns(path, "rating", lambda: pq.ParquetFile(path).iter_batches(BATCH_ROWS, use_threads=False))


def read_numbers() -> Measured:
    """Read Parquet whose ids are whole numbers, and let pyarrow alone read it as text, in turns; return both's seconds.

    Ids are text from parse_gzip on, so pyarrow makes text of them, too.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, text = RAW.with_name("numbers.parquet"), pa.schema([("user_id", pa.string()), ("book_id", pa.string())])
    if not path.exists():
        rows = pq.read_table("data/processed/interactions.parquet")
        pq.write_table(rows.rename_columns({"user_idx": "user_id", "book_idx": "book_id"}), path)

    def as_text() -> Iterator[object]:
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, use_threads=False):
            yield batch["timestamp"], batch.select(text.names).cast(text)

    return read_in_turns(path, None, as_text)


def read_in_turns(path: Path, rating: str | None, alone: Callable[[], Iterable[object]]) -> Measured:
    """Return the median seconds of our reading of `path`, and of going through what `alone` returns, in turns."""
    from sasrec.core import params
    from sasrec.dump.formats import Format
    from sasrec.dump.params import ParseGzipParams
    from sasrec.dump.shard_pool import READERS

    file: File = "csv" if path.suffix == ".csv" else "parquet"
    dump_format = Format(file, "user_id", "book_id", "timestamp", rating, "date")
    parse_params = params.load(Path("params.yaml"), "parse_gzip", ParseGzipParams)

    def ours() -> Iterable[object]:
        return READERS[file](path, parse_params, dump_format)

    def seconds_of(read: Callable[[], Iterable[object]]) -> float:
        return timeit.timeit(lambda: deque(read(), maxlen=0), number=1)

    measured = [(seconds_of(ours), seconds_of(alone)) for _ in range(TURNS)]
    seconds, limit_seconds = map(statistics.median, zip(*measured, strict=True))
    return {"seconds": seconds, "limit_seconds": limit_seconds}


def filter_plain() -> Measured:
    """Filter, re-index and sort reviews in memory with pandas."""
    import pandas as pd

    import reference

    reviews = pd.read_parquet(REVIEWS, columns=["user_id", "timestamp", "book_id"])
    reviews["timestamp"] = reviews["timestamp"].astype(str)
    measured: Measured = {}
    with clock(measured):
        reference.filter_reindex(reviews, min_ratings=10)
    return measured


def filter_files() -> Measured:
    """Only read the input and write the outputs of filter_reindex: its limit."""
    import pyarrow.parquet as pq

    outputs = [pq.ParquetFile(path).read() for path in sorted(Path("data/processed").glob("*.parquet"))]
    measured: Measured = {}
    with clock(measured):
        pq.ParquetFile("data/interim/reviews.parquet").read(columns=["user_id", "timestamp", "book_id"])
        for table in outputs:
            pq.write_table(table, io.BytesIO(), compression="zstd")
    return measured


def split_files() -> Measured:
    """Only read the input and write the outputs of split: its limit."""
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file, save

    outputs = [load_file(path) for path in sorted(Path("data/split").glob("*.safetensors"))]
    measured: Measured = {}
    with clock(measured):
        pq.ParquetFile("data/processed/interactions.parquet").read(columns=["user_idx", "book_idx"])
        for tensors in outputs:
            save(tensors)
    return measured


def params(**loss: object) -> "tuple[SasrecParams, TrainParams]":
    """Return the sections sasrec and train of params.yaml with the changes of PAPER, and with another `loss`."""
    import msgspec

    from sasrec.core.params import read
    from sasrec.model.params import SasrecParams
    from sasrec.training.params import TrainParams

    document = read(Path("params.yaml"))
    sasrec, train = ({**document[section], **PAPER[section]} for section in ("sasrec", "train"))
    return msgspec.convert(sasrec, SasrecParams), msgspec.convert(train | loss, TrainParams)


def short_histories() -> "TrainingSet":
    """Return a training set whose users have 9 books on average, as in Amazon's video reviews."""
    from sasrec.split.datasets import TrainingSet
    from sasrec.split.sequences import Sequences

    rng = np.random.default_rng(0)
    lengths = 4 + rng.geometric(1 / 6, size=31_000) - 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = (rng.integers(1, 25_476, size=offsets[-1])).astype(np.int32)
    return TrainingSet(Sequences(items, offsets), np.zeros(len(items), np.int32), len(lengths), 25_475)


def training_set(histories: str) -> "TrainingSet":
    """Return the training set of short or long `histories`."""
    from sasrec.split import datasets

    return short_histories() if histories == "short" else datasets.load_training_set(TRAIN)


def step(histories: str) -> Measured:
    """Run training steps as train_gpu does; return the median seconds of a step with its sampling."""
    from sasrec.runtime import cores, device
    from sasrec.training import sampling, step, training_loss

    sasrec, train_params = params()
    where = device.use("cpu", cores.num_threads(Path("params.yaml")))
    train = training_set(histories)
    state = step.start(train, train_params, sasrec, where)
    spec = step.batch_spec(train_params, sasrec.max_len)
    loss = training_loss.TrainingLoss(state.model, train, train_params)
    sampler = sampling.PackedSampler(train, spec)
    draws: list[float] = []

    def run_step() -> None:
        start = time.perf_counter()
        batch = sampler.draw(state.batch_rng)
        draws.append(time.perf_counter() - start)
        step.step(state, batch, loss)

    seconds = median_seconds(run_step)
    batches = [sampler.draw(state.batch_rng) for _ in range(10)]

    def run_all() -> None:
        for batch in batches:
            step.step(state, batch, loss)

    limit = count_flops(run_all) / 10 / peak_flops()
    sampling_seconds = statistics.median(draws[-STEPS:])
    return {"seconds": seconds, "limit_seconds": limit, "sampling_share": sampling_seconds / seconds}


def step_cuda(**changes: object) -> Measured:
    """Run training steps on a GPU as train_gpu does, with `changes` of train; return the median seconds of a step."""
    import torch

    from sasrec.runtime import cores, device
    from sasrec.training import loop, step

    sasrec, train_params = params(**changes)
    where = device.use("cuda", cores.num_threads(Path("params.yaml")))
    train = training_set("long")
    take_step = loop.step_function(step.start(train, train_params, sasrec, where), train)
    seconds = median_seconds(take_step, torch.cuda.synchronize)
    return {"seconds": seconds, "device_peak_mb": torch.cuda.max_memory_allocated() / 1e6}


def step_of(loss: str) -> Measured:
    """Run steps of `loss` and of the paper's loss in turns; return the median seconds of each, the paper's as limit."""
    from sasrec.runtime import cores, device
    from sasrec.training import loop, step

    train = training_set("long")
    times: dict[str, list[float]] = {"seconds": [], "limit_seconds": []}
    steps = {}
    for name, changes in (("seconds", LOSSES[loss]), ("limit_seconds", {})):
        sasrec, train_params = params(**changes)
        where = device.use("cpu", cores.num_threads(Path("params.yaml")))
        steps[name] = loop.step_function(step.start(train, train_params, sasrec, where), train)
    for number in range(WARM_UP_STEPS + STEPS):
        for name, take_step in steps.items():
            start = time.perf_counter()
            take_step()
            if number >= WARM_UP_STEPS:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def median_seconds(
    act: Callable[[], object],
    wait: Callable[[], object] = lambda: None,
    warm_up: int = WARM_UP_STEPS,
    runs: int = STEPS,
) -> float:
    """Return the median seconds of `act` after a warm-up; `wait` waits for the device."""
    times = []
    for _ in range(warm_up + runs):
        wait()
        start = time.perf_counter()
        act()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])


def count_flops(act: Callable[[], None]) -> int:
    """Return the floating-point operations of `act` with PyTorch's own products, the only ones its counter knows."""
    from torch.utils.flop_counter import FlopCounterMode

    from sasrec.model import matmul

    with mock.patch.object(matmul, "PORTABLE", False), FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()


def peak_flops() -> float:
    """Return the floating-point operations per second of a large matrix product in this process."""
    import torch

    from sasrec.model import matmul

    x = torch.randn(2048, 2048)
    matmul.linear(x, x)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        matmul.linear(x, x)
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def plain_model(num_books: int) -> tuple[Any, Any, "SasrecParams", "TrainParams"]:
    """Return the reference's model, its optimiser, and the params."""
    import torch

    import reference
    from sasrec.runtime import cores

    sasrec, train_params = params()
    torch.set_num_threads(cores.num_threads(Path("params.yaml")))
    model = reference.Sasrec(sasrec, num_books)
    torch.nn.init.normal_(model.item_embedding.weight, std=sasrec.init_std)
    return model, torch.optim.Adam(model.parameters(), lr=train_params.lr), sasrec, train_params


def step_plain(histories: str) -> Measured:
    """Run the reference's steps; return the median seconds of a step with its sampling."""
    import reference

    train = training_set(histories)
    model, optimizer, sasrec, train_params = plain_model(train.num_books)
    books = as_arrays(train.histories)
    rng = np.random.default_rng(0)

    def run_step() -> None:
        batch = reference.sample(books, train_params, sasrec.max_len, train.num_books, rng)
        reference.step(model, optimizer, batch)

    return {"seconds": median_seconds(run_step)}


def as_arrays(sequences: "Sequences") -> list[np.ndarray]:
    """Return an array of books for each user."""
    return np.split(sequences.items, sequences.offsets[1:-1])


def evaluate(device_name: str = "cpu") -> Measured:
    """Rank every held-out user's true book, among negatives and in the full catalogue, by an untrained model."""
    from sasrec.evaluation import model_scorer, ranking
    from sasrec.runtime import cores, device
    from sasrec.runtime.world import ALONE
    from sasrec.split import datasets
    from sasrec.training import step

    sasrec, train_params = params()
    where = device.use(device_name, cores.num_threads(Path("params.yaml")))
    train = datasets.load_training_set(TRAIN)
    model = step.start(train, train_params, sasrec, where).model
    held_out = datasets.load_held_out(EVALUATION, train)

    def evaluate_all() -> None:
        ranking.rank(held_out, model_scorer.by_model(model), ALONE, where)  # waits for the GPU

    start = time.perf_counter()
    evaluate_all()
    first = time.perf_counter() - start
    seconds = median_seconds(evaluate_all, warm_up=0, runs=5)
    found = {"seconds": seconds, "first_seconds": first}
    if where.type == "cuda":
        return found  # `peak_flops` is the processor's
    return found | {"limit_seconds": count_flops(evaluate_all) / peak_flops()}


def evaluate_plain() -> Measured:
    """Draw negatives and rank them, one user at a time; there is no full ranking."""
    import reference
    from sasrec.split import datasets

    train = datasets.load_training_set(TRAIN)
    held_out = datasets.load_held_out(EVALUATION, train)
    model, _, sasrec, _ = plain_model(train.num_books)
    books = as_arrays(held_out.histories)
    rng = np.random.default_rng(0)
    return {
        "seconds": median_seconds(
            lambda: reference.evaluate(model, books, held_out.true_books, sasrec.max_len, rng), warm_up=1, runs=5
        )
    }


def pipeline_plain() -> Measured:
    """Run the plain algorithms from the dump to the metrics, in one process without any cache."""
    import reference
    from sasrec.split import datasets, sequences

    measured: Measured = {}
    with clock(measured):
        rows = reference.filter_reindex(reference.parse(RAW), min_ratings=10)
        users, books = rows["user_idx"].to_numpy(), rows["book_idx"].to_numpy()
        num_users = int(users[-1]) + 1
        histories = sequences.from_sorted_rows(users, books, num_users)
        # Drawing the held-out set the plain way would cost too little to matter.
        held_out = datasets.load_held_out(EVALUATION, datasets.load_training_set(TRAIN))
        train = [part for i, part in enumerate(as_arrays(histories)) if i not in set(held_out.users.tolist())]
        model, optimizer, sasrec, train_params = plain_model(int(books.max()))
        rng = np.random.default_rng(0)
        for _ in range(NUM_EPOCHS * (num_users // train_params.batch_size)):
            batch = reference.sample(train, train_params, sasrec.max_len, int(books.max()), rng)
            reference.step(model, optimizer, batch)
        reference.evaluate(model, as_arrays(held_out.histories), held_out.true_books, sasrec.max_len, rng)
    return measured


def repro(mode: str) -> Measured:
    """Run `dvc repro` in a fresh clone of HEAD with an empty cache, then again with nothing to do."""
    dump = RAW.resolve()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:  # on the dump's file system, so that DVC can link it
        clone = Path(scratch, "clone")
        run("git", "clone", "-q", str(ROOT), str(clone))
        document = YAML().load(clone / "params.yaml")
        document["fetch"].update(source="file", file=str(dump))
        document["sasrec"].update(PAPER["sasrec"])
        document["train"].update(PAPER["train"], reproducibility=mode)
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
    "read_csv": read_csv,
    "read_parquet": read_parquet,
    "read_numbers": read_numbers,
    "filter_reindex": lambda: stage("filter_reindex", "ibis.backends.duckdb"),
    "filter_plain": filter_plain,
    "filter_files": filter_files,
    "split": lambda: stage("split"),
    "split_files": split_files,
    "step": lambda: step("long"),
    "step_plain": lambda: step_plain("long"),
    "step_short": lambda: step("short"),
    "step_short_plain": lambda: step_plain("short"),
    **{f"step_{loss}": functools.partial(step_of, loss) for loss in LOSSES},
    "step_bce_cuda": step_cuda,
    **{f"step_{loss}_cuda": functools.partial(step_cuda, **LOSSES[loss]) for loss in LOSSES},
    "evaluate": evaluate,
    "evaluate_cuda": lambda: evaluate("cuda"),
    "evaluate_plain": evaluate_plain,
    "repro_portable": lambda: repro("portable"),
    "repro_fast": lambda: repro("fast"),
    "pipeline_plain": pipeline_plain,
}


def main() -> None:
    """Measure the work named on the command line, in the folder named there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    os.chdir(arguments.folder)
    with contextlib.redirect_stdout(sys.stderr):
        measured = WORK[arguments.work]()
    who = resource.RUSAGE_CHILDREN if arguments.work.startswith("repro") else resource.RUSAGE_SELF
    measured["peak_mb"] = resource.getrusage(who).ru_maxrss / 1024  # the largest process's
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
