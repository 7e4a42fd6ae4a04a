"""Shows a comparison: a verdict in a sentence, and tables for a terminal or a pull request."""

import textwrap
from collections.abc import Iterator, Sequence

from sasrec.core import visible
from sasrec.reporting.comparison import Comparison, Difference

WIDTH = 80
WORDS = {"history_length": "books in the user's history", "popularity": "training ratings of the true book"}
COLUMNS = ("A", "B", "B - A", "95 % interval", "p")
WIDTHS = (7, 7, 8, 19, 8)

Section = tuple[str, list[Difference]]
"""A title, and the rows below it."""


def verdict(comparison: Comparison) -> str:
    """Return what of the comparison is beyond chance, as a sentence; of other metrics than the one shown, if alone."""
    a, b = visible.text(comparison.a), visible.text(comparison.b)
    clauses = []
    for ranker, rows in _by_ranker(comparison):
        for word, sign in (("better", 1), ("worse", -1)):
            found = [row for row in rows if row.is_beyond_chance and row.difference * sign > 0]
            amounts = [_amount(row) for row in found if row.metric == comparison.shown] or list(map(_amount, found))
            if amounts:
                clauses.append(f"{ranker} of {b} is {word} than of {a} in {_enumerated(amounts)}, beyond chance")
    return "; ".join(clauses) + "." if clauses else f"No difference between {a} and {b} beyond chance."


def as_text(comparison: Comparison) -> str:
    """Return the verdict and the tables, at most WIDTH characters wide."""
    lines = [*textwrap.wrap(verdict(comparison), WIDTH), "", *textwrap.wrap(_explanation(comparison), WIDTH)]
    for title, sections in _tables(comparison):
        lines += ["", *textwrap.wrap(title, WIDTH), _line("", COLUMNS)]
        for name, rows in sections:
            lines += [name, *(_line(f"  {_label(row)}", _cells(row)) for row in rows)]
    return "\n".join(lines)


def as_markdown(comparison: Comparison) -> str:
    """Return the verdict and the tables in Markdown; the groups are folded."""
    overall, groups = (
        "\n".join([f"{title}\n", _row("", COLUMNS), "|---" * (len(COLUMNS) + 1) + "|", *map(_section, sections)])
        for title, sections in _tables(comparison)
    )
    folded = f"<details><summary>By groups of users</summary>\n\n{groups}\n\n</details>"
    words = (text.replace("*", r"\*") for text in (verdict(comparison), _explanation(comparison)))  # patterns have them
    return "\n\n".join(["**{}**\n\n{}".format(*words), overall, folded])


def _section(section: Section) -> str:
    name, rows = section
    return "\n".join([_row(f"**{name}**", [""] * len(COLUMNS)), *(_row(_label(row), _cells(row)) for row in rows)])


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | {' | '.join(cell.strip() for cell in cells)} |"


def _by_ranker(comparison: Comparison) -> Iterator[Section]:
    """Yield each ranker, and the differences over all users."""
    rows = [row for row in comparison.differences if row.by == "all"]
    for ranker in dict.fromkeys(row.ranker for row in rows):
        yield ranker, [row for row in rows if row.ranker == ranker]


def _by_group(comparison: Comparison) -> Iterator[Section]:
    """Yield each ranker and what groups the users, and the differences of one metric among all books."""
    for ranker, _rows in _by_ranker(comparison):
        for by, words in WORDS.items():
            key = (by, ranker, "full", comparison.shown)
            rows = [row for row in comparison.differences if (row.by, row.ranker, row.ranked, row.metric) == key]
            yield f"{ranker}, by {words} (users)", rows


def _tables(comparison: Comparison) -> Iterator[tuple[str, list[Section]]]:
    """Yield the title and the sections of each table."""
    by_ranker, by_group = list(_by_ranker(comparison)), list(_by_group(comparison))
    num_figures = sum(len(rows) for _name, rows in by_ranker)
    num_groups = sum(len(rows) for _name, rows in by_group) // len(by_ranker)
    corrected = "p is corrected for {}, the intervals are not:"
    yield "All users; " + corrected.format(f"{num_figures} figures"), by_ranker
    yield f"full {comparison.shown} by groups; " + corrected.format(f"{num_groups} groups"), by_group


def _explanation(comparison: Comparison) -> str:
    a, b = visible.text(comparison.a), visible.text(comparison.b)
    num_a, num_b = (f"{number:,}" for number in comparison.users)
    if comparison.runs == (1, 1):
        named, by = f"A is {a}, B is {b}. Both ranked", ""
    else:
        runs_a, runs_b = comparison.runs
        named = f"A is the mean of {runs_a} runs, {a}, B that of {runs_b} runs, {b}. All ranked"
        by = " The intervals and p count the chance of users and of seeds."
    if comparison.lists > 1:
        return f"{named} {comparison.lists} lists, so each run is compared with the other run of its list.{by}"
    if comparison.is_paired:
        return f"{named} the same lists of {num_a} users, so each user is compared with itself.{by}"
    named = named.replace("Both", "They").replace("All", "They")
    return (
        f"{named} different lists, of {num_a} and {num_b} users, and are compared as independent samples: only a "
        f"larger difference is beyond chance.{by}"
    )


def _label(row: Difference) -> str:
    return f"{row.ranked} {row.metric}" if row.by == "all" else f"{row.group} ({row.users:,})"


def _cells(row: Difference) -> list[str]:
    p = "<0.001" if row.p < 0.001 else f"{row.p:.3f}"
    mark = " *" if row.is_beyond_chance else "  "
    interval = f"{row.low:+.4f} to {row.high:+.4f}"
    return [f"{row.a:.4f}", f"{row.b:.4f}", f"{row.difference:+.4f}", interval, p + mark]


def _amount(row: Difference) -> str:
    low, high = sorted((abs(row.low), abs(row.high)))
    return f"{row.ranked} {row.metric} by {abs(row.difference):.3f} ({low:.3f} to {high:.3f})"


def _enumerated(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _line(label: str, cells: Sequence[str]) -> str:
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
    return f"{label:<26}{' '.join(padded)}".rstrip()
