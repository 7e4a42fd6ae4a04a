"""Streams the dump into reviews.parquet, in file order; malformed lines go to rejected.parquet."""

from pathlib import Path

from tqdm import tqdm

from sasrec import errors, outputs, params, reviews, usage

RAW = Path("data/raw/reviews.json.gz")
REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")
NUM_SHOWN = 3  # rejected lines named in the message


def parse(raw: Path, to_reviews: Path, to_rejected: Path, limits: reviews.ParseGzipParams) -> None:
    """Write the reviews and the malformed lines of `raw`.

    Raises:
        UserError: no line is a review, more of them are malformed than `limits` allow, or the file is damaged.

    """
    first_rejected: list[dict[str, object]] = []
    with (
        outputs.parquet(to_reviews, reviews.REVIEWS) as good,
        outputs.parquet(to_rejected, reviews.REJECTED) as bad,
        tqdm(desc="parse", unit=" lines", unit_scale=True, disable=None) as progress,
    ):
        for parsed, rejected in reviews.read(raw, limits):
            good.write(parsed)
            bad.write(rejected)
            first_rejected += rejected.slice(0, NUM_SHOWN - len(first_rejected)).to_pylist()
            progress.update(len(parsed) + len(rejected))
    num_lines = good.num_rows + bad.num_rows
    if bad.num_rows > limits.max_rejected_fraction * num_lines:
        shown = "; ".join(f"line {row['line_number']}: {row['reason']}" for row in first_rejected)
        raise errors.UserError(
            f"{raw}: {bad.num_rows} of {num_lines} lines are no reviews ({shown}); mend the file, or raise "
            f"parse_gzip.max_rejected_fraction in params.yaml, now {limits.max_rejected_fraction}"
        )
    if good.num_rows == 0:
        raise errors.UserError(f"{raw}: holds no review; get another dump (section fetch of params.yaml)")


def main() -> None:
    """Read the params and the dump, write both tables."""
    section = params.load("parse_gzip", reviews.ParseGzipParams)
    errors.require(RAW)
    with outputs.whole(REVIEWS) as good, outputs.whole(REJECTED) as bad:
        parse(RAW, good, bad, section)


if __name__ == "__main__":
    usage.answer(__file__)
    errors.run(main)
