"""What several tests share: small data made by hand, and the ground truth where it is there."""

import contextlib
import fcntl
import functools
import gc
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

# Threads that wait for others spin, and two tests run at a time on as few cores: then they wait for each other. It is
# read when torch is imported, and changes no bit.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import msgspec
import numpy as np
import pytest

from sasrec.dump.params import ParseGzipParams
from sasrec.io import spark
from sasrec.split.datasets import TrainingSet
from sasrec.split.sequences import Sequences
from sasrec.training.params import TrainParams

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sasrec.model.sasrec import Sasrec
    from sasrec.serving.model_folder import Model

for name in ("MAKEFLAGS", "MAKELEVEL"):  # of the make that runs the tests: another one would print its folder
    os.environ.pop(name, None)

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the ground truth of the original notebook is not in the repository: no ../shared here")
    return SHARED


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server on the loopback, which has an empty bucket `books` and is told to everyone."""
    import boto3
    import requests
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in (names | {"AWS_ENDPOINT_URL": address}).items():
        monkeypatch.setenv(name, value)
    requests.post(f"{address}/moto-api/reset")  # else what an earlier test put there is still there
    boto3.client("s3").create_bucket(Bucket="books")
    S3FileSystem.clear_instance_cache()  # one of an earlier test knows that test's address
    yield address
    server.stop()


@pytest.fixture(scope="session")
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    """A session that sorts even small tables in several parts."""
    pytest.importorskip("pyspark", reason="PySpark is not installed: it comes with the extra `spark`")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none")
    with spark.session("local[2]", "filter_reindex.engine", tmp_path_factory.mktemp("spark")) as session:
        session.conf.set("spark.sql.shuffle.partitions", "3")
        session.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
        yield session


def sequences(*users: Iterable[int]) -> Sequences:
    """One list of books a user."""
    lists = [list(books) for books in users]
    offsets = np.cumsum([0, *map(len, lists)])
    return Sequences(np.array([book for books in lists for book in books], dtype=np.int32), offsets)


def training_set(histories: Sequences, num_books: int, days: Sequence[int] | None = None) -> TrainingSet:
    """What may be learnt from; the days are those of the books, all 0 if not given."""
    days_read = np.zeros(len(histories.items)) if days is None else np.array(days)
    return TrainingSet(histories, days_read.astype(np.int32), len(histories), num_books)


def model_of(network: "Sasrec", **changes: object) -> "Model":
    """A model of the network alone, whose books are 10, 20, ...: the higher, the more recent ratings, the fewer in all."""
    import pyarrow as pa

    from sasrec.model.sasrec import HybridWeights
    from sasrec.serving.model_folder import Model
    from sasrec.serving.vocabulary import Vocabulary
    from sasrec.split import transitions

    books = Vocabulary(pa.array([str(10 * book) for book in range(1, network.num_books + 1)]), 1)
    ratings = np.arange(network.num_books + 1)
    counted = transitions.count(sequences([1, 2, 3], [1, 3]), network.num_books)
    return replace(Model(network, HybridWeights(), True, books, ratings[::-1], ratings, counted), **changes)


@functools.cache
def committed(section: str) -> dict[str, object]:
    """A section of the committed params.yaml."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(ROOT / "params.yaml")[section]


PLAIN = {"loss": "bce", "num_negatives": 1, "lr": 0.001, "warmup_steps": 0, "schedule": "constant"}


def train_params(**changes: object) -> TrainParams:
    """Section `train` of the committed params.yaml with the paper's loss and a constant rate, and with changes."""
    return msgspec.convert(committed("train") | PLAIN | changes, TrainParams)


def parse_gzip_params(**changes: object) -> ParseGzipParams:
    """Section `parse_gzip` of the committed params.yaml, with changes."""
    return msgspec.convert(committed("parse_gzip") | changes, ParseGzipParams)


def as_lists(given: Sequences) -> list[list[int]]:
    return [given.items[a:b].tolist() for a, b in zip(given.offsets[:-1], given.offsets[1:], strict=True)]


def review(user_id: str = "u", timestamp: str = "2015-01-05", book_id: str = "b", **more: object) -> dict[str, object]:
    return {"user_id": user_id, "timestamp": timestamp, "book_id": book_id, "rating": 3, **more}


def write_dump(path: Path, reviews: Iterable[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(each) + "\n" for each in reviews).encode(), mtime=0))
    return path


def copy_project(destination: Path) -> Path:
    """Commit the working tree's files, as they are now, to a new repository without any data."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "The project"]):
        subprocess.run(["git", *command], cwd=destination, check=True)
    return destination


Run = Callable[..., subprocess.CompletedProcess[str]]


def runner(folder: Path) -> Run:
    """Run a command in `folder` with this interpreter's environment first on the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    identity = {
        f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment = {**os.environ, **identity, "PATH": path}

    def run(*command: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, f"{command}: {done.stdout}\n{done.stderr}"
        return done

    return run


@contextlib.contextmanager
def terminal(encoding: str) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Standard output and error for a while, as Python opens them where PYTHONIOENCODING names an encoding."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding, "strict", write_through=True)
    said = io.TextIOWrapper(io.BytesIO(), encoding, "backslashreplace", write_through=True)
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
        yield shown, said


def out_of_date(project: Path) -> set[str]:
    """The stages that `dvc status` names; without a process, whose start takes longer than the answer."""
    from dvc.repo import Repo

    with contextlib.chdir(project), Repo() as repo:  # elsewhere, it would name their paths, too
        return set(repo.status())


def set_params(folder: Path, **sections: dict[str, object]) -> None:
    """Change keys of params.yaml: set_params(folder, train={"lr": 0.01})."""
    from ruamel.yaml import YAML

    document = YAML().load(folder / "params.yaml")
    for section, changes in sections.items():
        document[section].update(changes)
    YAML().dump(document, folder / "params.yaml")


SMALL = {
    "fetch": {"demo_users": 400},
    "evaluation": {"num_user_sample": 60},
    "sasrec": {"hidden_units": 16},
    "train": {"num_epochs": 2, "batch_size": 64},
}


def run_small_pipeline(folder: Path) -> Path:
    copy_project(folder)
    set_params(folder, **SMALL)
    run = runner(folder)
    run("dvc", "repro")
    run("git", "commit", "-qam", "Run it small")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """What `make` makes in the folder that it is given; of several test processes one makes it, and the others copy it."""
    folder = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make(folder)
    of_all = factory.getbasetemp().parent
    with (of_all / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (of_all / name).exists():
            return shutil.copytree(of_all / name, folder, dirs_exist_ok=True)
        (of_all / name).symlink_to(make(folder))
        return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline after `dvc repro`, its lock committed."""
    return made_once(tmp_path_factory, "finished", run_small_pipeline)


@pytest.fixture(scope="session")
def tried(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project with an experiment, `unpadded`, which is also in the workspace; nobody changes it."""

    def run_experiment(folder: Path) -> Path:
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        name = ("--name", "unpadded")
        runner(folder)("dvc", "exp", "run", "--single-item", *name, "-S", "evaluation.padding=false", "evaluate")
        return folder

    return made_once(tmp_path_factory, "tried", run_experiment)


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "project")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage among all that the tests import, which would take a second and a half."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="PyTorch finds no CUDA device here"))
