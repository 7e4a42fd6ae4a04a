"""Two runs are compared user by user: tests by enumeration, and runs from everywhere that git and DVC know."""

import hashlib
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from conftest import Run, runner

from sasrec.commands import compare
from sasrec.core.errors import UserError
from sasrec.evaluation.rank_table import RankTable, Task
from sasrec.evaluation.ranking import Ranks
from sasrec.reporting import comparison, comparison_table

NAMES = ("HEAD", "faster")
HITS, MISSES = np.zeros(40, np.int64), np.full(40, 50)


def ranked(ranks: np.ndarray) -> RankTable:
    """A run whose ranker `sasrec` gives these ranks (users,) in both lists; half of the users have long histories."""
    users = np.arange(len(ranks))
    return RankTable(
        task=Task("lists", "holdout_users", 100, 900),
        user_ids=pa.array(map(str, users)),
        true_book_ids=pa.array(map(str, users)),
        history_lengths=np.where(users % 2, 12, 700),
        popularity=np.full(len(users), 3),
        ranks={"sasrec": Ranks(ranks, ranks)},
    )


def compared(a: RankTable, b: RankTable) -> comparison.Comparison:
    return comparison.compare(a, b, NAMES, ["sasrec"], [10])


def test_p_of_pairs_is_the_share_of_all_swaps_that_differ_as_much() -> None:
    a, b = np.array([[0.1, 0.5, 0.0, 1.0, 0.3]]), np.array([[0.4, 0.9, 0.2, 0.9, 0.8]])
    signs = np.array(list(itertools.product([1, -1], repeat=5)))
    share = np.mean(np.abs(signs @ (b - a)[0]) >= abs((b - a).sum()) - 1e-12)
    assert comparison.test(a, b, is_paired=True).p == pytest.approx([share])


def test_p_without_pairs_is_the_share_of_all_divisions_that_differ_as_much() -> None:
    a, b = np.array([[0.1, 0.2, 0.4]]), np.array([[0.3, 0.8, 0.9]])
    everyone = [*a[0], *b[0]]
    sums = np.array([sum(chosen) for chosen in itertools.combinations(everyone, 3)])
    share = np.mean(np.abs(sums - sum(everyone) / 2) >= abs(b.sum() - a.sum()) / 2 - 1e-12)
    assert comparison.test(a, b, is_paired=False).p == pytest.approx([share])


def test_a_gain_that_all_users_share_has_an_interval_without_width_in_pairs_alone() -> None:
    a = np.linspace(0, 0.5, 30)[None]
    paired, unpaired = (comparison.test(a, a + 0.25, is_paired=is_paired) for is_paired in (True, False))
    assert (paired.low, paired.high) == (pytest.approx([0.25]), pytest.approx([0.25]))
    assert unpaired.low < 0.25 < unpaired.high


def test_the_interval_of_a_mean_is_about_two_standard_errors_on_each_side() -> None:
    gains = np.random.default_rng(1).normal(0.3, 1, 400)
    found = comparison.test(np.zeros((1, 400)), gains[None], is_paired=True)
    assert [found.low[0], found.high[0]] == pytest.approx([gains.mean() - 0.098, gains.mean() + 0.098], abs=0.01)


def test_figures_are_tested_together_as_each_alone() -> None:
    a, b = np.random.default_rng(2).random((2, 3, 40))
    together = comparison.test(a, b, is_paired=True)
    alone = comparison.test(a[1:2], b[1:2], is_paired=True)
    assert [part[1] for part in together] == pytest.approx([part[0] for part in alone], abs=0.02)


def test_the_smallest_p_is_corrected_most_and_none_falls_below_a_smaller_one() -> None:
    assert comparison.holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert comparison.holm(np.array([[0.5, 0.01], [0.9, 0.01]])) == pytest.approx(np.array([[1, 0.02], [1, 0.02]]))


def test_equal_runs_do_not_differ_at_all() -> None:
    run = ranked(np.arange(40))
    found = compared(run, run)
    assert {(row.difference, row.low, row.high, row.p) for row in found.differences} == {(0, 0, 0, 1)}
    assert comparison_table.verdict(found) == "No difference between HEAD and faster beyond chance."


def test_the_verdict_says_which_run_is_better_or_worse_in_what_and_by_how_much() -> None:
    found = compared(ranked(MISSES), ranked(HITS))
    amount = "by 1.000 (1.000 to 1.000)"
    assert comparison_table.verdict(found) == (
        f"sasrec of faster is better than of HEAD in sampled NDCG@10 {amount} and full NDCG@10 {amount}, beyond chance."
    )
    assert "faster is worse than of HEAD" in comparison_table.verdict(compared(ranked(HITS), ranked(MISSES)))


def test_the_verdict_names_another_metric_where_it_alone_is_beyond_chance() -> None:
    found = compared(ranked(MISSES), ranked(MISSES - 30))  # no rank is among the first ten
    assert comparison_table.verdict(found).startswith(
        "sasrec of faster is better than of HEAD in sampled MRR by 0.028 "
    )


def test_each_range_of_the_breakdowns_is_compared_alone() -> None:
    found = compared(ranked(HITS), ranked(np.where(np.arange(40) % 2, 0, 50)))
    hits = {(row.by, row.group): row for row in found.differences if (row.ranked, row.metric) == ("full", "HR@10")}
    assert {group: (row.users, row.difference) for group, row in hits.items()} == {
        ("all", "all"): (40, -0.5),
        ("history_length", "10-19"): (20, 0),
        ("history_length", "500-999"): (20, -1),
        ("popularity", "2-4"): (40, -0.5),
    }


def test_a_range_with_one_user_is_left_out() -> None:
    run = replace(ranked(HITS), popularity=np.array([7] + [3] * 39))
    assert {row.group for row in compared(run, run).differences if row.by == "popularity"} == {"2-4"}


def test_different_lists_are_compared_unpaired_and_it_says_so() -> None:
    other = replace(ranked(HITS[:30]), task=Task("other lists", "holdout_users", 100, 900))
    found = compared(ranked(MISSES), other)
    assert not found.is_paired
    assert "different lists, of 40 and 30 users" in " ".join(comparison_table.as_text(found).split())
    assert found.differences[0].difference == 1


@pytest.mark.parametrize("change", [{"protocol": "temporal"}, {"num_negatives": 50}, {"num_books": 800}])
def test_rankings_of_another_kind_are_refused(change: dict[str, object]) -> None:
    other = replace(ranked(HITS), task=msgspec.structs.replace(ranked(HITS).task, **change))
    with pytest.raises(UserError, match=r"HEAD and faster are not comparable: .*run one of them with the other's"):
        compared(ranked(HITS), other)


def test_a_ranker_that_a_run_lacks_is_named_with_those_that_it_has() -> None:
    other = replace(ranked(HITS), ranks={"hybrid": Ranks(HITS, HITS)})
    with pytest.raises(UserError, match="faster has no ranker sasrec; choose some of hybrid"):
        compared(ranked(HITS), other)


def test_the_table_fits_on_a_terminal() -> None:
    run = ranked(np.arange(40))
    found = comparison.compare(run, run, ("../" + "long/" * 20, "b" * 40), ["sasrec"], [100])
    lines = comparison_table.as_text(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert "  full NDCG@100" in {line[:15] for line in lines}


def test_every_cutoff_is_compared_and_groups_are_shown_at_the_first() -> None:
    run = ranked(np.arange(40))
    found = comparison.compare(run, run, NAMES, ["sasrec"], [10, 5])
    names = [row.metric for row in found.differences if (row.by, row.ranked) == ("all", "full")]
    assert names == ["HR@10", "NDCG@10", "HR@5", "NDCG@5", "MRR"]
    assert "full NDCG@10 by groups" in comparison_table.as_text(found)


def test_markdown_has_as_many_cells_in_every_row() -> None:
    run = ranked(np.arange(40))
    lines = comparison_table.as_markdown(compared(run, run)).splitlines()
    assert {line.count("|") for line in lines if line.startswith("|")} == {7}
    assert lines[0] == "**No difference between HEAD and faster beyond chance.**"


@pytest.fixture
def here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is a finished project, which is left as it is."""
    monkeypatch.chdir(finished)


def differences(run: Run, *runs: str) -> list[dict[str, object]]:
    return json.loads(run(sys.executable, "stages/compare.py", *runs, "--json").stdout)["differences"]


@pytest.mark.long
def test_the_last_commit_is_compared_with_the_workspace_and_an_experiment_by_its_name(tried: Path) -> None:
    by_default = differences(runner(tried))
    assert any(row["difference"] for row in by_default)
    assert differences(runner(tried), "HEAD", "unpadded") == by_default


def test_another_clone_is_compared_by_its_folder(
    tried: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tried)  # whose workspace differs from HEAD
    compare.main(["HEAD", str(finished), "--json"])
    assert {row["p"] for row in json.loads(capsys.readouterr().out)["differences"]} == {1}


def error_of(*words: str) -> str:
    with pytest.raises(UserError) as refused:
        compare.main(words)
    return str(refused.value)


@pytest.mark.usefixtures("here")
def test_a_run_that_is_nowhere_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    assert error_of("nonsense").startswith("nonsense: unknown Git revision 'nonsense'; name a git")
    assert error_of(str(tmp_path)) == (
        f"{tmp_path}/data/evaluation/ranks.parquet: not found; run `dvc repro` in {tmp_path}, which makes it first"
    )


@pytest.mark.usefixtures("here")
def test_ranks_that_no_cache_holds_are_named_with_what_makes_them() -> None:
    message = error_of("HEAD~1")  # its dvc.lock is that of the repository, of a larger run
    assert message.startswith("HEAD~1: its data/evaluation/ranks.parquet is in neither DVC's cache nor a remote")


def test_damaged_ranks_in_the_cache_are_named_by_their_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    ranks = project / "data/evaluation/ranks.parquet"
    digest = hashlib.md5(ranks.read_bytes()).hexdigest()
    cached = project / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}"
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes()[:-100])
    assert error_of("HEAD").startswith("data/evaluation/ranks.parquet of HEAD: cannot be used: ")


def test_a_revision_older_than_the_ranks_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    without = (project / "dvc.yaml").read_text().replace("      - data/evaluation/ranks.parquet\n", "")
    (project / "dvc.yaml").write_text(without)
    runner(project)("git", "commit", "-qam", "Write no ranks")
    assert "HEAD: its dvc.lock has no data/evaluation/ranks.parquet" in error_of("HEAD")


def test_runs_that_ranked_for_one_user_are_refused() -> None:
    alone = ranked(np.zeros(1, int))
    with pytest.raises(UserError, match=r"HEAD ranked for one user.*raise evaluation.num_user_sample"):
        compared(alone, alone)
