"""Runs all stages on a small demo on an emulated ARM processor and compares every output with the native one.

The data stages must give the same bytes, and the metrics must agree within verify.TOLERANCE. The ARM system, kept in
.arm, consists of Debian's packages and the package index's ARM wheels, in the versions installed here. It needs Debian
or Ubuntu on x86-64 with qemu-aarch64 (apt-get install qemu-user), and 5 GB of disk, because the index has PyTorch for
ARM only with CUDA. Once the system is made, a check takes about five minutes on two cores.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

import verify
import verify_cpus
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SYSTEM = verify_cpus.ROOT / ".arm"
PYTHON = f"python3.{sys.version_info.minor}"
TOOLS = {"qemu-aarch64": "qemu-user", "apt-get": "apt", "dpkg-deb": "dpkg"}
"""The programs needed, and the Debian package of each."""

PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 29))]
PROCESSOR = """processor : {number}
Features : fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer : 0x41
CPU architecture: 8
CPU variant : 0x1
CPU part : 0xd07
CPU revision : 0

"""


def run(*command: str | Path) -> None:
    """Run `command`; if it fails, exit with the last line of its errors."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.lower().startswith(("e:", "error"))]
        sys.exit(f"error: {' '.join(map(str, command[:4]))} … failed: {errors[-1] if errors else done.stderr.strip()}")


def unpack_system(root: Path, scratch: Path) -> None:
    """Unpack Debian's Python for ARM below `root`, from the archives in this machine's apt configuration."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()  # no package counts as installed, so apt fetches everything that Python needs
    apt = ["apt-get", "-oAPT::Architecture=arm64", "-oAPT::Architectures::=arm64", "-oAPT::Install-Recommends=false"]
    apt += [f"-oDir::State={scratch / 'state'}", f"-oDir::State::status={scratch / 'status'}"]
    apt += [f"-oDir::Cache={scratch / 'cache'}", "-oAPT::Sandbox::User=root"]
    run(*apt, "update")
    run(*apt, "--yes", "--download-only", "install", PYTHON, "libstdc++6")
    root.mkdir()
    for package in sorted((scratch / "cache/archives").glob("*.deb")):
        run("dpkg-deb", "--extract", package, root)
    # PyTorch reads this file at import, and crashes on the host's, which qemu would show.
    (root / "proc").mkdir(exist_ok=True)
    cores = os.cpu_count() or 1
    (root / "proc/cpuinfo").write_text("".join(PROCESSOR.format(number=number) for number in range(cores)))


def needed_by(*names: str) -> dict[str, metadata.Distribution]:
    """Return, by name, the installed distributions `names` and all that they need, for the extra `pipeline` too."""
    left, found = list(names), dict[str, metadata.Distribution]()
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        required = map(Requirement, found[name].requires or [])
        left += [each.name for each in required if each.marker is None or each.marker.evaluate({"extra": "pipeline"})]
    return found


def compiled_requirements() -> list[str]:
    """Return `name==version` of every distribution that the pipeline needs and that is compiled for a processor."""
    return sorted(
        f"{name}=={distribution.version.partition('+')[0]}"
        for name, distribution in needed_by("sasrec-pipeline").items()
        if "Root-Is-Purelib: false" in (distribution.read_text("WHEEL") or "")
    )


def cuda_requirements() -> list[str]:
    """Return the pins of the CUDA libraries that PyTorch's ARM build loads even without a GPU."""
    lines = (verify_cpus.ROOT / "constraints.txt").read_text().splitlines()
    return [line.partition(" ;")[0] for line in lines if line.startswith("nvidia-")]


def make_system(folder: Path) -> None:
    """Make the ARM system in `folder`, unless it exists with the same packages."""
    requirements = sorted({*compiled_requirements(), *cuda_requirements()})
    made_of = folder / "made_of.json"
    if made_of.is_file() and json.loads(made_of.read_text()) == [PYTHON, *requirements]:
        return
    print(f"making the ARM system in {folder}, once: 3 GB to download", flush=True)
    folder.mkdir(exist_ok=True)
    made_of.unlink(missing_ok=True)
    for part in ("root", "packages"):
        shutil.rmtree(folder / part, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        unpack_system(folder / "root", Path(scratch))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    platforms = [f"--platform={name}" for name in PLATFORMS]
    run(*install, *platforms, f"--target={folder / 'packages'}", *requirements)
    made_of.write_text(json.dumps([PYTHON, *requirements]))


def emulated_python(folder: Path) -> list[str]:
    """Return the command that runs Python in the ARM system, with this environment's pure-Python packages."""
    path = os.pathsep.join([str(folder / "packages"), sysconfig.get_path("purelib")])
    variables = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    settings = [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
    return ["qemu-aarch64", "-L", str(folder / "root"), *settings, str(folder / "root/usr/bin" / PYTHON)]


def compare_metrics(native: Path, emulated: Path) -> None:
    """Exit with an error if the metrics of two runs differ by more than verify.TOLERANCE."""
    found, expected = (json.loads((folder / "metrics/eval.json").read_text()) for folder in (emulated, native))
    try:
        verify.compare_metrics(found, expected)
    except verify.DifferenceError as difference:
        sys.exit(f"error: {difference}")


def compare(arm: list[str], scratch: Path) -> None:
    """Print a line for the data stages and one for all stages; exit with an error if they differ too much."""
    native, emulated = verify_cpus.prepare(scratch / "native"), verify_cpus.prepare(scratch / "arm")

    def run_both(stages: list[str]) -> tuple[int, list[str]]:
        first = verify_cpus.run_stages(native, [sys.executable], stages)
        return len(first), verify_cpus.differing(first, verify_cpus.run_stages(emulated, arm, stages))

    number, others = run_both(verify.DATA_STAGES)
    if others:
        sys.exit(f"error: the data stages differ in {', '.join(others)}")
    print(f"data stages: the same bytes in {number} files", flush=True)
    number, others = run_both(["train_gpu", "evaluate"])
    compare_metrics(native, emulated)
    print(f"all stages: metrics within {verify.TOLERANCE}, {len(others)} of {number} files differ: {', '.join(others)}")


def main() -> None:
    """Compare natively and emulated, making the ARM system if needed; exit with one line if a program is missing."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        sys.exit(f"error: needs {', '.join(TOOLS)}; on Debian or Ubuntu: apt-get install {' '.join(missing)}")
    if platform.machine() != "x86_64":
        sys.exit(f"error: needs an x86-64 machine to compare with, this one is {platform.machine()}")
    make_system(SYSTEM)
    with tempfile.TemporaryDirectory() as scratch:
        compare(emulated_python(SYSTEM), Path(scratch))


if __name__ == "__main__":
    main()
