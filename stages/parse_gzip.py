"""Streams the dump into reviews.parquet, in file order, and malformed lines into rejected.parquet."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from pathlib import Path

from sasrec.core import cli, errors, params
from sasrec.dump import formats, origin, parsing, reviews
from sasrec.io import files, spark, storage

PARAMS = Path("params.yaml")
RAW = Path("data/raw/reviews.json.gz")
REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")


def main() -> None:
    """Write the dump's reviews and malformed lines as two tables."""
    parse_params = params.load(PARAMS, "parse_gzip", reviews.ParseGzipParams)
    dump_format = params.load(PARAMS, "dump_format", formats.DumpFormatParams).format
    spark_params = params.load(PARAMS, "spark", spark.SparkParams)
    folder = params.load(PARAMS, "storage", storage.StorageParams).url
    errors.require(RAW)
    files.make_folders(REVIEWS, REJECTED)
    with (
        files.atomic_write(REVIEWS) as good,
        files.atomic_write(REJECTED) as bad,
        parsing.started_engine(parse_params, spark_params, dump_format, REVIEWS.parent) as read,
    ):
        try:
            parsing.parse(RAW, good, bad, parse_params, read, folder, dump_format)
        except reviews.DamagedError as error:
            fetch_params = params.read(PARAMS).get("fetch") or {}
            name, remedy = origin.of_damaged(Path(error.path), RAW, fetch_params)
            raise errors.UserError(f"{name}: {error.reason}; {remedy}") from None


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(main)
