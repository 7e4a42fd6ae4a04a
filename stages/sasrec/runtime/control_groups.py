"""The limits that Linux sets to the control groups of this process (v1 and v2): those of a container, for example."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OF_THIS_PROCESS = Path("/proc/self/cgroup")


def limits(controller: str, *names: str) -> list[list[str]]:
    """Return the words of the files `names` in each control group of this process that has all of them."""
    try:
        groups = [line.split(":", 2) for line in OF_THIS_PROCESS.read_text().splitlines()]
    except OSError:  # not Linux
        return []
    folders = [ROOT / (controller if controller in kinds.split(",") else "") / name[1:] for _, kinds, name in groups]
    levels = {level for folder in folders for level in (folder, *folder.parents) if level.is_relative_to(ROOT)}
    files = [[level / name for name in names] for level in levels]
    return [
        " ".join(file.read_text() for file in each).split() for each in files if all(file.is_file() for file in each)
    ]
