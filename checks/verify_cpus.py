"""Runs all stages on a small demo under several emulated processors and compares every output with the native one.

Needs qemu-x86_64 (Debian: apt-get install qemu-user). Emulation is slow: about four minutes on two cores.
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
CPUS = ["Haswell", "Skylake-Client", "EPYC"]  # the first Intel with AVX2, a later one, AMD
SMALL = {
    "fetch": {"demo_users": 300},
    "evaluation": {"num_user_sample": 50},
    "train": {"batch_size": 32, "num_epochs": 2, "device": "cpu", "reproducibility": "portable"},
}


def prepare(folder: Path) -> Path:
    """Create and return `folder`, with the params of a small run."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for section, changes in SMALL.items():
        params[section].update(changes)
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
        print(f"native: {len(native)} files, weights {native['models/sasrec.safetensors'][:16]}", flush=True)
        failed = False
        for cpu in CPUS:
            emulated = run_stages(prepare(Path(scratch, cpu)), [emulator, "-cpu", cpu, sys.executable], STAGES)
            others = differing(native, emulated)
            failed = failed or bool(others)
            print(f"{cpu}: {'differs in ' + ', '.join(others) if others else 'the same bytes'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
