"""Gets the dump: over the network, or from a file that is there."""

import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import gdown
import requests
from gdown.exceptions import DownloadError, FileURLRetrievalError

from sasrec.errors import UserError

DRIVE_URL = "https://drive.google.com/uc?id={}"
GZIP_MAGIC = b"\x1f\x8b"
RETRIES = 5  # of each address, with back-off
TIMEOUT_SECONDS = 60.0  # without a byte


def download(urls: Sequence[str], destination: Path) -> None:
    """Download the first of `urls` that serves a gzip file to `destination`.

    An interrupted download goes on where it stopped, in this call or the next. Google Drive answers with a web page,
    status 200, when its quota is used up: that counts as a failure of that address.

    Raises:
        UserError: no address served the dump.

    """
    failures = []
    for url in urls:
        print(f"downloading {url}", file=sys.stderr)
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
            check_gzip(destination)
        except UserError:
            failures.append(f"{url}: sent a page or an empty file instead of the dump")
            destination.unlink(missing_ok=True)
        except FileURLRetrievalError:
            failures.append(f"{url}: Google Drive refused (its daily quota may be used up)")
        except (DownloadError, requests.RequestException) as error:
            failures.append(f"{url}: {error}")
        else:
            return
    raise UserError(
        f"the dump could not be downloaded. Tried {'; '.join(failures)}. Run `dvc repro` again later, or download "
        f"{urls[-1]} with a browser, put the file anywhere, and in params.yaml set fetch.source to file and fetch.file "
        "to its path"
    )


def link_or_copy(source: Path, destination: Path) -> None:
    """Give `source` the second name `destination`; copy it where the file system refuses a link."""
    try:
        destination.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, destination)


def check_gzip(path: Path) -> None:
    """Raise UserError where `path` is missing, empty or does not begin like gzip."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; set fetch.file in params.yaml to the path of a .json.gz dump")
    with path.open("rb") as file:
        start = file.read(len(GZIP_MAGIC))
    if not start:
        raise UserError(f"{path}: is empty; set fetch.file in params.yaml to the path of a .json.gz dump")
    if start != GZIP_MAGIC:
        raise UserError(f"{path}: is not gzip; set fetch.file in params.yaml to the path of a .json.gz dump")


def check_sha256(path: Path, expected: str | None) -> str:
    """Return the SHA-256 of `path` in hexadecimal; raise UserError where it is not the one expected."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is not None and digest != expected.lower():
        raise UserError(
            f"params.yaml: fetch.sha256 is {expected}, but the content has {digest}; correct the key, set it to null, "
            "or get the right file"
        )
    return digest
