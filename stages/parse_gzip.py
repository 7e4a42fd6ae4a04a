"""Streams the dump into reviews.parquet, in file order; malformed lines go to rejected.parquet."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from sasrec import errors, origin, outputs, parallel, params, reviews, shards, spark, storage, usage

RAW = Path("data/raw/reviews.json.gz")
REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")

Read = Callable[[Sequence[Path]], Generator[parallel.Batches, None, None]]
"""Yields the batches of each shard, in order."""


@contextmanager
def reader(limits: reviews.ParseGzipParams, spark_params: spark.SparkParams) -> Iterator[Read]:
    """Yield what reads the shards on the engine that the params name; what it has on the disk goes with the block."""
    with outputs.scratch(REVIEWS.parent) as scratch:
        if limits.engine == "spark":
            with spark.session(spark_params.master, "parse_gzip.engine", scratch) as session:
                yield partial(parallel.read_on_spark, limits=limits, scratch=scratch, session=session)
        else:
            yield partial(parallel.read, limits=limits, scratch=scratch)


def parse(
    raw: Path,
    to_reviews: Path,
    to_rejected: Path,
    limits: reviews.ParseGzipParams,
    read: Read,
    folder: str | None = None,
) -> None:
    """Write the reviews and the malformed lines of `raw`: a file, or a folder of shards, which `read` reads.

    With the URL of a `folder` the reviews lie there.

    Raises:
        UserError: no line is a review, more of them are malformed than `limits` allow, or the file is damaged.

    """
    files = shards.paths(raw)
    first_rejected: list[str] = []
    with (
        outputs.parquet(to_reviews, reviews.REVIEWS, folder) as good,
        outputs.parquet(to_rejected, reviews.REJECTED) as bad,
        tqdm(desc="parse", unit=" lines", unit_scale=True, disable=None) as progress,
        closing(read(files)) as shards_read,
    ):
        for file, batches in zip(files, shards_read, strict=True):
            num_before = good.num_rows + bad.num_rows
            where = "line" if file == raw else f"{file.name} line"
            for parsed, rejected in batches:
                good.write(parsed)
                bad.write(renumbered(rejected, num_before))
                rows = rejected.slice(0, reviews.NUM_SHOWN - len(first_rejected)).to_pylist()
                first_rejected += [f"{where} {row['line_number']}: {row['reason']}" for row in rows]
                progress.update(len(parsed) + len(rejected))
            if limits.refuse(bad.num_rows):
                break
    num_lines = good.num_rows + bad.num_rows
    if bad.num_rows > limits.max_rejected_fraction * num_lines:
        # A dump that is refused early is not read to its end.
        lines = f"the first {num_lines}" if limits.refuse(bad.num_rows) else f"{num_lines}"
        raise errors.UserError(
            f"{raw}: {bad.num_rows} of {lines} lines are no reviews ({'; '.join(first_rejected)}); mend the file, or "
            f"raise parse_gzip.max_rejected_fraction in params.yaml, now {limits.max_rejected_fraction}"
        )
    if good.num_rows == 0:
        raise errors.UserError(f"{raw}: holds no review; get another dump (section fetch of params.yaml)")


def renumbered(rejected: pa.RecordBatch, num_before: int) -> pa.RecordBatch:
    """Return the malformed lines of a shard with the numbers that they have in the whole dump."""
    numbers = np.from_dlpack(rejected["line_number"]) + num_before
    # pa.array would import pandas, and so does pa.scalar.
    column = pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
    return rejected.set_column(0, "line_number", column)


def main() -> None:
    """Read the params and the dump, write both tables."""
    section = params.load("parse_gzip", reviews.ParseGzipParams)
    spark_params = params.load("spark", spark.SparkParams)
    folder = params.load("storage", storage.StorageParams).url
    errors.require(RAW)
    outputs.make_folders(REVIEWS, REJECTED)
    with outputs.whole(REVIEWS) as good, outputs.whole(REJECTED) as bad, reader(section, spark_params) as read:
        try:
            parse(RAW, good, bad, section, read, folder)
        except reviews.DamagedError as error:
            name, remedy = origin.of_damaged(Path(error.path), RAW)
            raise errors.UserError(f"{name}: {error.reason}; {remedy}") from None


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
