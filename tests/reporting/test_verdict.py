"""Who wins, and whether that is beyond chance, on rankings made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from test_comparison import ranked

from sasrec.evaluation.intervals import Estimate
from sasrec.evaluation.rank_table import RankTable
from sasrec.evaluation.ranking import Ranks
from sasrec.reporting import verdict

FIRST, SECOND = np.zeros(40, np.int64), np.ones(40, np.int64)  # NDCG 1 and 1 / log2(3)
MIXED = np.tile([0, 1], 20)


def run(**rankers: np.ndarray) -> RankTable:
    return replace(ranked(FIRST), ranks={name: Ranks(ranks, ranks) for name, ranks in rankers.items()})


def test_whoever_is_better_for_every_user_wins_beyond_chance() -> None:
    sampled, full = verdict.leads(run(sasrec=SECOND, item_transitions=FIRST), 10)
    assert (sampled.first, sampled.second, sampled.books, full.books) == ("item_transitions", "sasrec", 101, 900)
    assert sampled.value - sampled.of_second == pytest.approx(1 - 1 / np.log2(3))
    assert sampled.is_beyond_chance
    assert verdict.sentence(sampled) == (
        "Among 101 books, item transitions wins with NDCG@10 1.000, 0.369 (0.369 to 0.369) above sasrec: "
        "beyond chance (p < 0.001)."
    )


def test_a_lead_of_one_user_may_be_chance() -> None:
    better = MIXED.copy()
    better[1] = 0
    _sampled, full = verdict.leads(run(sasrec=MIXED, hybrid=better), 10)
    assert full.p == 1
    assert verdict.sentence(full).startswith("Among all 900 books, nobody wins: hybrid has NDCG@10 0.825, 0.009 (")
    assert verdict.sentence(full).endswith("above sasrec, which may be chance (p = 1.000).")


def test_p_grows_with_the_number_of_pairs_that_could_have_led() -> None:
    better = np.where(np.arange(40) < 9, 0, 1)  # nine users of forty
    two, three = (
        verdict.leads(run(sasrec=SECOND, hybrid=better, **more), 10)[0] for more in ({}, {"worst": SECOND + 50})
    )
    assert three.p == pytest.approx(3 * two.p)


def test_one_ranker_or_one_user_decides_nothing() -> None:
    assert verdict.leads(run(sasrec=FIRST), 10) == []
    assert verdict.leads(replace(run(a=FIRST[:1], b=SECOND[:1]), user_ids=ranked(FIRST[:1]).user_ids), 10) == []


@pytest.mark.parametrize(
    ("source", "expected"), [("demo", "made up"), ("goodreads", "2017"), ("file", "choose params")]
)
def test_the_source_says_what_the_figures_may_not_be_used_for(source: str, expected: str) -> None:
    assert expected in verdict.limits(source)[0]


def test_all_of_the_best_of_a_column_are_named() -> None:
    means = {"a": {"HR@5": 0.5, "NDCG@5": 0.25}, "b": {"HR@5": 0.5, "NDCG@5": 0.5}}
    values = {scorer: {name: Estimate(mean, 0, 1) for name, mean in each.items()} for scorer, each in means.items()}
    metrics = {scorer: {"sampled": of_scorer, "full": values["a"]} for scorer, of_scorer in values.items()}
    assert verdict.best(metrics) == [{"a", "b"}, {"b"}, {"a", "b"}, {"a", "b"}]
