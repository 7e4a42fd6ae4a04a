"""Several processes train and rank as one does, and end together."""

import csv
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

import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, runner, sequences, set_params, train_params

from sasrec import launch, ranking, scorers, training
from sasrec.holdout import HeldOut
from sasrec.processes import Share
from sasrec.sampling import PackedSampler

with pytest.MonkeyPatch.context() as patch:  # the stage sets variables for torch when it is imported
    patch.setattr(os, "environ", os.environ.copy())
    import curves

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Steps so small are slower with more, and each of two processes has one, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [0, 1, 2, 7, 128])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_row_is_of_one_process_and_none_has_two_more_than_another(number: int, count: int) -> None:
    shares = [Share(rank, count).rows(number) for rank in range(count)]
    assert [row for rows in shares for row in rows] == list(range(number))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("objective", curves.OBJECTIVES)
@pytest.mark.parametrize("count", [2, 3, 20])  # 20: more than there are rows
def test_the_mean_of_all_shares_is_the_loss_and_the_gradient_of_the_batch(objective: str, count: int) -> None:
    params = train_params(batch_size=16, **curves.OBJECTIVES[objective])

    def loss_and_gradient(share: Share) -> list[torch.Tensor]:
        state = training.start(curves.TRAIN, params, curves.SASREC, curves.CPU)
        batch = PackedSampler(curves.TRAIN, training.sizes(params, curves.SASREC.max_len)).draw(state.batch_rng)
        assert len(batch.history) < 20
        loss = training.Objective(state.model, curves.TRAIN, params, share)(batch, state.generator)
        loss.backward()
        return [loss.detach(), *(parameter.grad for parameter in state.model.parameters())]

    of_shares = [loss_and_gradient(Share(rank, count)) for rank in range(count)]
    for *parts, whole in zip(*of_shares, loss_and_gradient(Share(0, 1)), strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-4, atol=1e-7)


def curves_of(count: int) -> dict[str, list[float]]:
    """What as many processes as that print."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "stages"), str(ROOT / "tests")])}
    command = [sys.executable, ROOT / "tests/curves.py", str(count)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


@pytest.fixture(scope="module")
def curves_of_two() -> dict[str, list[float]]:
    return curves_of(2)


@pytest.mark.parametrize("objective", curves.OBJECTIVES)
def test_two_processes_have_the_losses_of_one_step_by_step(curves_of_two: dict, objective: str) -> None:
    alone = curves.curve(objective)
    assert len(set(alone)) == curves.STEPS
    assert curves_of_two[objective] == pytest.approx(alone, rel=1e-5)


def test_two_runs_of_two_processes_have_the_same_bits(curves_of_two: dict) -> None:
    assert curves_of(2) == curves_of_two


def test_the_ranks_of_all_shares_add_up_to_those_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Share, "sum", lambda _share, tensor: tensor)
    network = training.start(curves.TRAIN, train_params(), curves.SASREC, curves.CPU).model
    rng = np.random.default_rng(0)
    histories = sequences(*(rng.permutation(60)[:length] + 1 for length in rng.integers(1, 12, size=300)))
    task = HeldOut(np.arange(300), histories, rng.integers(1, 61, size=300), rng.integers(1, 61, size=(300, 9)))
    shares = [Share(rank, 3) for rank in range(3)]
    features = [scorers.features_after(network, histories, share) for share in shares]
    assert torch.equal(sum(features), scorers.features_after(network, histories))
    ranks = [ranking.rank(task, scorers.by_model(network), share) for share in shares]
    assert np.array_equal(np.sum(ranks, axis=0), ranking.rank(task, scorers.by_model(network)))


TRAIN_GPU = (sys.executable, "stages/train_gpu.py")


def losses(project: Path) -> list[float]:
    with (project / "plots/loss.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_the_stage_trains_and_ranks_the_same_with_two_processes(project: Path) -> None:
    run = runner(project)
    alone = losses(project)
    set_params(project, train={"processes": 2})
    run(*TRAIN_GPU)
    weights = (project / "models/sasrec.safetensors").read_bytes()
    assert losses(project) == pytest.approx(alone, rel=1e-5)
    run(*TORCHRUN, "stages/train_gpu.py")
    assert (project / "models/sasrec.safetensors").read_bytes() == weights


def test_a_process_without_a_row_of_the_batch_trains_as_well(project: Path) -> None:
    losses_of = []
    for processes in (1, 3):
        set_params(project, train={"batch_size": 2, "num_epochs": 1, "loss": "softmax", "processes": processes})
        runner(project)(*TRAIN_GPU)
        losses_of.append(losses(project))
    assert losses_of[1] == pytest.approx(losses_of[0], rel=1e-4)


def test_the_evaluation_is_the_same_with_two_processes(project: Path) -> None:
    paths = [project / "metrics/eval.json", project / "plots/rank_histogram.csv"]
    alone = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    runner(project)(*TORCHRUN, "stages/evaluate.py")
    assert [path.read_bytes() for path in paths] == alone


@pytest.fixture
def start(project: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], list[psutil.Process]]]]:
    """Starts a long training, and returns it and the processes that it started, once there is a checkpoint."""
    started: list[psutil.Process] = []

    def start() -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        command = subprocess.Popen(
            TRAIN_GPU,
            cwd=project,
            stderr=subprocess.PIPE,
            text=True,
            # A shell without job control lets what it starts in the background ignore Ctrl-C, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        before = time.time()
        while not any(path.stat().st_mtime > before for path in project.glob("checkpoints/train_gpu/*[0-9a-f]")):
            assert command.poll() is None
            time.sleep(0.02)
        others = psutil.Process(command.pid).children()
        started.extend([psutil.Process(command.pid), *others])
        return command, others

    yield start
    for process in started:
        if process.is_running():
            process.kill()


def end_of(command: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit status and the lines on standard error."""
    _, said = command.communicate()
    return command.returncode, said.splitlines()


def test_a_killed_process_ends_all_and_any_number_goes_on_from_the_checkpoint(project: Path, start: Callable) -> None:
    set_params(project, train={"num_epochs": 15})
    runner(project)(*TRAIN_GPU)
    alone = losses(project)

    set_params(project, train={"processes": 2})
    two, (other,) = start()
    other.send_signal(signal.SIGKILL)
    status, lines = end_of(two)
    assert status == 1
    assert lines == [f"error: process 2 of 2 was ended by SIGKILL; {launch.RESUME}"]

    set_params(project, train={"processes": 1})
    one, _ = start()
    one.send_signal(signal.SIGKILL)
    assert "going on after step" in end_of(one)[1][0]

    set_params(project, train={"processes": 2})
    assert "going on after step" in runner(project)(*TRAIN_GPU).stderr
    assert losses(project) == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_first_one(project: Path, start: Callable, end: signal.Signals) -> None:
    set_params(project, train={"num_epochs": 100, "processes": 2})
    first, others = start()
    first.send_signal(end)
    _, lines = end_of(first)
    assert lines == ([] if end == signal.SIGKILL else [f"error: interrupted; {launch.RESUME}"])
    psutil.wait_procs(others)  # until each has ended


def test_what_params_hold_wrong_is_said_once(project: Path) -> None:
    set_params(project, train={"lr": -1, "processes": 2})
    done = runner(project)(*TRAIN_GPU, fails=True)
    assert len(done.stderr.splitlines()) == 1


def test_an_interface_that_is_not_there_is_named_in_pytorchs_own_words(project: Path) -> None:
    set_params(project, train={"processes": 2})
    done = runner(project)("env", "GLOO_SOCKET_IFNAME=ib0", *TRAIN_GPU, fails=True)
    assert done.stderr.startswith("error: the training processes cannot be connected by gloo: ifa != nullptr. ")
    assert done.stderr.endswith("Unable to find address for: ib0\n")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def without_loopback() -> list[str]:
    """What comes before a command that has a network of its own, with nothing up."""
    command = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network can be taken away here: that takes Linux, and root or user namespaces")
    return command


def test_a_machine_that_cannot_reach_itself_is_told_so(project: Path, without_loopback: list[str]) -> None:
    set_params(project, train={"processes": 2})
    done = runner(project)("timeout", "60", *without_loopback, *TRAIN_GPU, fails=True)
    assert done.stderr.startswith("error: this machine cannot reach itself at 127.0.0.1 (Network is unreachable)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_another_answers_a_signal(project: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    first = subprocess.Popen(
        TRAIN_GPU,
        cwd=project,
        env=os.environ | variables,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not any(each.laddr.port == port for each in psutil.Process(first.pid).net_connections()):
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(number)
    assert end_of(first) == (1, [f"error: interrupted; {launch.RESUME}"])


WORKER = """
import torch
from sasrec import errors, launch

launch.GRACE_SECONDS = 1.0

def main():
    share = launch.share_of(3)
    if share.rank == {fails_early}:
        raise errors.UserError("no room")
    with launch.connected(share, torch.device("cpu")):
        if share.rank == {fails_late}:
            raise errors.UserError("no room")
        share.sum(torch.zeros(1))

errors.run(main)
"""


@pytest.mark.parametrize("when", [{"fails_early": 2, "fails_late": None}, {"fails_early": None, "fails_late": 2}])
def test_what_one_process_has_to_say_is_the_reason_that_all_end(tmp_path: Path, when: dict) -> None:
    (tmp_path / "worker.py").write_text(WORKER.format(**when))
    run = runner(tmp_path)
    done = run("env", f"PYTHONPATH={ROOT / 'stages'}", sys.executable, "worker.py", fails=True)
    assert done.stderr == "error: process 3 of 3: no room\n"
