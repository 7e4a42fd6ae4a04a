"""Renders the report as one page that opens without a network."""

import base64
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from sasrec.core import params, visible
from sasrec.core.errors import UserError
from sasrec.reporting import provenance

TEMPLATE = Path(__file__).with_name("report.html.jinja")


def require_library() -> None:
    """Raise UserError if vl_convert, which draws the plots, is not installed."""
    if find_spec("vl_convert") is None:
        raise UserError("the report needs vl_convert; run `pip install -c constraints.txt -e '.[report]'`")


def plots() -> list[dict[str, Any]]:
    """Return the plots in the order of dvc.yaml: name, title, whether each is wide, and its SVG as a data address."""
    import vl_convert

    drawn = []
    for name, versions in provenance.of_dvc("plots", "show")["data"].items():
        for each in versions:
            spec = each["content"]
            title = spec.pop("title")["text"]
            svg = vl_convert.vegalite_to_svg(spec)
            # Embed each SVG as an image: inline SVGs would share the ids of their parts.
            address = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
            drawn.append({"name": name, "title": title, "address": address, "is_wide": "facet" in spec})
    return drawn


def render(content: dict[str, Any]) -> str:
    """Return the page as HTML; the values of `content` are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_yaml"] = params.shown
    environment.filters["shown"] = lambda text: markupsafe.Markup("<bdi>{}</bdi>").format(visible.text(text))
    return environment.get_template(TEMPLATE.name).render(content)
