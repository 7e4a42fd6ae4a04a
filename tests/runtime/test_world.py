"""Several processes train and rank as one does, and end together."""

import csv
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import curves
import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, runner, sequences, set_params, train_params

from sasrec.evaluation import model_scorer, ranking
from sasrec.runtime import launch, reproducibility
from sasrec.runtime.world import ALONE, World
from sasrec.split.datasets import HeldOut
from sasrec.training import step, training_loss
from sasrec.training.sampling import PackedSampler

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Steps so small are slower with more, and each of two processes has one, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [0, 1, 2, 7, 128])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_row_is_of_one_process_and_none_has_two_more_than_another(number: int, size: int) -> None:
    shares = [World(rank, size).rows(number) for rank in range(size)]
    assert [row for rows in shares for row in rows] == list(range(number))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@functools.cache
def started(objective: str) -> step.TrainingState:
    return step.start(curves.TRAIN, curves.params_of(objective), curves.SASREC, curves.CPU)


@pytest.mark.parametrize("objective", curves.OBJECTIVES)
@pytest.mark.parametrize("size", [2, 3, 20])  # 20: more than there are rows
def test_the_mean_of_all_shares_is_the_loss_and_the_gradient_of_the_batch(objective: str, size: int) -> None:
    params = curves.params_of(objective)
    state = started(objective)
    batch = PackedSampler(curves.TRAIN, step.batch_spec(params, curves.SASREC.max_len)).draw(np.random.default_rng(0))
    assert len(batch.history) < 20

    def loss_and_gradient(world: World) -> list[torch.Tensor]:
        state.generator.manual_seed(1)
        loss = training_loss.TrainingLoss(state.model, curves.TRAIN, params, world)(batch, state.generator)
        return [loss.detach(), *torch.autograd.grad(loss, list(state.model.parameters()))]

    of_shares = [loss_and_gradient(World(rank, size)) for rank in range(size)]
    for *parts, whole in zip(*of_shares, loss_and_gradient(ALONE), strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-4, atol=1e-7)


def curves_of_two(*start: str) -> dict[str, list[float]]:
    """What two processes print, whose products are those of oneDNN."""
    paths = os.pathsep.join([str(ROOT / "stages"), str(ROOT / "tests")])
    environment = os.environ | reproducibility.PORTABLE | {"PYTHONPATH": paths}
    command = [*start, str(ROOT / "tests/curves.py"), "2"]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


@pytest.fixture(scope="module")
def of_two() -> dict[str, list[float]]:
    return curves_of_two(sys.executable)


@pytest.mark.long
@pytest.mark.parametrize("objective", curves.CURVES)
def test_two_processes_have_the_losses_of_one_step_by_step(of_two: dict, objective: str) -> None:
    alone = curves.curve(objective)
    assert len(set(alone)) == curves.NUM_STEPS
    assert of_two[objective] == pytest.approx(alone, rel=1e-5)


@pytest.mark.long
def test_two_runs_of_two_processes_have_the_same_bits_whoever_starts_them(of_two: dict) -> None:
    assert curves_of_two(*TORCHRUN) == of_two


def test_the_ranks_of_all_shares_add_up_to_those_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "sum", lambda _world, tensor: tensor)
    network = step.start(curves.TRAIN, train_params(), curves.SASREC, curves.CPU).model
    rng = np.random.default_rng(0)
    histories = sequences(*(rng.permutation(60)[:length] + 1 for length in rng.integers(1, 12, size=300)))
    task = HeldOut(np.arange(300), histories, rng.integers(1, 61, size=300), rng.integers(1, 61, size=(300, 9)))
    worlds = [World(rank, size=3) for rank in range(3)]
    features = [model_scorer.encode_histories(network, histories, world) for world in worlds]
    assert torch.equal(sum(features), model_scorer.encode_histories(network, histories))
    ranks = [ranking.rank(task, model_scorer.by_model(network), world) for world in worlds]
    assert np.array_equal(np.sum(ranks, axis=0), ranking.rank(task, model_scorer.by_model(network)))


TRAIN_GPU = (sys.executable, "stages/train_gpu.py")


def losses(project: Path) -> list[float]:
    with (project / "plots/loss.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_the_evaluation_is_the_same_with_two_processes(project: Path) -> None:
    paths = [project / "metrics/eval.json", project / "plots/rank_histogram.csv"]
    alone = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    runner(project)(*TORCHRUN, "stages/evaluate.py")
    assert [path.read_bytes() for path in paths] == alone


WORKER = (sys.executable, str(ROOT / "tests/runtime/worker.py"))
STAGES = {"PYTHONPATH": str(ROOT / "stages")}


def answer_ctrl_c() -> None:
    """A shell without job control lets what it starts in the background ignore Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command, and kills it and its processes when the test has ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, cwd: Path = tmp_path, **variables: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = os.environ | variables
        process = subprocess.Popen(command, cwd=cwd, env=environment, text=True, preexec_fn=answer_ctrl_c, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # the others end with the first one
        process.communicate()


def end_of(command: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit status and the lines on standard error."""
    _, said = command.communicate()
    return command.returncode, said.splitlines()


def others_of(first: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(first.pid).children()


def start_training(project: Path, start: Callable) -> subprocess.Popen[str]:
    """Start a training, and return it once there is a new checkpoint."""
    before = time.time()
    command = start(*TRAIN_GPU, cwd=project)
    while not any(path.stat().st_mtime > before for path in project.glob("checkpoints/train_gpu/*[0-9a-f]")):
        assert command.poll() is None
        time.sleep(0.02)
    return command


@pytest.mark.long
def test_ctrl_c_ends_every_process_and_another_number_goes_on_to_the_losses_of_one(
    project: Path, start: Callable
) -> None:
    set_params(project, train={"num_epochs": 15})
    runner(project)(*TRAIN_GPU)  # a process of its own, in portable mode like the others
    alone = losses(project)

    set_params(project, train={"processes": 2})
    two = start_training(project, start)
    others = others_of(two)
    two.send_signal(signal.SIGINT)
    assert end_of(two) == (1, [f"error: interrupted; {launch.RESUME}"])
    psutil.wait_procs(others)  # until each has ended

    set_params(project, train={"processes": 1})
    one = start_training(project, start)
    one.send_signal(signal.SIGKILL)
    status, (line,) = end_of(one)
    assert status == -signal.SIGKILL
    assert "going on after step" in line

    set_params(project, train={"processes": 2})
    assert "going on after step" in runner(project)(*TRAIN_GPU).stderr
    assert losses(project) == pytest.approx(alone, rel=1e-4)


def start_connected(start: Callable) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Two processes that are connected: the first one, and the other, which it started."""
    first = start(*WORKER, "2", **STAGES)
    assert first.stdout.readline() == "connected\n"
    [other] = others_of(first)
    return first, other


def test_a_killed_process_ends_the_first_one_which_names_it(start: Callable) -> None:
    first, other = start_connected(start)
    other.send_signal(signal.SIGKILL)
    assert end_of(first) == (1, [f"error: process 2 of 2 was ended by SIGKILL; {launch.RESUME}"])


def test_no_process_outlives_a_first_one_that_is_killed(start: Callable) -> None:
    first, other = start_connected(start)
    first.send_signal(signal.SIGKILL)
    assert end_of(first) == (-signal.SIGKILL, [])
    psutil.wait_procs([other])  # until it has ended


def test_what_params_hold_wrong_is_said_once(project: Path) -> None:
    set_params(project, train={"lr": -1, "processes": 2})
    done = runner(project)(*TRAIN_GPU, fails=True)
    assert len(done.stderr.splitlines()) == 1


def only_line(command: subprocess.Popen[str]) -> str:
    """All that a command which fails writes to standard error."""
    status, (line,) = end_of(command)
    assert status == 1
    return line


def test_an_interface_that_is_not_there_is_named_in_pytorchs_own_words(start: Callable) -> None:
    line = only_line(start(*WORKER, "2", GLOO_SOCKET_IFNAME="ib0", **STAGES))
    assert line.startswith("error: the training processes cannot be connected by gloo: ifa != nullptr. ")
    assert line.endswith("Unable to find address for: ib0")


@pytest.fixture
def without_loopback() -> list[str]:
    """What comes before a command that has a network of its own, with nothing up."""
    command = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network can be taken away here: that takes Linux, and root or user namespaces")
    return command


def test_a_machine_that_cannot_reach_itself_is_told_so(start: Callable, without_loopback: list[str]) -> None:
    line = only_line(start("timeout", "60", *without_loopback, *WORKER, "2", **STAGES))
    assert line.startswith("error: this machine cannot reach itself at 127.0.0.1 (Network is unreachable)")


@pytest.mark.parametrize("fails", ["early", "late"])
def test_what_one_process_has_to_say_is_the_reason_that_all_end(start: Callable, fails: str) -> None:
    # The second one's last word is that it lost its connection.
    assert only_line(start(*WORKER, "3", fails, **STAGES)) == "error: process 3 of 3: no room"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_another_answers_a_signal(start: Callable, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    first = start(*WORKER, "2", RANK="0", WORLD_SIZE="2", **address, **STAGES)
    while not any(each.laddr.port == port for each in psutil.Process(first.pid).net_connections()):
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(number)
    assert end_of(first) == (1, [f"error: interrupted; {launch.RESUME}"])
