"""Removes damaged files from DVC's cache, and runs `dvc repro` to make them again.

DVC names each cached file by the MD5 of its content. It hashes neither write-protected files nor workspace files of
known size and time, so it misses damage in place. This script hashes every cached file, and gives DVC an empty
state folder, so that DVC hashes the workspace anew.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DVC = (sys.executable, "-m", "dvc")
ROOT = Path(__file__).resolve().parent.parent
OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")  # a name below files/md5; unfinished files have other names


def damaged(cache: Path) -> Iterator[Path]:
    """Yield the files of a DVC cache whose content does not match the MD5 in their names."""
    folder = cache / "files/md5"
    for path in sorted(folder.glob("*/*")):
        name = path.relative_to(folder).as_posix()
        if OBJECT.fullmatch(name):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if digest != name.replace("/", "").removesuffix(".dir"):
                yield path


def cache_folder() -> Path:
    """Return the folder of DVC's cache; if DVC fails, exit with its status."""
    done = subprocess.run([*DVC, "cache", "dir"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return ROOT / done.stdout.strip() if done.returncode == 0 else sys.exit(done.returncode)


def remove(path: Path) -> Path:
    """Remove a damaged file from the cache. DVC finds a damaged link to it in the workspace itself."""
    path.unlink()
    print(f"{path}: damaged, removed", flush=True)
    return path


def repro() -> int:
    """Run `dvc repro` with an empty state folder and this interpreter; return its status."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as empty:
        variables = os.environ | {"PATH": path, "DVC_SITE_CACHE_DIR": empty}
        return subprocess.run([*DVC, "repro"], cwd=ROOT, env=variables).returncode


def main() -> None:
    """Remove the damaged files; exit with the status of `dvc repro`."""
    cache = cache_folder()
    try:
        removed = [remove(path) for path in damaged(cache)]
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}; whoever owns DVC's cache must run this")
    print(f"{cache}: {len(removed)} damaged files removed", flush=True)
    sys.exit(repro())


if __name__ == "__main__":
    main()
