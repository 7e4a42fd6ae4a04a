"""The ranks of every held-out user's true book: a table that metrics, plots and comparisons of runs have in common."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from sasrec.evaluation import intervals, metrics
from sasrec.evaluation.intervals import Estimate
from sasrec.evaluation.ranking import Ranks
from sasrec.io import files, parquet
from sasrec.split.datasets import HeldOut, TrainingSet

COLUMNS = pa.schema(
    [
        ("ranker", pa.string()),
        ("user_id", pa.string()),
        ("true_book_id", pa.string()),
        ("history_length", pa.int32()),
        ("popularity", pa.int32()),  # training ratings of the true book
        ("rank_sampled", pa.int32()),  # 1 is best, here and in the next column
        ("rank_full", pa.int32()),
    ]
)


Ranking = tuple[str, str]
"""A ranker, and the list: sampled or full."""


class Task(msgspec.Struct, frozen=True):
    """What was ranked. Runs of equal tasks ranked the same lists of the same users."""

    lists: str  # a digest of the users, histories, true books and negatives
    protocol: str
    num_negatives: int
    num_books: int


@dataclass(frozen=True)
class RankTable:
    """The ranks of each held-out user's true book by every ranker, and what the users differ in."""

    task: Task
    user_ids: pa.Array  # (users,) string, as in the dump; so are the books'
    true_book_ids: pa.Array  # (users,) string
    history_lengths: np.ndarray  # (users,) integer
    popularity: np.ndarray  # (users,) integer: training ratings of the true book
    ranks: Mapping[str, Ranks]  # by ranker


def table(
    held_out: HeldOut,
    train: TrainingSet,
    protocol: str,
    ids: tuple[pa.Array, pa.Array],
    ranks: Mapping[str, Ranks],
) -> RankTable:
    """Return the table of `ranks`; `ids` are those of the users and of the true books, (users,) string each."""
    histories = held_out.histories
    digest = hashlib.sha256()
    for part in (held_out.users, histories.items, histories.offsets, held_out.true_books, held_out.negatives):
        digest.update(f"{part.dtype} {part.shape} ".encode() + part.tobytes())
    task = Task(digest.hexdigest(), protocol, held_out.negatives.shape[1], train.num_books)
    popularity = np.bincount(train.histories.items, minlength=train.num_books + 1)[held_out.true_books]
    return RankTable(task, *ids, histories.lengths, popularity, ranks)


def values(table: RankTable, rankers: Sequence[str], cutoffs: Sequence[int]) -> dict[Ranking, dict[str, np.ndarray]]:
    """Return each user's metrics, (users,) float64, by ranker, list and name."""
    return {
        (ranker, ranked): metrics.of_users(ranks, cutoffs)
        for ranker in rankers
        for ranked, ranks in table.ranks[ranker]._asdict().items()
    }


def estimates(table: RankTable, cutoffs: Sequence[int]) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Return each metric's mean and interval by ranker, list and name."""
    found = intervals.estimates(values(table, list(table.ranks), cutoffs))
    return {ranker: {ranked: found[ranker, ranked] for ranked in Ranks._fields} for ranker in table.ranks}


def write(path: Path, table: RankTable) -> None:
    """Write `table` as Parquet: a row for each ranker and user, ranker by ranker."""
    schema = COLUMNS.with_metadata({"task": msgspec.json.encode(table.task)})
    parts = [
        pa.table(
            [
                parquet.repeated(ranker, len(table.user_ids)),
                table.user_ids,
                table.true_book_ids,
                *(
                    parquet.as_arrow(numbers.astype(np.int32))
                    for numbers in (table.history_lengths, table.popularity, ranks.sampled + 1, ranks.full + 1)
                ),
            ],
            schema=schema,
        )
        for ranker, ranks in table.ranks.items()
    ]
    parquet.write(path, pa.concat_tables(parts).to_reader())


def read(path: Path) -> RankTable:
    """Return the table that `write` wrote; raise UserError if the file is damaged or another table."""
    rows = parquet.read(path, COLUMNS)
    with files.naming_damage(path):
        task = msgspec.json.decode((rows.schema.metadata or {})[b"task"], type=Task)
        rankers = rows["ranker"].unique().to_pylist()
        first = rows.slice(0, len(rows) // len(rankers)).combine_chunks()  # the rows of the first ranker
        sampled, full = (
            parquet.as_numpy(rows[name]).astype(np.int64).reshape(len(rankers), -1) - 1
            for name in ("rank_sampled", "rank_full")
        )  # (rankers, users)
        return RankTable(
            task,
            first["user_id"].chunk(0),
            first["true_book_id"].chunk(0),
            parquet.as_numpy(first["history_length"]),
            parquet.as_numpy(first["popularity"]),
            {ranker: Ranks(*both) for ranker, *both in zip(rankers, sampled, full, strict=True)},
        )
