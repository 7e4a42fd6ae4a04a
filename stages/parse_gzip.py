"""Streams the dump into reviews.parquet, in file order; malformed lines go to rejected.parquet."""

from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from sasrec import errors, outputs, parallel, params, reviews, shards, usage

RAW = Path("data/raw/reviews.json.gz")
REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")
NUM_SHOWN = 3  # rejected lines named in the message


def parse(raw: Path, to_reviews: Path, to_rejected: Path, limits: reviews.ParseGzipParams) -> None:
    """Write the reviews and the malformed lines of `raw`: a file, or a folder of shards.

    Raises:
        UserError: no line is a review, more of them are malformed than `limits` allow, or the file is damaged.

    """
    files = shards.paths(raw)
    first_rejected: list[str] = []
    with (
        outputs.parquet(to_reviews, reviews.REVIEWS) as good,
        outputs.parquet(to_rejected, reviews.REJECTED) as bad,
        tqdm(desc="parse", unit=" lines", unit_scale=True, disable=None) as progress,
        outputs.scratch(to_reviews.parent) as scratch,
        closing(parallel.read(files, limits, scratch)) as read,
    ):
        for file, batches in zip(files, read, strict=True):
            num_before = good.num_rows + bad.num_rows
            where = "line" if file == raw else f"{file.name} line"
            for parsed, rejected in batches:
                good.write(parsed)
                bad.write(renumbered(rejected, num_before))
                rows = rejected.slice(0, NUM_SHOWN - len(first_rejected)).to_pylist()
                first_rejected += [f"{where} {row['line_number']}: {row['reason']}" for row in rows]
                progress.update(len(parsed) + len(rejected))
    num_lines = good.num_rows + bad.num_rows
    if bad.num_rows > limits.max_rejected_fraction * num_lines:
        shown = "; ".join(first_rejected)
        raise errors.UserError(
            f"{raw}: {bad.num_rows} of {num_lines} lines are no reviews ({shown}); mend the file, or raise "
            f"parse_gzip.max_rejected_fraction in params.yaml, now {limits.max_rejected_fraction}"
        )
    if good.num_rows == 0:
        raise errors.UserError(f"{raw}: holds no review; get another dump (section fetch of params.yaml)")


def renumbered(rejected: pa.RecordBatch, num_before: int) -> pa.RecordBatch:
    """Return the malformed lines of a shard with the numbers that they have in the whole dump."""
    numbers = pc.add(rejected["line_number"], pa.scalar(num_before))  # a bare number would import pandas
    return rejected.set_column(0, "line_number", numbers)


def main() -> None:
    """Read the params and the dump, write both tables."""
    section = params.load("parse_gzip", reviews.ParseGzipParams)
    errors.require(RAW)
    with outputs.whole(REVIEWS) as good, outputs.whole(REJECTED) as bad:
        parse(RAW, good, bad, section)


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
