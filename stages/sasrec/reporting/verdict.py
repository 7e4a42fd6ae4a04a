"""Says which ranker of a run wins, whether that is beyond chance, and what the figures may not be used for."""

import math
from typing import NamedTuple

from sasrec.evaluation import metrics
from sasrec.evaluation.rank_table import RankTable
from sasrec.evaluation.ranking import Ranks
from sasrec.reporting import chance, comparison, figures, metrics_table
from sasrec.reporting.metrics_table import Estimates

OF_SOURCE = {
    "demo": "say anything about real users: the demo's data are made up",
    "goodreads": "say anything about readers of today: the reviews end in 2017",
}
OF_ALL = (
    "choose params: figures of users who helped to choose are too good, so the validation metrics choose",
    "be compared with those of other data or lists: among few random books, even the order of rankers may differ",
    "tell a small gain from luck in training: the intervals are over users, and another seed moves them too",
)


class Lead(NamedTuple):
    """The first ranker in one of the rankings, and how far the second one is behind."""

    ranked: str  # the list: "sampled" or "full"
    books: int  # in the list
    metric: str
    first: str
    second: str
    value: float  # of the first
    of_second: float
    low: float  # of the 95 % interval of the difference
    high: float
    p: float  # times the number of pairs of rankers in both lists (Bonferroni), because the data chose this pair

    @property
    def is_beyond_chance(self) -> bool:
        """Whether a lead as large as this is rare where there is none."""
        return self.p < chance.LEVEL


def leads(table: RankTable, k: int) -> list[Lead]:
    """Return who leads in each ranking by NDCG@k; nothing where too few rankers or users leave nothing to test."""
    if len(table.ranks) < 2 or len(table.user_ids) < figures.MIN_USERS:
        return []
    num_pairs = len(Ranks._fields) * math.comb(len(table.ranks), 2)
    found = []
    for ranked, books in zip(Ranks._fields, (table.task.num_negatives + 1, table.task.num_books), strict=True):
        values = {ranker: metrics.ndcgs(getattr(ranks, ranked), k) for ranker, ranks in table.ranks.items()}
        first, second = sorted(values, key=lambda ranker: values[ranker].mean(), reverse=True)[:2]
        tested = comparison.test(values[second][None], values[first][None], is_paired=True)
        behind, ahead, low, high, p = (each.item() for each in tested)
        found.append(Lead(ranked, books, f"NDCG@{k}", first, second, ahead, behind, low, high, min(1, p * num_pairs)))
    return found


def sentence(lead: Lead) -> str:
    """Return who wins a ranking, by how much, and whether that is beyond chance."""
    first, second = (metrics_table.label(ranker, {}) for ranker in (lead.first, lead.second))
    among = f"Among {'all ' if lead.ranked == 'full' else ''}{lead.books:,} books"
    amount = f"{lead.value - lead.of_second:.3f} ({lead.low:.3f} to {lead.high:.3f})"
    scored = f"{lead.metric} {lead.value:.3f}, {amount} above {second}"
    p = "p < 0.001" if lead.p < 0.001 else f"p = {lead.p:.3f}"
    if lead.is_beyond_chance:
        return f"{among}, {first} wins with {scored}: beyond chance ({p})."
    return f"{among}, nobody wins: {first} has {scored}, which may be chance ({p})."


def limits(source: str) -> list[str]:
    """Return what the figures of the data `source` must not be used for, each to follow "They may not"."""
    return [*([OF_SOURCE[source]] if source in OF_SOURCE else []), *OF_ALL]


def best(values: Estimates) -> list[set[str]]:
    """Return the scorers with the highest value, for each column of `metrics_table.table`."""
    columns = [(ranked, name) for ranked in Ranks._fields for name in metrics_table.names(values)]
    highest = [max(by_list[ranked][name].mean for by_list in values.values()) for ranked, name in columns]
    return [
        {scorer for scorer, by_list in values.items() if by_list[ranked][name].mean == most}
        for (ranked, name), most in zip(columns, highest, strict=True)
    ]
