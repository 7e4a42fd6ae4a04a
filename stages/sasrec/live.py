"""Shows a training while it goes on: DVCLive's series, which `dvc exp show`, `dvc plots` and editors read."""

from pathlib import Path
from typing import TYPE_CHECKING

from sasrec import training

if TYPE_CHECKING:
    from dvclive.live import Live


def start(folder: Path) -> "Live":
    """Return what writes the series into `folder`, from the first epoch on.

    It leaves dvc.yaml and the experiments alone: the stage declares the files, and DVC saves an experiment itself.
    """
    from dvclive.live import Live  # it imports DVC and pandas: not above, where --help and every error would wait

    live = Live(str(folder), dvcyaml=None, save_dvc_exp=False)
    live.step = 1
    return live


def write(live: "Live", state: training.TrainingState, steps_per_epoch: int) -> None:
    """Write the finished epochs that `live` has not: after a resumption, all of them."""
    num_steps = state.params.num_epochs * steps_per_epoch
    while live.step <= len(state.curve):
        rate = training.learning_rate(state.params, live.step * steps_per_epoch - 1, num_steps)
        live.log_metric("loss", training.mean_loss(state, live.step, steps_per_epoch))
        live.log_metric("learning_rate", rate)
        for name, value in state.curve[live.step - 1].items():
            if not name.endswith("_half_width"):
                live.log_metric(name, value)
        live.next_step()
