"""Writes DVCLive's series during training; `dvc exp show`, `dvc plots` and editors read them."""

from pathlib import Path
from typing import TYPE_CHECKING

from sasrec.training import step

if TYPE_CHECKING:
    from dvclive.live import Live


def start(folder: Path) -> "Live":
    """Return a DVCLive logger that writes its series into `folder`, from the first epoch on.

    The logger leaves dvc.yaml and experiments alone: the stage declares the files, and DVC saves experiments itself.
    """
    from dvclive.live import Live  # imports DVC and pandas, which would delay --help and every error

    live = Live(str(folder), dvcyaml=None, save_dvc_exp=False)
    live.step = 1
    return live


def write(live: "Live", state: step.TrainingState, steps_per_epoch: int) -> None:
    """Write the finished epochs that `live` lacks; after resuming, it lacks all."""
    num_steps = state.params.num_epochs * steps_per_epoch
    while live.step <= len(state.curve):
        rate = step.learning_rate(state.params, live.step * steps_per_epoch - 1, num_steps)
        live.log_metric("training/loss", step.mean_loss(state, live.step, steps_per_epoch))
        live.log_metric("training/learning_rate", rate)
        for ranked, values in state.curve[live.step - 1].items():
            for name, value in values.items():
                live.log_metric(f"validation/{ranked}/{name}", value)
        live.next_step()
