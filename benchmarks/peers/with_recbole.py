"""SASRec of RecBole, by its own data set and trainer.

RecBole's row is a prefix of a history and the item after it, so a batch of 128 rows has 128 targets where the others
have one at each position. Its sampled loss is BPR.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import work
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec
from recbole.utils import get_trainer, init_seed

LOSSES: dict[str, dict[str, Any]] = {
    "bce": {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}},
    "softmax": {"loss_type": "CE", "train_neg_sample_args": None},
}


class Data(NamedTuple):
    """The folder of RecBole's file, and the histories to rank after."""

    folder: Path
    histories: work.Histories


def prepare(histories: work.Histories, folder: Path) -> Data:
    """Write RecBole's atomic file; an item's time is its place."""
    path = folder / "data" / "data.inter"
    path.parent.mkdir()
    rows = np.stack([histories.users, histories.items, np.arange(len(histories.items))], axis=1)
    header = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(path, rows, fmt="%d", delimiter="\t", header=header, comments="")
    return Data(folder, histories)


def settings(folder: Path, num_epochs: int, loss: str) -> dict[str, Any]:
    """Return the settings that differ from RecBole's defaults; all rows train."""
    return {
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": work.MAX_LEN,
        "hidden_size": work.WIDTH,
        "inner_size": work.WIDTH,
        "n_layers": work.BLOCKS,
        "n_heads": work.HEADS,
        "hidden_dropout_prob": work.DROPOUT,
        "attn_dropout_prob": work.DROPOUT,
        "train_batch_size": work.BATCH_SIZE,
        "learning_rate": work.LEARNING_RATE,
        "epochs": num_epochs,
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "group_by": "user", "order": "TO", "mode": "full"},
        "show_progress": False,
        "use_gpu": False,
        **LOSSES[loss],
    }


def fit(data: Data, num_epochs: int, loss: str) -> work.Recommend:
    """Train without validation; recommend by the scores of full_sort_predict."""
    config = Config("SASRec", "data", config_dict=settings(data.folder, num_epochs, loss))
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = SASRec(config, train.dataset)
    get_trainer(config["MODEL_TYPE"], "SASRec")(config, model).fit(train, saved=False, verbose=False)
    items = np.array([0, *map(int, dataset.field2id_token["item_id"][1:])])  # of RecBole's numbers, by appearance
    return lambda: items[recommend(model.eval(), numbered(data.histories, items))]


def numbered(histories: work.Histories, items: np.ndarray) -> work.Histories:
    """Return the histories in RecBole's numbers."""
    return histories._replace(items=np.argsort(items)[histories.items])


@torch.inference_mode()
def recommend(model: SASRec, histories: work.Histories) -> np.ndarray:
    """Return the K best unseen items of each user."""
    found = []
    for start in range(0, len(histories.offsets) - 1, work.RANK_BATCH_SIZE):
        bounds = histories.offsets[start : start + work.RANK_BATCH_SIZE + 1]
        lengths = torch.from_numpy(np.diff(bounds))
        items = torch.from_numpy(histories.items[bounds[0] : bounds[-1]])
        rows = torch.arange(len(lengths)).repeat_interleave(lengths)
        latest = [each[-work.MAX_LEN :] for each in items.split(lengths.tolist())]
        padded = torch.nn.utils.rnn.pad_sequence(
            [*latest, torch.zeros(work.MAX_LEN, dtype=torch.long)], batch_first=True
        )
        batch = {"item_id_list": padded[:-1], "item_length": lengths.clamp(max=work.MAX_LEN)}
        scores = model.full_sort_predict(Interaction(batch))
        scores[:, 0] = -torch.inf
        scores[rows, items] = -torch.inf
        found.append(scores.topk(work.K).indices)
    return torch.cat(found).numpy()
