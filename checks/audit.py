"""Checks every pinned package for known vulnerabilities with pip-audit, which gets this script's arguments.

pip-audit succeeds even if its service knows none of the packages or it skips them. This script then fails.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).parent.parent / "constraints.txt"
COMMAND = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json"]
EXPLAINED: dict[str, str] = {}
"""By id, why a vulnerability that no newer version fixes does no harm here."""


def problems(dependencies: list[dict[str, Any]], explained: dict[str, str]) -> list[str]:
    """Return a line for each unexplained finding of pip-audit, and one if it did not look up some packages."""
    lines = [
        f"{package['name']} {package['version']}: {finding['id']}, {_remedy(finding['fix_versions'])}"
        for package in dependencies
        for finding in package.get("vulns", [])
        if not {finding["id"], *finding["aliases"]} & explained.keys()
    ]
    skipped = [package["name"] for package in dependencies if "skip_reason" in package]
    if skipped:
        lines.append(
            f"{len(skipped)} of {len(dependencies)} packages were not looked up, {skipped[0]} first: the service "
            "does not know them, or cannot be reached from here"
        )
    return lines


def _remedy(fix_versions: list[str]) -> str:
    if fix_versions:
        return f"mended in {', '.join(fix_versions)}: run `make constraints`"
    return "no version mends it: explain it in checks/audit.py, or do without the package"


def main() -> None:
    """Audit the pins; exit with status 1 if a vulnerability is found or a package is not looked up."""
    done = subprocess.run([*COMMAND, "--requirement", str(PINS), *sys.argv[1:]], capture_output=True, text=True)
    if not done.stdout:
        last_line = (done.stderr.splitlines() or ["no message"])[-1]
        sys.exit(f"error: pip-audit failed: {last_line}; try again where its service can be reached")
    dependencies = json.loads(done.stdout)["dependencies"]
    found = problems(dependencies, EXPLAINED)
    if found:
        sys.exit("\n".join(f"error: {line}" for line in found))
    print(f"{len(dependencies)} packages, {len(EXPLAINED)} findings explained, no other vulnerability is known")


if __name__ == "__main__":
    main()
