"""Looks every pinned package up among the known vulnerabilities, with pip-audit; arguments go on to it.

pip-audit calls it a success when its service knows none of the packages, or only skips them; here it is a failure.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).parent.parent / "constraints.txt"
COMMAND = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json"]
EXPLAINED: dict[str, str] = {}
"""Why a vulnerability, by its id, does no harm here: what no newer version mends."""


def problems(dependencies: list[dict[str, Any]], explained: dict[str, str]) -> list[str]:
    """Return a line for each finding of pip-audit that is not explained, and one on what it did not look up."""
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
    """Audit the pins; exit with status 1 where something is found or not looked up."""
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
