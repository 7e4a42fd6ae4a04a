"""Draws the plots of dvc.yaml for one run or several: a picture each, and index.html, which opens without a network.

`dvc plots show` and `diff` draw the same, but their page loads Vega from the network.
"""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
import sys
from pathlib import Path

from sasrec.core import errors, visible
from sasrec.io import files
from sasrec.reporting import page, provenance

TEMPLATE = "<!DOCTYPE html>\n<meta charset='utf-8'>\n<title>Plots</title>\n<script>{script}</script>\n{{plot_divs}}\n"


def parse_arguments() -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a revision or an experiment; default: the workspace")
    parser.add_argument("--output", type=Path, default=Path("dvc_plots"), help="a folder; default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Read the arguments; let DVC collect the plots, and draw them. This script is no stage."""
    arguments = parse_arguments()
    output = arguments.output
    page.require_library()
    import vl_convert

    words = ["plots", "diff", *arguments.runs] if arguments.runs else ["plots", "show"]
    output.mkdir(parents=True, exist_ok=True)
    for name, [plot] in provenance.of_dvc(*words)["data"].items():
        with files.atomic_write(output / f"{name}.png") as partial:
            partial.write_bytes(vl_convert.vegalite_to_png(plot["content"], scale=2))
    template = output / "template.html"
    with files.atomic_write(template) as partial:
        script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        partial.write_text(TEMPLATE.format(script=script), encoding="utf-8")
    options = ["--html-template", str(template.resolve()), "--out", str(output)]
    provenance.output_of(sys.executable, "-m", "dvc", *words, *options)
    template.unlink()
    print(f"{visible.text(output / 'index.html')}: open it with a browser; beside it is a picture of each plot")


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
