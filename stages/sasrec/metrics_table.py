"""Shows metrics/eval.json as a table: `dvc metrics show` puts its thirty values side by side."""

from collections.abc import Mapping

from sasrec import visible

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By scorer, by list (sampled or full): the mean and the 95 % half-width of HR@k and NDCG@k."""


def as_text(metrics: Metrics) -> str:
    """Return a line a scorer, under a header."""
    names = [name for name in metrics["sasrec"]["sampled"] if not name.endswith("_half_width")]
    columns = [(ranked, name) for ranked in ("sampled", "full") for name in names]
    lines = [" " * 18 + "".join(f"{visible.text(ranked + ' ' + name):>20}" for ranked, name in columns)]
    for scorer, by_list in metrics.items():
        cells = (f"{by_list[r][name]:.4f} ± {by_list[r][name + '_half_width']:.4f}" for r, name in columns)
        lines.append(f"{visible.text(scorer):<18}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)
