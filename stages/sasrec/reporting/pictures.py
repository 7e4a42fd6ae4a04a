"""Fits DVC's plots to a page on one run: no legend for the run, values for the names of params, panels in a column."""

import re
from collections.abc import Mapping
from typing import Any

Spec = dict[str, Any]
"""A plot in Vega-Lite."""

SIZE = {"width": 420, "height": 240}  # as wide as the page on a phone, where it shrinks a little
CONFIG = {
    "background": "transparent",
    "font": "Arial, Liberation Sans, sans-serif",
    "mark": {"color": "#945dd6"},
    "legend": {"orient": "top", "columns": 3, "layout": {"top": {"direction": "vertical", "anchor": "start"}}},
}
UPRIGHT = {"angle": 0, "align": "center", "baseline": "bottom", "dx": 0, "dy": -2}  # a number above its bar
ABOVE = {"labelOrient": "top", "labelFontWeight": "bold", "title": None}
FOLDER = {"title": None, "labelExpr": "split(datum.label, '/')[0]"}


def fitted(spec: Spec, params: Mapping[str, Mapping[str, object]]) -> Spec:
    """Return a plot of one run as the page draws it."""
    parts = {key: part for key, part in spec.items() if key not in ("data", "$schema")}
    return {**spec, **_fitted(parts, params), "config": CONFIG}


def constant(spec: Spec) -> object:
    """Return the only value of a line that never changes, else None."""
    field = spec.get("encoding", {}).get("y", {}).get("field")
    values = [row.get(field) for row in spec["data"]["values"]]
    return values[0] if "line" in str(spec.get("mark")) and len(values) > 1 and len(set(values)) == 1 else None


def with_values(text: str, params: Mapping[str, Mapping[str, object]]) -> str:
    """Return `text` with the values of the params that it names, such as evaluation.k; of a list, the first."""

    def value(found: re.Match[str]) -> str:
        given = params.get(found[1], {}).get(found[2], found[0])
        return str(given[0] if isinstance(given, list) else given)

    return re.sub(r"\b([a-z_]+)\.([a-z_]+)\b", value, text)


def _fitted_part(part: object, params: Mapping[str, Mapping[str, object]]) -> object:
    if isinstance(part, str):
        return with_values(part, params)
    if isinstance(part, list):
        return [_fitted_part(each, params) for each in part]
    return _fitted(part, params) if isinstance(part, dict) else part


def _fitted(part: Spec, params: Mapping[str, Mapping[str, object]]) -> Spec:
    found: Spec = {key: _fitted_part(each, params) for key, each in part.items() if not _is_of(each, "rev")}
    if "width" in found:
        found |= SIZE
    if found.get("angle") == 270:
        found |= UPRIGHT
    if _is_of(found.get("strokeDash"), "filename"):  # the two rankings of a validation curve
        found["color"] = {"field": "filename", "legend": FOLDER}
        del found["strokeDash"]
    if "column" in found.get("facet", {}):
        found["facet"] = {"row": found["facet"]["column"] | {"header": ABOVE}}
    return found


def _is_of(channel: object, field: str) -> bool:
    return isinstance(channel, dict) and channel.get("field") == field
