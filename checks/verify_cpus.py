"""Runs all stages on a small demo under several emulated processors and compares every output with the native one.

Each processor gets another number of threads, so that these need no emulation of their own. Needs qemu-x86_64 (Debian:
apt-get install qemu-user). Emulation is slow: about four minutes on two cores.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
STAGES = ["fetch", "parse_gzip", "filter_reindex", "split", "train_gpu", "evaluate"]
CPUS = {"Haswell": 1, "Skylake-Client": 4, "EPYC": 2}  # the first Intel with AVX2, a later one, AMD: and their threads
NATIVE_THREADS = 2
SMALL = {
    "fetch": {"demo_users": 300},
    "evaluation": {"num_user_sample": 50},
    "train": {"batch_size": 32, "num_epochs": 2, "device": "cpu", "reproducibility": "portable"},
}


def prepare(folder: Path, num_threads: int = NATIVE_THREADS) -> Path:
    """Create and return `folder`, with the params of a small run with `num_threads`."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for section, changes in SMALL.items():
        params[section].update(changes)
    params["machine"]["num_threads"] = num_threads
    folder.mkdir()
    YAML(typ="safe").dump(params, folder / "params.yaml")
    return folder


def run_stages(folder: Path, python: list[str], stages: list[str]) -> dict[str, str]:
    """Run `stages` in `folder` with the command `python`; return the SHA-256 of every file written, by path."""
    for stage in stages:
        command = [*python, str(ROOT / "stages" / f"{stage}.py")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr}")
    outputs = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "params.yaml")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in outputs}


def differing(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Return the files that differ between two runs."""
    return sorted(path for path in first | second if first.get(path) != second.get(path))


def main() -> None:
    """Print a line for each processor; exit with status 1 if one gives other bytes."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or platform.machine() != "x86_64":
        sys.exit("error: needs an x86-64 machine with qemu-x86_64; on Debian: apt-get install qemu-user")
    with tempfile.TemporaryDirectory() as scratch:
        native = run_stages(prepare(Path(scratch, "native")), [sys.executable], STAGES)
        weights = native["models/sasrec.safetensors"][:16]
        print(f"native, threads {NATIVE_THREADS}: {len(native)} files, weights {weights}", flush=True)
        failed = False
        for cpu, num_threads in CPUS.items():
            python = [emulator, "-cpu", cpu, sys.executable]
            emulated = run_stages(prepare(Path(scratch, cpu), num_threads), python, STAGES)
            others = differing(native, emulated)
            failed = failed or bool(others)
            result = f"differs in {', '.join(others)}" if others else "the same bytes"
            print(f"{cpu}, threads {num_threads}: {result}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
