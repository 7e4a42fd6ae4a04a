"""Trains with several seeds, as experiments, and prints each metric's mean, standard deviation and interval over them.

The experiments are called NAME-0, NAME-1, … and stay. Those that HEAD has already do not run again.
"""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
from pathlib import Path

import msgspec

from sasrec.core import errors, params
from sasrec.evaluation import rank_table
from sasrec.reporting import figures, runs, seeds
from sasrec.split.params import EvaluationParams

PARAMS = Path("params.yaml")
RANKS = Path("data/evaluation/ranks.parquet")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="seed", metavar="NAME", help="default: %(default)s")
    parser.add_argument("-n", type=int, default=5, metavar="N", help="runs, at least 2; default: %(default)s")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="PARAM", help="as of `dvc exp run`")
    parser.add_argument(
        "--split",
        action="store_true",
        help="change split.seed with train.seed, so that each run holds other users out; default: train.seed alone",
    )
    figures.add_options(parser)
    arguments = parser.parse_args()
    if arguments.n < 2:
        parser.error(f"argument -n: {arguments.n} does not show the chance of seeds; take 2 or more")
    return arguments


def main() -> None:
    """Run the experiments that HEAD lacks, and print the summary of all. This script is no stage."""
    arguments = parse_arguments()
    cutoffs = params.load(PARAMS, "evaluation", EvaluationParams).cutoffs
    tables = {}
    for seed in range(arguments.n):
        changes = [f"{section}.seed={seed}" for section in (["train", "split"] if arguments.split else ["train"])]
        name = f"{arguments.name}-{seed}"
        runs.make_experiment(name, [*arguments.changes, *changes], PARAMS)
        with runs.output(RANKS, name) as path:
            tables[name] = rank_table.read(path)
    found = seeds.summarise(tables, arguments.ranker or figures.RANKERS, cutoffs)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print(seeds.as_markdown(found) if arguments.md else seeds.as_text(found))


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
