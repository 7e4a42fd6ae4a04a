"""Runs that differ in their seeds are summarised, and compared group by group; the experiments are made once."""

import json
import shlex
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import dvc.api
import msgspec
import numpy as np
import pytest
from conftest import ROOT, runner
from test_comparison import NAMES, ranked

from sasrec.core.errors import UserError
from sasrec.evaluation.rank_table import RankTable
from sasrec.reporting import comparison, comparison_table, runs, seeds


def run(num_hits: int, lists: str = "lists") -> RankTable:
    """A run that ranks the true book first for `num_hits` of 40 users, and 51st for the others."""
    table = ranked(np.where(np.arange(40) < num_hits, 0, 50))
    return replace(table, task=msgspec.structs.replace(table.task, lists=lists))


def group(*hits: int, lists: str = "lists") -> dict[str, RankTable]:
    return {f"{lists}-{seed}": run(num_hits, lists) for seed, num_hits in enumerate(hits)}


def of_several_lists(**hits: int) -> dict[str, RankTable]:
    return {f"on-{lists}": run(num_hits, lists) for lists, num_hits in hits.items()}


def compared(a: dict[str, RankTable], b: dict[str, RankTable]) -> comparison.Comparison:
    return comparison.compare_groups(a, b, NAMES, ["sasrec"], [10])


def hits_of(rows: list) -> object:
    return next(row for row in rows if (row.ranked, row.metric) == ("full", "HR@10"))


def test_the_mean_and_the_standard_deviation_are_those_of_the_runs() -> None:
    figure = hits_of(seeds.summarise(group(20, 24, 28), ["sasrec"], [10]).figures)
    assert (figure.mean, figure.deviation) == (0.6, 0.1)  # of 0.5, 0.6 and 0.7


def test_the_interval_of_runs_that_agree_is_that_of_their_users() -> None:
    figure = hits_of(seeds.summarise(group(20, 20), ["sasrec"], [10]).figures)
    assert figure.deviation == 0
    half_width = 2.0227 * (0.25 / 39) ** 0.5  # t with 39 degrees of freedom
    assert [figure.low, figure.high] == pytest.approx([0.5 - half_width, 0.5 + half_width], abs=1e-5)


def test_an_interval_ends_where_the_metric_does() -> None:
    figure = hits_of(seeds.summarise(group(39, 40), ["sasrec"], [10]).figures)
    assert figure.low < 1 == figure.high


def test_runs_with_other_users_are_independent_draws() -> None:
    summary = seeds.summarise(of_several_lists(x=20, y=24, z=28), ["sasrec"], [10])
    half_width = 4.3027 * 0.1 / 3**0.5  # t with 2 degrees of freedom
    assert hits_of(summary.figures).high == pytest.approx(0.6 + half_width, abs=1e-5)
    assert "of other users in each run" in " ".join(seeds.as_text(summary).split())


def test_one_run_alone_has_no_summary() -> None:
    with pytest.raises(UserError, match="lists-0 alone does not show the chance of seeds; take two runs or more"):
        seeds.summarise(group(20), ["sasrec"], [10])


def test_the_summary_fits_on_a_terminal_and_has_as_many_cells_in_every_row() -> None:
    summary = seeds.summarise(group(20, 24), ["sasrec"], [100])
    assert max(map(len, seeds.as_text(summary).splitlines())) <= 80
    assert {line.count("|") for line in seeds.as_markdown(summary).splitlines() if "|" in line} == {5}


def test_a_difference_as_large_as_between_seeds_is_chance_although_users_agree() -> None:
    single, several = compared(group(10), group(20)), compared(group(10, 20), group(20, 30))
    assert [hits_of(each.differences).difference for each in (single, several)] == [0.25, 0.25]
    assert hits_of(single.differences).is_beyond_chance
    assert not hits_of(several.differences).is_beyond_chance


def test_a_difference_larger_than_between_seeds_is_beyond_chance() -> None:
    found = compared(group(10, 11, 12), group(30, 31, 32))
    assert comparison_table.verdict(found).startswith(
        "sasrec of faster is better than of HEAD in sampled NDCG@10 by 0.5"
    )
    assert "A is the mean of 3 runs, HEAD, B that of 3 runs, faster. All ranked the same lists of 40 users" in " ".join(
        comparison_table.as_text(found).split()
    )


def test_groups_with_other_lists_are_compared_unpaired() -> None:
    found = compared(group(10, 12), group(20, 22, lists="others"))
    assert not found.is_paired
    assert "They ranked different lists, of 40 and 40 users" in " ".join(comparison_table.as_text(found).split())


def test_runs_with_lists_of_their_own_are_paired_by_their_lists_in_any_order() -> None:
    a, b = of_several_lists(x=10, y=20, z=30), of_several_lists(z=31, y=21, x=11)
    found = compared(a, b)
    hits = hits_of(found.differences)
    assert (hits.difference, hits.low, hits.high, hits.users) == (0.025, 0.025, 0.025, 120)
    assert "All ranked 3 lists, so each run is compared with" in " ".join(comparison_table.as_text(found).split())


def test_groups_that_share_some_lists_are_refused() -> None:
    with pytest.raises(UserError, match=r"HEAD and faster ranked several lists, .*; name runs of one split\.seed, or"):
        compared(of_several_lists(x=10, y=20), of_several_lists(y=10, z=20))


def test_one_run_is_not_compared_with_several() -> None:
    with pytest.raises(UserError, match="HEAD is one run, which does not show the chance of seeds"):
        compared(group(10), group(20, 30))


def test_markdown_shows_a_patterns_asterisk() -> None:
    found = comparison.compare_groups(group(10, 11), group(30, 31), ("base-*", "faster-*"), ["sasrec"], [10])
    assert r"faster-\* is better than of base-\* in" in comparison_table.as_markdown(found)


def test_several_runs_have_commas_between_them_and_none_is_named_twice() -> None:
    assert runs.named("base-0,HEAD~1") == ["base-0", "HEAD~1"]
    with pytest.raises(UserError, match="base-0,base-0 names base-0 twice"):
        runs.named("base-0,base-0")


def test_the_folder_of_a_clone_may_have_any_name(tmp_path: Path) -> None:
    clone = tmp_path / "one, [two]*"
    clone.mkdir()
    (clone / "dvc.yaml").touch()
    assert runs.named(str(clone)) == [str(clone)]


def test_make_hands_on_the_number_the_name_and_the_changes() -> None:
    changes = ["N=3", "RUNS=faster", "CHANGES=-S train.lr=0.01 --split", "DATA=a b.gz"]
    shown = runner(ROOT)("make", "-n", "--old-file=.venv/installed", "seeds", *changes).stdout
    data = ["-S", "fetch.source=file", "-S", 'fetch.file="a b.gz"']
    expected = ["python", "stages/seeds.py", "faster", "-n", "3", *data, "-S", "train.lr=0.01", "--split"]
    assert shlex.split(shown) == expected


@pytest.mark.long
def test_the_seeds_of_a_project_are_run_once_and_compared_by_a_pattern(project: Path) -> None:
    command = [sys.executable, "stages/seeds.py", "base", "-n", "2", "--json"]
    first, again = (runner(project)(*command) for _ in range(2))
    assert again.stdout == first.stdout
    assert again.stderr == ""
    found = {(row["ranker"], row["ranked"], row["metric"]): row for row in json.loads(first.stdout)["figures"]}
    metrics = (dvc.api.read("metrics/eval.json", str(project), rev=f"base-{seed}") for seed in (0, 1))
    values = [json.loads(each)["sasrec"]["full"]["MRR"] for each in metrics]
    assert found["sasrec", "full", "MRR"]["mean"] == pytest.approx(statistics.mean(values), abs=1e-7)
    assert found["sasrec", "full", "MRR"]["deviation"] == pytest.approx(statistics.stdev(values), abs=1e-7) != 0
    itself = runner(project)(sys.executable, "stages/compare.py", "base-*", "base-1,base-0", "--json")
    assert {row["p"] for row in json.loads(itself.stdout)["differences"]} == {1}
    refused = runner(project)(*command, "-S", "train.lr=0.02", fails=True).stderr
    assert refused == (
        "error: the experiment base-0 has train.lr 0.005, not 0.02; take another name, or remove it: "
        "`dvc exp remove base-0`\n"
    )
    nothing = runner(project)(sys.executable, "stages/compare.py", "basis-*", fails=True).stderr
    assert nothing == "error: no experiment on HEAD fits basis-*; they are base-0, base-1\n"


def test_runs_that_ranked_for_one_user_are_refused() -> None:
    alone = ranked(np.zeros(1, int))
    with pytest.raises(UserError, match=r"seed-0 ranked for one user.*raise evaluation.num_user_sample"):
        seeds.summarise({"seed-0": alone, "seed-1": alone}, ["sasrec"], [10])
