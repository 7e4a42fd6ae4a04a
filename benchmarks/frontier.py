"""Draws validation NDCG@10 against seconds of training for some presets, with item transitions as a line.

Each preset trains in a process of its own, in portable mode with one thread, which other work disturbs the least. The
seconds are those of the start and of the steps, without validation, and every epoch gives a point.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import presets
import source
from sasrec.core.params import load
from sasrec.runtime import cores, reproducibility

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULT = HERE / "results" / "frontier.json"
PICTURE = ROOT / "docs" / "frontier.png"
NAMES = ("notebook", "paper", "default-without-counts", "default", "best")
PANELS = {"sampled": "among 100 unread books", "full": "among all books"}


def curve() -> dict[str, Any]:
    """Train in the current folder; return the seconds and the metrics of each epoch, and item transitions' metrics."""
    from sasrec.evaluation import baselines, ranking
    from sasrec.model.params import SasrecParams
    from sasrec.runtime import device
    from sasrec.split import datasets
    from sasrec.training import loop, step
    from sasrec.training.params import TrainParams

    sasrec_params = load(Path("params.yaml"), "sasrec", SasrecParams)
    train_params = load(Path("params.yaml"), "train", TrainParams)
    where = device.use("cpu", cores.num_threads(Path("params.yaml")))
    train = datasets.load_training_set(Path("data/split/train.safetensors"))
    validation = datasets.load_held_out(Path("data/split/validation.safetensors"), train)
    transitions = ranking.rank(validation, baselines.item_transitions(train))
    steps_per_epoch = train.num_users // train_params.batch_size
    began = time.perf_counter()
    state = step.start(train, train_params, sasrec_params, where)
    take_step = loop.step_function(state, train)
    seconds, points = time.perf_counter() - began, []
    while not loop.is_over(state):
        began = time.perf_counter()
        loop.train_epoch(state, take_step, steps_per_epoch, Path("checkpoint"))
        seconds += time.perf_counter() - began
        loop.validate(state, validation)
        points.append({"seconds": seconds, **values(state.curve[-1])})
    return {"points": points, "item_transitions": values(ranking.summary(transitions, loop.VALIDATION_K))}


def values(metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return NDCG@10 by ranking."""
    return {ranked: metrics[ranked]["NDCG@10"] for ranked in PANELS}


def measure(name: str, data: list[str], clone: Path) -> dict[str, Any]:
    """Return the curve of a preset on a dump; `clone` is a clone of the project."""
    subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)
    changes = [*source.changes(data), "machine.num_threads=1"]
    command = [*presets.command([*changes, *presets.ALL[name]]), "--quiet", "split"]  # it leaves params.yaml changed
    subprocess.run(command, cwd=clone, check=True)
    path = os.pathsep.join([str(HERE), str(ROOT / "stages")])
    environment = {**os.environ, **reproducibility.environment(clone / "params.yaml"), "PYTHONPATH": path}
    command = [sys.executable, "-c", "import frontier, json; print(json.dumps(frontier.curve()))"]
    done = subprocess.run(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def specification(curves: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the Vega-Lite specification of the picture: a panel for each ranking."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "hconcat": [panel(ranked, title, curves) for ranked, title in PANELS.items()],
        "config": {"font": "sans-serif", "axis": {"titleFontWeight": "normal"}, "title": {"fontWeight": "normal"}},
    }


def panel(ranked: str, title: str, curves: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the specification of one ranking's panel."""
    rows = [
        {"preset": name, "seconds": point["seconds"], "value": point[ranked]}
        for name, found in curves.items()
        for point in found["points"]
    ]
    counted = [{"value": curves["default"]["item_transitions"][ranked], "text": "item transitions, which only count"}]
    x = {"field": "seconds", "type": "quantitative", "scale": {"type": "log"}, "title": "seconds of training (log)"}
    y = {"field": "value", "type": "quantitative", "title": "validation NDCG@10"}
    colour = {"field": "preset", "type": "nominal", "sort": list(NAMES), "title": None, "legend": {"orient": "bottom"}}
    return {
        "title": f"NDCG@10 {title} ({ranked})",
        "width": 380,
        "height": 280,
        "layer": [
            {"data": {"values": counted}, "mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"y": y}},
            {
                "data": {"values": counted},
                "mark": {"type": "text", "align": "left", "dx": 4, "dy": -7, "x": 0, "fontSize": 11},
                "encoding": {"y": y, "text": {"field": "text"}},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "line", "point": {"size": 18}},
                "encoding": {"x": x, "y": y, "color": colour},
            },
        ],
    }


def draw(curves: dict[str, dict[str, Any]], path: Path) -> None:
    """Write the picture."""
    import vl_convert

    path.write_bytes(vl_convert.vegalite_to_png(specification(curves), scale=2))


def main() -> None:
    """Measure the presets on the dump named, write the figures, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=source.names, help="a dump: a path, a glob, a URL, or several in one argument")
    arguments = parser.parse_args()
    data = source.absolute(arguments.data)  # in the clone, relative paths would be the clone's
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        curves = {}
        for name in NAMES:
            print(name, file=sys.stderr)
            curves[name] = measure(name, data, clone)
    RESULT.write_text(json.dumps({"data": source.title(data), "curves": curves}, indent=2) + "\n")
    draw(curves, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)} and {RESULT.relative_to(ROOT)} are written")


if __name__ == "__main__":
    main()
