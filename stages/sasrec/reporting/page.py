"""Renders the report as one page that opens without a network."""

import base64
import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from sasrec.core import params, visible
from sasrec.core.errors import UserError
from sasrec.reporting import metrics_table, pictures, provenance, stage_records, verdict

TEMPLATE = Path(__file__).with_name("report.html.jinja")


def require_library() -> None:
    """Raise UserError if vl_convert, which draws the plots, is not installed."""
    if find_spec("vl_convert") is None:
        raise UserError("the report needs vl_convert; run `pip install -c constraints.txt -e '.[report]'`")


def plots(values: Mapping[str, Mapping[str, object]]) -> list[dict[str, str]]:
    """Return the plots in the order of dvc.yaml: each one's name and title, and its SVG as a data address.

    A line that never changes has its value instead of an address. `values` are the params, which plots name.
    """
    import vl_convert

    drawn = []
    for name, versions in provenance.of_dvc("plots", "show")["data"].items():
        for each in versions:
            spec = pictures.fitted(each["content"], values)
            plot = {"name": name, "title": spec.pop("title")["text"]}
            if (value := pictures.constant(spec)) is not None:
                drawn.append(plot | {"value": str(value)})
                continue
            svg = vl_convert.vegalite_to_svg(spec)
            # Embed each SVG as an image: inline SVGs would share the ids of their parts.
            address = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
            drawn.append(plot | {"address": address})
    return drawn


def render(content: dict[str, Any]) -> str:
    """Return the page as HTML; the values of `content` are escaped. Its `eval` holds the metrics."""
    accuracy = {
        "table": metrics_table.table(content["estimates"]),
        "measures": metrics_table.names(content["estimates"]),
        "best": verdict.best(content["estimates"]),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_yaml"] = params.shown
    environment.filters["sentence"] = verdict.sentence
    environment.filters["device"] = stage_records.device
    environment.globals["environments"] = stage_records.environments
    environment.filters["quoted"] = shlex.quote
    environment.filters["label"] = lambda scorer: metrics_table.label(scorer, {})
    environment.filters["shown"] = lambda text: markupsafe.Markup("<bdi>{}</bdi>").format(visible.text(text))
    return environment.get_template(TEMPLATE.name).render(content | accuracy)
