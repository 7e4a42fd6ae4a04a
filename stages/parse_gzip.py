"""Streams the dump into reviews.parquet, in file order, and malformed lines into rejected.parquet."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from functools import partial
from pathlib import Path

from sasrec.core import cli, errors, params, run_record
from sasrec.dump import formats, origin, parsing, recognition, reviews
from sasrec.dump.params import ParseGzipParams
from sasrec.io import files, spark, storage

PARAMS = Path("params.yaml")
RAW = Path("data/raw/reviews.json.gz")
REVIEWS = Path("data/interim/reviews.parquet")
REJECTED = Path("data/interim/rejected.parquet")


def explained(error: reviews.FileError, parse_params: ParseGzipParams) -> errors.UserError:
    """Return `error` with the user's own file and the remedy."""
    path, fetch_params = Path(error.path), params.read(PARAMS).get("fetch") or {}
    if isinstance(error, reviews.DamagedError):
        name, remedy = origin.of_damaged(path, RAW, fetch_params)
        return errors.UserError(f"{name}: {error.reason}; {remedy}")
    name = origin.name(path, RAW, fetch_params)
    if isinstance(error, reviews.FormatError):
        remedy = recognition.advice(path, parse_params, params.read(PARAMS)["dump_format"])
        return errors.UserError(f"{name}: {error.reason}; {remedy}")
    return errors.UserError(f"{name}: {error.reason}")


def main() -> None:
    """Write the dump's reviews and malformed lines as two tables."""
    parse_params = params.load(PARAMS, "parse_gzip", ParseGzipParams)
    dump_format = params.load(PARAMS, "dump_format", formats.DumpFormatParams).format
    spark_params = params.load(PARAMS, "spark", spark.SparkParams)
    folder = params.load(PARAMS, "storage", storage.StorageParams).url
    name = partial(origin.name, dump=RAW, fetch=params.read(PARAMS).get("fetch") or {})
    errors.require(RAW)
    files.make_folders(REVIEWS, REJECTED)
    with (
        files.atomic_write(REVIEWS) as good,
        files.atomic_write(REJECTED) as bad,
        parsing.started_engine(parse_params, spark_params, dump_format, REVIEWS.parent) as read,
    ):
        try:
            parsing.parse(RAW, good, bad, parse_params, read, folder, dump_format, name)
        except reviews.FileError as error:
            raise explained(error, parse_params) from None


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(run_record.recorded(__file__, main))
