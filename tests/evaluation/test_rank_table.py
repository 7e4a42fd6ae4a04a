"""The ranks of every held-out user are a table, from which anyone can compute the metrics again."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import sequences, training_set

from sasrec.core.errors import UserError
from sasrec.evaluation import rank_table
from sasrec.evaluation.ranking import Ranks
from sasrec.serving import vocabulary
from sasrec.split.datasets import HeldOut

HELD_OUT = HeldOut(
    users=np.array([0, 2], np.int32),
    histories=sequences([1, 2, 3], [4]),
    true_books=np.array([4, 1], np.int32),
    negatives=np.array([[5, 6], [5, 6]], np.int32),
)
TRAIN = training_set(sequences([1, 4], [1, 2], [1]), num_books=6)
IDS = pa.array(["ann", "bob"]), pa.array(["emma", "ulysses"])
RANKS = {
    "sasrec": Ranks(np.array([0, 2]), np.array([0, 3])),
    "popularity": Ranks(np.array([1, 0]), np.array([2, 1])),
}


def made(held_out: HeldOut = HELD_OUT) -> rank_table.RankTable:
    return rank_table.table(held_out, TRAIN, "holdout_users", IDS, RANKS)


def test_each_user_has_a_row_for_each_ranker_and_the_first_rank_is_one(tmp_path: Path) -> None:
    rank_table.write(tmp_path / "ranks.parquet", made())
    columns = pq.read_table(tmp_path / "ranks.parquet").to_pydict()
    assert list(zip(*columns.values(), strict=True)) == [
        ("sasrec", "ann", "emma", 3, 1, 1, 1),  # three books read; one training user read book 4
        ("sasrec", "bob", "ulysses", 1, 3, 3, 4),
        ("popularity", "ann", "emma", 3, 1, 2, 3),
        ("popularity", "bob", "ulysses", 1, 3, 1, 2),
    ]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    rank_table.write(tmp_path / "ranks.parquet", made())
    found = rank_table.read(tmp_path / "ranks.parquet")
    assert found.task == made().task
    assert (found.user_ids.to_pylist(), found.true_book_ids.to_pylist()) == (["ann", "bob"], ["emma", "ulysses"])
    assert (found.history_lengths.tolist(), found.popularity.tolist()) == ([3, 1], [1, 3])
    assert {name: [part.tolist() for part in ranks] for name, ranks in found.ranks.items()} == {
        "sasrec": [[0, 2], [0, 3]],
        "popularity": [[1, 0], [2, 1]],
    }


def test_the_same_ranks_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        rank_table.write(tmp_path / name, made())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


CHANGES = {
    "users": np.array([0, 1], np.int32),
    "histories": sequences([1, 2], [3, 4]),
    "true_books": np.array([4, 2], np.int32),
    "negatives": np.array([[5, 6], [6, 5]], np.int32),
}


@pytest.mark.parametrize("part", CHANGES)
def test_another_user_history_true_book_or_negative_is_another_task(part: str) -> None:
    assert made(replace(HELD_OUT, **{part: CHANGES[part]})).task != made().task


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ranks.parquet"
    rank_table.write(path, made())
    path.write_bytes(path.read_bytes().replace(b"ann", b"amy"))
    with pytest.raises(UserError, match=r"ranks\.parquet: cannot be used: .*another digest"):
        rank_table.read(path)


def test_the_metrics_follow_from_the_table(finished: Path) -> None:
    metrics = json.loads((finished / "metrics/eval.json").read_text())
    rows = pq.read_table(finished / "data/evaluation/ranks.parquet").to_pylist()
    for ranker, ranked in ((ranker, ranked) for ranker in metrics for ranked in ("sampled", "full")):
        ranks = [row[f"rank_{ranked}"] for row in rows if row["ranker"] == ranker]
        assert len(ranks) == 60
        assert metrics[ranker][ranked]["HR@10"] == pytest.approx(sum(rank <= 10 for rank in ranks) / 60)
        gains = [1 / math.log2(rank + 1) for rank in ranks if rank <= 10]
        assert metrics[ranker][ranked]["NDCG@10"] == pytest.approx(sum(gains) / 60)


def test_the_ids_are_the_dumps(finished: Path) -> None:
    reviews = pq.read_table(finished / "data/interim/reviews.parquet", columns=["user_id", "book_id"]).to_pylist()
    read = {(review["user_id"], review["book_id"]) for review in reviews}
    rows = pq.read_table(finished / "data/evaluation/ranks.parquet").to_pylist()
    assert {(row["user_id"], row["true_book_id"]) for row in rows} <= read


def test_ids_of_another_run_are_refused(finished: Path) -> None:
    path = finished / "data/processed/users.parquet"
    number = len(vocabulary.users(path))
    with pytest.raises(UserError, match=f"users.parquet: cannot be used: it has {number} users, the split 7;"):
        vocabulary.users(path, number=7)
