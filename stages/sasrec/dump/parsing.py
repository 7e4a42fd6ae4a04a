"""Writes a dump's reviews as one table and its malformed lines as another."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from sasrec.core.errors import UserError
from sasrec.dump import reviews, shard_pool, shards
from sasrec.dump.formats import DEFAULT, PRESETS, Format
from sasrec.dump.params import NUM_SHOWN, ParseGzipParams
from sasrec.io import files, parquet, spark

MAX_MALFORMED_FRACTION = 0.9  # more lines are not malformed, but have another format

ReadShards = Callable[[Sequence[Path]], Generator[reviews.Batches, None, None]]
"""Reads shards, and yields each one's batches, in order."""


@contextmanager
def started_engine(
    params: ParseGzipParams, spark_params: spark.SparkParams, dump_format: Format, parent: Path
) -> Iterator[ReadShards]:
    """Yield a reader of shards on the params' engine; remove its scratch folder in `parent` after the block."""
    with files.scratch(parent) as scratch:
        if params.engine == "spark":
            with spark.session(spark_params.master, "parse_gzip.engine", scratch) as session:
                yield partial(
                    shard_pool.read_on_spark, params=params, scratch=scratch, session=session, dump_format=dump_format
                )
        else:
            yield partial(shard_pool.read, params=params, scratch=scratch, dump_format=dump_format)


def parse(
    raw: Path,
    to_reviews: Path,
    to_rejected: Path,
    params: ParseGzipParams,
    read: ReadShards,
    folder: str | None = None,
    dump_format: Format = PRESETS[DEFAULT],
    name: Callable[[Path], str] = str,
) -> None:
    """Use `read` to write the reviews and the malformed lines of `raw`, a file or a folder of shards.

    With the URL of a `folder`, the reviews are written there, and `to_reviews` becomes a pointer to them. Messages
    call a file of the dump by its `name`.

    Raises:
        FileError: a file is damaged, or is not written as `dump_format` says.
        UserError: no line is a review, or more lines are malformed than the params allow.

    """
    paths = shards.paths(raw)
    first_rejected: list[tuple[Path, str]] = []
    with (
        parquet.writer(to_reviews, reviews.schema(dump_format), folder) as good,
        parquet.writer(to_rejected, reviews.REJECTED) as bad,
        tqdm(desc="parse", unit=" lines", unit_scale=True, disable=None) as progress,
        closing(read(paths)) as shards_read,
    ):
        for path, batches in zip(paths, shards_read, strict=True):
            num_before = good.num_rows + bad.num_rows
            for parsed, rejected in batches:
                good.write(parsed)
                bad.write(renumbered(rejected, num_before))
                rows = rejected.slice(0, NUM_SHOWN - len(first_rejected)).to_pylist()
                where = f"{name(path)} line" if rows and path != raw else "line"
                first_rejected += [(path, f"{where} {row['line_number']}: {row['reason']}") for row in rows]
                progress.update(len(parsed) + len(rejected))
            if params.refuse(bad.num_rows):
                break
    _require_reviews(name(raw), good.num_rows, bad.num_rows, first_rejected, params)


def renumbered(rejected: pa.RecordBatch, num_before: int) -> pa.RecordBatch:
    """Return a shard's malformed lines numbered within the dump, in which `num_before` lines precede them."""
    numbers = np.from_dlpack(rejected["line_number"]) + num_before
    return rejected.set_column(0, "line_number", parquet.as_arrow(numbers))


def _require_reviews(
    name: str,
    num_reviews: int,
    num_rejected: int,
    first_rejected: list[tuple[Path, str]],
    params: ParseGzipParams,
) -> None:
    num_lines = num_reviews + num_rejected
    if num_rejected > params.max_rejected_fraction * num_lines:
        # Parsing stops early where params.refuse says so: the total is then unknown.
        lines = f"the first {num_lines}" if params.refuse(num_rejected) else f"{num_lines}"
        shown = "; ".join(reason for _path, reason in first_rejected)
        counted = f"{num_rejected} of {lines} lines are no reviews ({shown})"
        if num_rejected > MAX_MALFORMED_FRACTION * num_lines:
            raise reviews.FormatError(str(first_rejected[0][0]), counted)
        raise UserError(
            f"{name}: {counted}; mend the file, or raise parse_gzip.max_rejected_fraction in params.yaml, now "
            f"{params.max_rejected_fraction}"
        )
    if num_reviews == 0:
        raise UserError(f"{name}: holds no review; get another dump (section fetch of params.yaml)")
