"""Writes the dump to data/raw/reviews.json.gz: a demo made offline, a download, or a file or shards."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

from pathlib import Path

from sasrec.core import cli, errors, params, run_record
from sasrec.dump import download, fetching
from sasrec.dump.params import FetchParams
from sasrec.io import files, storage

PARAMS = Path("params.yaml")
RAW = Path("data/raw/reviews.json.gz")
UNFINISHED = Path("data/raw/unfinished")  # downloads, which the next run resumes


def main() -> None:
    """Write the dump that the params name, and check or print its digest."""
    fetch_params = params.load(PARAMS, "fetch", FetchParams)
    folder = params.load(PARAMS, "storage", storage.StorageParams).url
    stays = fetching.stays_elsewhere(fetch_params, folder)
    files.make_folders(RAW)
    with files.atomic_replace(RAW) as partial:  # a dump in several files is a folder
        fetching.fetch(fetch_params, partial, UNFINISHED, storage.write_pointer if stays else fetching.copy)
        if fetch_params.sha256 is not None:
            download.check_sha256(partial, fetch_params.sha256)
    if fetch_params.sha256 is None and not stays:
        print(f"{RAW}: sha256 {download.sha256_of(RAW)}; set fetch.sha256 to it to refuse any other content")


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(run_record.recorded(__file__, main))
