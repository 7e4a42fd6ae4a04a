"""Checks every section of params.yaml before any other stage works, because a download or a training takes long.

What it writes is always the same, so that the stage after it runs again only where its own params changed.
"""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from pathlib import Path

import msgspec

from sasrec.core import cli, errors, params, run_record
from sasrec.dump import shards
from sasrec.dump.formats import DumpFormatParams
from sasrec.dump.params import FetchParams, ParseGzipParams
from sasrec.interactions.params import FilterReindexParams
from sasrec.io import files, storage
from sasrec.io.spark import SparkParams
from sasrec.io.storage import StorageParams
from sasrec.model.params import SasrecParams
from sasrec.reporting.card_params import CardParams
from sasrec.runtime import cores
from sasrec.split.params import EvaluationParams, SplitParams
from sasrec.training.params import TrainParams

PARAMS = Path("params.yaml")
RAW = Path("data/raw/reviews.json.gz")
CHECKED = Path("data/params_checked.txt")
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "fetch": FetchParams,
    "parse_gzip": ParseGzipParams,
    "dump_format": DumpFormatParams,
    "filter_reindex": FilterReindexParams,
    "spark": SparkParams,
    "storage": StorageParams,
    "split": SplitParams,
    "evaluation": EvaluationParams,
    "sasrec": SasrecParams,
    "train": TrainParams,
    "machine": cores.MachineParams,
    "card": CardParams,
}


def require_elsewhere(fetch_params: FetchParams) -> None:
    """Raise UserError if fetch.file is what the stage fetch writes: DVC removes that before it runs the stage."""
    output = RAW.parent.resolve() / RAW.name
    names = [] if fetch_params.source != "file" else [name for name in fetch_params.names if not storage.is_url(name)]
    for source in map(Path, shards.named(names)):
        if output in (source.resolve(), *source.resolve().parents):
            raise errors.UserError(
                f"{PARAMS}: fetch.file is {source}, which the stage fetch overwrites; move the dump elsewhere, and set "
                "fetch.file to its path there"
            )


def main() -> None:
    """Check all sections, and what they exclude in each other; write that they are valid."""
    params.check_sections(PARAMS, SECTIONS)
    require_elsewhere(params.load(PARAMS, "fetch", FetchParams))
    split_params = params.load(PARAMS, "split", SplitParams)
    split_params.require_number_of_users(params.load(PARAMS, "evaluation", EvaluationParams).num_user_sample)
    files.make_folders(CHECKED)
    with files.atomic_write(CHECKED) as partial:
        partial.write_text(f"Every section of {PARAMS} is valid.\n")


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(run_record.recorded(__file__, main))
