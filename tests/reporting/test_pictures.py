"""Plots as the page draws them."""

import pytest

from sasrec.reporting import pictures

ROWS = [{"epoch": epoch, "rate": "0.1", "rev": "workspace"} for epoch in (1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at cutoff evaluation.k, of all", "at cutoff 10, of all"),
        ("longer than sasrec.max_len", "longer than 50"),
        ("datum.value and sasrec.unknown", "datum.value and sasrec.unknown"),
    ],
)
def test_a_param_is_shown_by_its_value(text: str, expected: str) -> None:
    assert pictures.with_values(text, {"evaluation": {"k": [10, 20]}, "sasrec": {"max_len": 50}}) == expected


def test_the_run_is_no_legend_and_no_panel() -> None:
    rev = {"field": "rev"}
    layer = {"mark": "bar", "encoding": {"color": rev, "x": {"field": "epoch"}}}
    found = pictures.fitted(
        {"data": {"values": ROWS}, "encoding": {"xOffset": rev, "column": rev}, "layer": [layer]}, {}
    )
    assert found["encoding"] == {}
    assert found["layer"] == [{"mark": "bar", "encoding": {"x": {"field": "epoch"}}}]


def test_panels_of_metrics_are_one_below_the_other() -> None:
    facet = {"row": {"field": "rev"}, "column": {"field": "field", "sort": []}}
    found = pictures.fitted({"data": {"values": ROWS}, "facet": facet, "spec": {}}, {})
    assert list(found["facet"]) == ["row"]
    assert found["facet"]["row"]["field"] == "field"


@pytest.mark.parametrize(
    ("mark", "last", "expected"), [("line", "0.1", "0.1"), ("line", "0.2", None), ("bar", "0.1", None)]
)
def test_a_line_that_never_changes_is_its_value(mark: str, last: str, expected: object) -> None:
    rows = [*ROWS, {"epoch": 4, "rate": last, "rev": "workspace"}]
    spec = {"data": {"values": rows}, "mark": {"type": mark}, "encoding": {"y": {"field": "rate"}}}
    assert pictures.constant(spec) == expected
