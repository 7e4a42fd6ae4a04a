"""Prints the metrics of the last evaluation as a table, and what each stage took."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

from pathlib import Path

import msgspec

from sasrec.core import errors
from sasrec.io import files
from sasrec.reporting import metrics_table, stage_records

METRICS = Path("metrics/eval.json")
INTERVALS = Path("metrics/intervals.json")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")


def main() -> None:
    """Read the metrics and the stages' records; print them. This script is no stage, because it writes nothing."""
    errors.require(METRICS, INTERVALS)
    with files.naming_damage(METRICS):
        metrics = msgspec.json.decode(METRICS.read_bytes())
    with files.naming_damage(INTERVALS):
        intervals = msgspec.json.decode(INTERVALS.read_bytes())
        table = metrics_table.as_text(metrics_table.from_files(metrics, intervals))
    print(table)
    print("", stage_records.as_text(stage_records.read(PIPELINE, LOCK)), sep="\n")


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
