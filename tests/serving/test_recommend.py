"""What is recommended is what evaluate ranks first, under the dump's own ids."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, sequences

from sasrec.core.errors import UserError
from sasrec.evaluation import hybrid, model_scorer, ranking
from sasrec.io import parquet
from sasrec.model.sasrec import SasrecParams, build_model, load_config, save_config
from sasrec.serving import arguments, listing
from sasrec.serving.recommender import Counted, Recommender
from sasrec.split import datasets

with mock.patch.dict(os.environ):  # it sets variables for torch when it is imported
    import recommend

PARAMS = SasrecParams(4, 8, 2, 2, 0.5, False, 0.5)
NUM_BOOKS = 12


@pytest.fixture
def small() -> Recommender:
    return Recommender(build_model(PARAMS, NUM_BOOKS, torch.Generator().manual_seed(0)))


def scores_after(recommender: Recommender, padded: list[int]) -> dict[int, float]:
    """Each book's score by the model's ordinary forward pass."""
    network = recommender.model
    scores = network(torch.tensor([padded]), torch.arange(PARAMS.max_len)[None])[0] @ network.item_embedding.weight.T
    return {book: scores[book].item() for book in range(1, NUM_BOOKS + 1)}


def test_the_best_unread_books_come_first(small: Recommender) -> None:
    expected = scores_after(small, [0, 3, 1, 4])
    unread = sorted(set(expected) - {3, 1, 4}, key=expected.get, reverse=True)
    found = small.recommend([[5], [3, 1, 4], [2, 2]], k=5)
    assert found.books[1].tolist() == unread[:5]
    assert found.scores[1].tolist() == pytest.approx([expected[book] for book in unread[:5]], abs=1e-5)


def test_books_already_read_are_recommended_where_that_is_asked_for(small: Recommender) -> None:
    expected = scores_after(small, [3, 1, 4, 1])
    found = small.recommend([[9, 9, 3, 1, 4, 1]], k=NUM_BOOKS, exclude_seen=False)
    assert found.books[0].tolist() == sorted(expected, key=expected.get, reverse=True)


def test_a_user_of_nearly_everything_gets_fewer_books(small: Recommender) -> None:
    found = small.recommend([range(1, NUM_BOOKS - 1), range(1, NUM_BOOKS + 1)], k=3)
    assert sorted(found.books[0].tolist()) == [0, 11, 12]
    assert found.books[0, 2] == 0
    assert found.books[1].tolist() == [0, 0, 0]


def test_someone_who_read_nothing_gets_recommendations(small: Recommender) -> None:
    assert (small.recommend([[]], k=3).books > 0).all()


def test_flat_histories_are_taken_as_lists_are(small: Recommender) -> None:
    lists = [[1, 2], [3], [4, 5, 6, 7, 8]]
    assert np.array_equal(small.recommend(sequences(*lists), k=4).books, small.recommend(lists, k=4).books)


@pytest.mark.parametrize(("history", "k"), [([0], 3), ([NUM_BOOKS + 1], 3), ([1], 0), ([1], NUM_BOOKS + 1)])
def test_what_the_model_does_not_know_is_refused(small: Recommender, history: list[int], k: int) -> None:
    with pytest.raises(ValueError, match=r"not in 1\.\.12"):
        small.recommend([history], k)


def test_a_score_that_is_not_finite_is_refused(small: Recommender) -> None:
    with torch.no_grad():
        small.model.item_embedding.weight[3] = torch.nan
    with pytest.raises(UserError, match="a score is not finite"):
        small.recommend([[5]], k=2)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sasrec.safetensors: not found; run `dvc repro`"):
        Recommender.load(tmp_path)


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_true_book_is_recommended_exactly_where_evaluate_ranks_it_among_the_first_k(
    finished: Path, padding: bool, weight: float
) -> None:
    train = datasets.load_training_set(finished / "data/split/train.safetensors")
    held_out = datasets.load_held_out(finished / "data/split/evaluation.safetensors", train)
    model = Recommender.load(finished / "models").model
    recommender = Recommender(model, padding, Counted(train.transitions, weight) if weight else None)
    scorer = hybrid.by_both(model_scorer.by_model(model, padding=padding), train.transitions, weight)
    ranks = ranking.rank(held_out, scorer).full
    found = recommender.recommend(held_out.histories, k=20, exclude_seen=True).books
    ends = held_out.histories.offsets
    for user, true_book in enumerate(held_out.true_books.tolist()):
        if true_book not in held_out.histories.items[ends[user] : ends[user + 1]]:
            assert (true_book in found[user]) == (ranks[user] < 20)
    assert 0 < (ranks < 20).mean() < 1


def test_with_the_training_set_it_ranks_as_was_best_on_the_validation_users(finished: Path, tmp_path: Path) -> None:
    train = finished / "data/split/train.safetensors"
    config = load_config(finished / "models/sasrec.json")
    shutil.copytree(finished / "models", tmp_path / "models")
    for weight, description in ((0.25, "with weight 0.25, the item transitions"), (0.0, "the network alone")):
        save_config(tmp_path / "models/sasrec.json", msgspec.structs.replace(config, hybrid_weight=weight))
        assert Recommender.load(tmp_path / "models", train=train).description.endswith(description)
        assert Recommender.load(tmp_path / "models").description == "the network alone"


def column(path: Path, name: str) -> list[str]:
    return pq.ParquetFile(path).read(columns=[name])[name].to_pylist()


@pytest.fixture
def here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished pipeline to run in, which is left as it is."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))
    return finished


def answer(*words: object) -> None:
    recommend.answer(arguments.parse(list(map(str, words))))


def test_a_user_and_the_user_s_history_give_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = column(recommend.USERS, "user_id")[7]
    interactions = pq.ParquetFile(recommend.INTERACTIONS).read()
    read = [b for u, b in zip(*(interactions[n].to_pylist() for n in ("user_idx", "book_idx")), strict=True) if u == 7]
    ids = column(recommend.BOOKS, "book_id")
    answer("--user", user, "--format", "json")
    of_user = json.loads(capsys.readouterr().out)
    answer("--history", ",".join(ids[book - 1] for book in read), "--format", "json")
    assert json.loads(capsys.readouterr().out) == of_user
    assert [row["rank"] for row in of_user] == list(range(1, 11))
    assert not {row["book_id"] for row in of_user} & {ids[book - 1] for book in read}


def test_titles_are_shown_beside_the_ids(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    titles = tmp_path / "titles.csv"
    ids = column(recommend.BOOKS, "book_id")
    titles.write_text("book_id,title\n" + "".join(f'{each},"Volume {each}, bound"\n' for each in ids))
    answer("--history", ids[0], "-k", 2, "--titles", titles)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "book_id", "score", "title"]
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert all(line.endswith(f"Volume {line.split()[1]}, bound") for line in lines)


def test_books_that_are_unknown_are_named_and_the_others_used(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = column(recommend.BOOKS, "book_id")[0]
    answer("--history", f"{known},nowhere")
    shown = capsys.readouterr()
    first, second = shown.err.splitlines()
    assert first == "--history: book nowhere is left out: not in the dump"
    assert second.startswith("ranked by the network and, with weight ")
    assert len(shown.out.splitlines()) == 11


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "nobody"], "--user nobody: not in the dump"),
        (["--history", "nowhere,nothing"], "none of its books is known"),
        (["--history", ""], "none of its books is known"),
        (["--history", "1", "-k", "0"], "-k is 0; choose one of 1 to "),
    ],
)
def test_ids_and_sizes_that_cannot_be_used_are_named(here: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        answer(*words)


def test_a_user_that_the_filter_dropped_is_told_so_in_one_line(finished: Path) -> None:
    counts = Counter(column(finished / recommend.REVIEWS, "user_id"))
    dropped = next(user for user, number in counts.items() if number == 4)
    command = [sys.executable, str(ROOT / "stages/recommend.py"), "--user", dropped]
    done = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: --user {dropped}: 4 of its reviews are in the dump, but the filter dropped")
    assert done.stderr.count("\n") == 1


def reverse(table: pa.Table) -> pa.Table:
    return table.take(np.arange(len(table))[::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(0, 50), "it has 50 books, the model"),
        (reverse, "its book_idx do not count up from 1"),
    ],
)
def test_books_of_another_run_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))
    table = pq.ParquetFile(recommend.BOOKS).read()
    parquet.write(recommend.BOOKS, change(table).replace_schema_metadata(None).to_reader())
    with pytest.raises(UserError, match=rf"{recommend.BOOKS}: cannot be used: {message}"):
        answer("--history", "1")


def test_every_user_is_written_as_each_alone_is_answered(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recommend, "ROWS_PER_PART", 90)  # so that parts meet between users
    answer("--all", tmp_path / "all.parquet", "-k", 3)
    table = pq.ParquetFile(tmp_path / "all.parquet").read()
    users = column(recommend.USERS, "user_id")
    assert table.schema.equals(listing.OUTPUT)
    assert table["user_id"].to_pylist() == [user for user in users for _ in range(3)]
    for number in (0, 31, len(users) - 1):
        answer("--user", users[number], "-k", 3, "--format", "json")
        alone = json.loads(capsys.readouterr().out)
        rows = table.slice(3 * number, 3).to_pylist()
        assert [(row["rank"], row["book_id"]) for row in rows] == [(row["rank"], row["book_id"]) for row in alone]
        assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in alone], abs=1e-5)


def test_an_interrupted_run_leaves_the_earlier_file(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.parquet"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(Recommender, "recommend", mock.Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(sys, "argv", ["recommend.py", "--all", str(path)])
    with pytest.raises(KeyboardInterrupt):
        recommend.main()
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_place_of_the_output_is_refused_and_stays(here: Path, tmp_path: Path) -> None:
    path = tmp_path / "precious.parquet" / "file"
    path.parent.mkdir()
    path.write_text("precious")
    for place in (path.parent, tmp_path / "missing" / "out.parquet"):
        with pytest.raises(UserError, match=r"is no regular file|there is no folder"):
            answer("--all", place)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path.parent]


def test_the_file_that_a_link_leads_to_is_written(here: Path, tmp_path: Path) -> None:
    (tmp_path / "link.parquet").symlink_to("elsewhere.parquet")
    answer("--all", tmp_path / "link.parquet", "-k", 1)
    assert (tmp_path / "link.parquet").is_symlink()
    assert pq.read_metadata(tmp_path / "elsewhere.parquet").num_rows > 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--user", "u", "--history", "b"],
        ["--all", "x.parquet", "--titles", "t"],
        ["--all", "x.csv"],  # it would hold Parquet
        ["--user", "u", "--exclude-seen", "--include-seen"],
    ],
)
def test_arguments_that_contradict_each_other_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parse(words)
    assert capsys.readouterr().err.startswith("usage: recommend.py")
