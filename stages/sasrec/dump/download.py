"""Downloads the dump, and checks that a file is intact and has the expected digest."""

import contextlib
import hashlib
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import gdown
import requests
from gdown.exceptions import DownloadError, FileURLRetrievalError
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from sasrec.core import visible
from sasrec.core.errors import UserError
from sasrec.dump import gzip_blocks, shards
from sasrec.io import progress

DRIVE_URL = "https://drive.google.com/uc?id={}"
BLOCK_BYTES = 1 << 20
RETRIES = 5  # per address, with back-off
TIMEOUT_SECONDS = 60.0  # without a byte
BUSY = (429, 503)  # Too Many Requests, Service Unavailable
LONGEST_WAIT_SECONDS = 120.0  # for a busy server; a longer wait counts as a failure


def download(urls: Sequence[str], destination: Path, unfinished: Path, sha256: str | None = None) -> None:
    """Download the dump to `destination` from the first of `urls` that serves it intact.

    Each address has its own folder in `unfinished`, so that no file mixes two addresses. An interrupted download
    resumes there, in this call or the next. A file that is not gzip, is incomplete or has another digest counts as a
    failure of its address: when its quota is used up, Google Drive answers with a web page and status 200. Such a file
    is removed, so that the next call starts anew.

    Raises:
        UserError: no address served the dump.

    """
    failures = []
    for url in urls:
        print(f"downloading {visible.text(url)}", file=sys.stderr)
        folder = _folder(unfinished, url)
        try:
            _receive(url, folder / "dump")
            check_intact(folder / "dump")
            if sha256 is not None:
                check_sha256(folder / "dump", sha256)
        except UserError as error:
            failures.append(f"{url}: {error}")
            shutil.rmtree(folder)
        except FileURLRetrievalError:
            failures.append(f"{url}: Google Drive refused (its daily quota may be used up)")
        except (DownloadError, requests.RequestException) as error:
            failures.append(f"{url}: {error}")
        else:
            (folder / "dump").replace(destination)
            _remove(urls, unfinished)
            return
    raise UserError(
        f"the dump could not be downloaded. Tried {'; '.join(failures)}. Run `dvc repro` again later, or download "
        f"{urls[-1]} with a browser, put the file anywhere, and in params.yaml set fetch.source to file and fetch.file "
        "to its path"
    )


def _remove(urls: Sequence[str], unfinished: Path) -> None:
    """Remove what was received from `urls`, and the folder `unfinished` if it holds nothing else."""
    for url in urls:
        shutil.rmtree(_folder(unfinished, url), ignore_errors=True)
    with contextlib.suppress(OSError):
        unfinished.rmdir()


def _folder(unfinished: Path, url: str) -> Path:
    return unfinished / hashlib.sha256(url.encode()).hexdigest()[:8]


def _receive(url: str, destination: Path) -> None:
    """Download `url` with gdown, which resumes and retries after network errors; retry after the server's refusals."""
    num_refused = 0
    for attempt in range(RETRIES + 1):
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            gdown.download(
                url,
                str(destination),
                quiet=not sys.stderr.isatty(),
                use_cookies=False,
                resume=True,
                retries=RETRIES,
                timeout=TIMEOUT_SECONDS,
            )
        except requests.HTTPError as error:
            seconds = _seconds_to_wait(error.response, attempt)
            if error.response.status_code not in BUSY or seconds > LONGEST_WAIT_SECONDS or attempt == RETRIES:
                raise
            print(f"{visible.text(url)}: busy, asking again in {seconds:.0f} s", file=sys.stderr)
            time.sleep(seconds)
        except DownloadError as error:
            is_of_network = isinstance(error.__cause__, requests.RequestException)
            if is_of_network or isinstance(error, FileURLRetrievalError) or attempt == RETRIES or num_refused == 2:
                raise
            num_refused += 1
            if num_refused == 2:  # the first time it may be busy; the second, it cannot resume: start anew
                shutil.rmtree(destination.parent)
        else:
            return


def _seconds_to_wait(response: requests.Response, attempt: int) -> float:
    """Return the seconds that the server asks for, else a time that doubles with each attempt."""
    try:
        asked_for = Retry().get_retry_after(response.raw)  # reads seconds and dates
    except InvalidHeader:
        asked_for = None
    return 2.0**attempt if asked_for is None else asked_for


def check_intact(path: Path) -> None:
    """Read all of `path`; raise UserError if it is not one complete gzip file."""
    try:
        with progress.open_with_progress(path, "check") as raw:
            num_blocks = sum(1 for _block in gzip_blocks.decompressed(raw, BLOCK_BYTES))
    except gzip_blocks.DamagedError as error:
        raise UserError(f"sent a page, or a damaged or incomplete file, instead of the dump ({error})") from None
    if num_blocks == 0:
        raise UserError("sent an empty file instead of the dump")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of `path`, or of its shards as if they were one file."""
    digest = hashlib.sha256()
    for shard in shards.paths(path):
        with progress.open_with_progress(shard, "digest") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raise UserError if the SHA-256 of `path` is not `expected`."""
    digest = sha256_of(path)
    if digest != expected.lower():
        raise UserError(
            f"params.yaml: fetch.sha256 is {expected}, but the content has {digest}; correct the key, set it to null, "
            "or get the right file"
        )
