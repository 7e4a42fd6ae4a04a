"""What the benchmark compares with does the same work, and its dump is the same everywhere."""

import contextlib
import gzip
import json
from pathlib import Path
from unittest import mock

import ibis
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, sequences, terminal
from dvc.utils.hydra import apply_overrides

import dump
import peers
import presets
import reference
from sasrec.core import errors, params
from sasrec.evaluation import metrics, model_scorer, ranking
from sasrec.evaluation.intervals import Estimate
from sasrec.interactions import reindex
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import Sasrec, build_model
from sasrec.reporting import metrics_table
from sasrec.split.datasets import HeldOut

SASREC = SasrecParams(6, 8, 2, 2, 0.0, False, 0.5)


def test_the_dump_depends_on_its_scale_alone_and_every_line_is_a_review(tmp_path: Path) -> None:
    dump._catalogue_and_texts()  # processes that are forked need not make them again
    first, second = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    dump.write(first, scale=0.004)
    dump.write(second, scale=0.004)
    assert first.read_bytes() == second.read_bytes()
    dump.write(tmp_path / "shards", scale=0.004, num_shards=2)
    assert b"".join(path.read_bytes() for path in sorted((tmp_path / "shards").iterdir())) == first.read_bytes()
    lines = [json.loads(line) for line in gzip.decompress(first.read_bytes()).splitlines()]
    assert len({line["user_id"] for line in lines}) == 80  # whole chunks of users
    assert 40 < len(lines) / 80 < 110


def test_the_plain_filter_gives_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    columns = {
        "user_id": [f"u{i}" for i in rng.integers(0, 40, size=500)],
        "timestamp": pd.to_datetime("2015-01-01") + pd.to_timedelta(rng.integers(0, 9, size=500), unit="D"),
        "book_id": [f"b{i}" for i in rng.integers(0, 60, size=500)],
    }
    reviews = pd.DataFrame(columns)
    plain = reference.filter_reindex(reviews, min_ratings=10)
    table = ibis.memtable(reviews.assign(position=range(500)))
    ours = reindex.reindex(table, reindex.FilterReindexParams(10, "book_idx")).interactions.to_pandas()
    assert plain[["user_idx", "book_idx"]].to_numpy().tolist() == ours[["user_idx", "book_idx"]].to_numpy().tolist()


def plain_copy(network: Sasrec) -> reference.Sasrec:
    """The reference's model with the weights of ours."""
    plain = reference.Sasrec(SASREC, network.num_books)
    renamed = {"norm": "embedding_norm", "feed_forward.0": "feed_forward.inner", "feed_forward.3": "feed_forward.outer"}
    weights = network.state_dict()
    copied = {}
    for name in plain.state_dict():
        if name.startswith("blocks") and any(part in name for part in ("query", "key", "value")):
            packed = weights[name.rsplit(".", 2)[0] + ".query_key_value.weight"]
            copied[name] = packed.chunk(3)[("query", "key", "value").index(name.split(".")[-2])]
            continue
        ours = name.replace("norm.", "embedding_norm.", 1) if name.startswith("norm.") else name
        for plain_name, our_name in list(renamed.items())[1:]:
            ours = ours.replace(plain_name, our_name)
        copied[name] = weights[ours]
    plain.load_state_dict(copied)
    return plain


def test_the_plain_model_gives_the_same_features() -> None:
    network = build_model(SASREC, 20, torch.Generator().manual_seed(0))
    history = torch.tensor([[0, 0, 4, 9, 9, 2], [1, 2, 3, 4, 5, 6]])
    is_book = history != 0
    positions = torch.arange(6).expand_as(history)
    features = network.encode(network.item_embedding(history), positions, is_book.int())
    torch.testing.assert_close(plain_copy(network).eval()(history)[is_book], features[is_book])


def test_the_plain_evaluation_finds_the_same_share() -> None:
    rng = np.random.default_rng(0)
    network = build_model(SASREC, 400, torch.Generator().manual_seed(0))
    histories = [rng.integers(1, 401, size=6) for _ in range(300)]
    true_books = rng.integers(1, 401, size=300)
    hits, _ = reference.evaluate(plain_copy(network), histories, true_books, 6, rng)
    negatives = np.array(
        [rng.choice(np.setdiff1d(np.arange(1, 401), books), 100, replace=False) for books in histories]
    )
    held_out = HeldOut(np.arange(300), sequences(*histories), true_books, negatives)
    ranks = ranking.rank(held_out, model_scorer.by_model(network))
    assert abs(hits - metrics.summary(ranks.sampled, 10)["HR@10"]) < 0.06  # both 0.1 but for the negatives drawn


def test_presets_take_a_dump_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = mock.Mock(side_effect=InterruptedError)
    monkeypatch.setattr(presets, "run", run)
    monkeypatch.setattr("sys.argv", ["presets.py", str(tmp_path / "a, b=[ü].json.gz")])
    with pytest.raises(InterruptedError):
        presets.main()
    _name, [source, file, *_changes] = run.call_args.args
    (tmp_path / "params.yaml").write_text("fetch: {source: demo, file: null}")
    apply_overrides(str(tmp_path / "params.yaml"), [source, file])
    assert f"{tmp_path}/a, b=[ü].json.gz" == params.read(tmp_path / "params.yaml")["fetch"]["file"]


def test_the_table_of_presets_is_printed_on_an_ascii_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = Estimate(0.5, 0.4, 0.6)
    by_list = {ranked: {"HR@10": half, "NDCG@10": half} for ranked in ("sampled", "full")}
    metrics, intervals = metrics_table.to_files(dict.fromkeys(presets.SCORERS, by_list))
    found = {
        "steps": 1,
        "kept_epoch": 1,
        "hybrid_weights": {"transitions": 0.5, "autoencoder": 4.0},
        "kept_validation": {},
    }
    found |= {**metrics, "intervals": intervals}
    monkeypatch.setattr(presets, "run", lambda *_: found)
    words = ["dump.json.gz", "--only", "best", "--output", str(tmp_path / "x.json")]
    monkeypatch.setattr("sys.argv", ["presets.py", *words])
    with terminal("ascii") as (shown, _said):
        errors.run(presets.main)
    assert shown.buffer.getvalue().count(rb"\xb1") == 20


def made_up(folder: Path) -> Path:
    """Histories of 150 users, 8 of 40 items each on average."""
    return peers.make_up(peers.Sizes(users=150, items=40, mean=8, least=5), folder / "histories.npz")


def test_the_made_up_histories_hold_every_item_and_are_of_the_size_asked(tmp_path: Path) -> None:
    with np.load(made_up(tmp_path)) as histories:
        lengths = np.diff(histories["offsets"])
        assert set(histories["items"].tolist()) == set(range(1, 41))
        assert len(lengths) == 150 and lengths.min() == 5 and 7 < lengths.mean() < 9


def test_a_peer_fits_and_ranks_in_a_process_of_its_own(tmp_path: Path) -> None:
    measured = peers.measure(peers.FAST, "whole", made_up(tmp_path), num_epochs=1)
    assert measured["whole_seconds"] == measured["fit_seconds"] + measured["rank_seconds"]
    assert 0 < measured["rank_cpu_seconds"] < measured["fit_cpu_seconds"]


@pytest.mark.long
def test_a_turn_fills_the_table_of_peers(tmp_path: Path) -> None:
    path = made_up(tmp_path)
    turn = peers.measure_turn([peers.FAST, peers.PORTABLE], {"long": path, "short": path}, num_epochs=1)
    table = peers.as_markdown(peers.summarise([peers.FAST, peers.PORTABLE], [turn]))
    assert [line.count("x") for line in table.splitlines()[2:]] == [7, 7]


def test_a_peer_is_compared_with_the_first_of_its_own_turn() -> None:
    columns = {column.key: 1.0 for column in peers.COLUMNS} | {"peak_mb": 1.0}
    turns = [
        {
            (title, column.work, column.histories): columns | {"rank_cpu_seconds": seconds}
            for column in peers.COLUMNS
            for title, seconds in (("this project, fast", ours), ("RecBole", theirs))
        }
        for ours, theirs in ((1.0, 2.0), (2.0, 6.0), (1.0, 5.0))
    ]
    row = peers.summarise([peers.FAST, peers.PEERS[-1]], turns)[1]
    ratios = row["columns"]["rank, short histories"]["times_first"]
    assert ratios == {"median": 3, "min": 2, "max": 5}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([[2, 3], [1, 4]], None),
        ([[2, 1], [1, 4]], "in the user's history"),
        ([[2, 2], [1, 4]], "recommended twice"),
        ([[2, 3]], "not 2 items for each of 2 users"),
        ([[0, 2], [1, 4]], "not 2 items for each of 2 users"),
    ],
)
def test_what_a_peer_recommends_is_checked(
    monkeypatch: pytest.MonkeyPatch, found: list[list[int]], reason: str | None
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks/peers")
    import work

    monkeypatch.setattr(work, "K", 2)
    histories = work.Histories(items=np.array([1, 2, 3]), offsets=np.array([0, 1, 3]), num_items=4)
    with contextlib.nullcontext() if reason is None else pytest.raises(SystemExit, match=reason):
        work.require_unseen(np.array(found), histories)


def test_the_page_shows_the_measured_table_of_peers() -> None:
    rows = json.loads(peers.RESULT.read_text())["rows"]
    assert peers.as_markdown(rows) in (ROOT / "docs/performance.md").read_text()
