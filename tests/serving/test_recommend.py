"""What is recommended is what evaluate ranks first, under the dump's own ids."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import model_of, sequences

from sasrec.commands import main, recommend, similar
from sasrec.core import errors
from sasrec.core.errors import UserError
from sasrec.evaluation import hybrid, model_scorer, ranking
from sasrec.io import parquet
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import HybridWeights, build_model
from sasrec.serving import listing
from sasrec.serving.recommender import Recommender
from sasrec.serving.vocabulary import Vocabulary
from sasrec.split import datasets

PARAMS = SasrecParams(4, 8, 2, 2, 0.5, False, 0.5)
NUM_BOOKS = 12
IDS = [str(10 * book) for book in range(1, NUM_BOOKS + 1)]


def build(**changes: object) -> Recommender:
    network = build_model(PARAMS, NUM_BOOKS, torch.Generator().manual_seed(0))
    return Recommender(model_of(network, **changes))


@pytest.fixture
def small() -> Recommender:
    return build()


def scores_after(recommender: Recommender, padded: list[int]) -> dict[int, float]:
    """Each book's score by the network's ordinary forward pass."""
    network = recommender.model.network
    scores = network(torch.tensor([padded]), torch.arange(PARAMS.max_len)[None])[0] @ network.item_embedding.weight.T
    return {book: scores[book].item() for book in range(1, NUM_BOOKS + 1)}


def test_the_best_unread_books_come_first(small: Recommender) -> None:
    expected = scores_after(small, [0, 3, 1, 4])
    unread = sorted(set(expected) - {3, 1, 4}, key=expected.get, reverse=True)
    found = small.recommend_indices([[5], [3, 1, 4], [2, 2]], k=5)
    assert found.books[1].tolist() == unread[:5]
    assert found.scores[1].tolist() == pytest.approx([expected[book] for book in unread[:5]], abs=1e-5)


def test_ids_go_in_and_the_ids_of_the_same_books_come_out_with_scores_and_ratings(small: Recommender) -> None:
    expected = small.recommend_indices([[3, 1, 4], [5]], k=5)
    for answer, books, scores in zip(small.recommend([["30", "10", "40"], ["50"]], k=5), *expected, strict=True):
        assert [book.book_id for book in answer.books] == [IDS[index - 1] for index in books]
        assert [book.score for book in answer.books] == pytest.approx(scores.tolist(), abs=1e-6)
        assert [book.ratings for book in answer.books] == [NUM_BOOKS - index for index in books]
        assert (answer.unknown, answer.ranked_by) == ([], "network")


def test_spaces_around_an_id_are_no_part_of_it(small: Recommender) -> None:
    assert small.recommend([[" 30", "10\n"]]) == small.recommend([["30", "10"]])


@pytest.mark.parametrize(
    ("histories", "meant"),
    [
        ([[30]], r"30 is no id: ids are text.*recommend_indices takes numbers"),
        ([[3.7]], r"3.7 is no id"),
        ([[None]], r"None is no id"),
        (["30"], r"histories are lists of ids, one list a user"),
        ("30", r"histories are lists of ids, one list a user"),
    ],
)
def test_what_is_no_id_is_refused_with_what_was_meant(small: Recommender, histories: object, meant: str) -> None:
    with pytest.raises(TypeError, match=meant):
        small.recommend(histories)


@pytest.mark.parametrize("book", ["3", 3.7, True])
def test_what_is_no_index_is_refused(small: Recommender, book: object) -> None:
    with pytest.raises(TypeError, match="is no book_idx"):
        small.recommend_indices([[book]], k=1)


def test_unknown_ids_are_returned_by_name_and_the_others_used(small: Recommender) -> None:
    (answer,) = small.recommend([["nowhere", "30", "nothing"]], k=3)
    assert answer.unknown == ["nowhere", "nothing"]
    assert answer.books == small.recommend([["30"]], k=3)[0].books


def test_after_a_history_without_a_known_book_recent_popularity_ranks_and_the_answer_says_so(
    small: Recommender,
) -> None:
    for answer in small.recommend([[], ["nowhere"]], k=3):
        assert [book.book_id for book in answer.books] == ["120", "110", "100"]
        assert answer.ranked_by == "recent popularity"


def test_books_that_are_excluded_or_have_too_few_ratings_are_not_recommended(small: Recommender) -> None:
    (answer,) = small.recommend([["30"]], k=NUM_BOOKS, exclude=["10", "nowhere", "50 "], min_ratings=4)
    assert {book.book_id for book in answer.books} == {"20", "40", "60", "70", "80"}


def test_the_books_nearest_by_embedding_have_the_largest_cosines(small: Recommender) -> None:
    with torch.no_grad():
        small.model.network.item_embedding.weight[4] = 2 * small.model.network.item_embedding.weight[7]
    (nearest, *_others) = small.similar("40", k=3).by_embedding
    assert (nearest.book_id, nearest.score) == ("70", 1.0)


def test_the_books_nearest_by_transitions_are_read_soon_after(small: Recommender) -> None:
    found = small.similar("10", k=3).by_transitions
    assert [(book.book_id, book.score) for book in found] == [("30", 1.5), ("20", 1.0)]


def test_a_book_that_the_model_does_not_know_has_no_similar_ones(small: Recommender) -> None:
    with pytest.raises(UserError, match="book nowhere: is not among the 12 books of the model"):
        small.similar("nowhere")


def test_books_already_read_are_recommended_where_that_is_asked_for(small: Recommender) -> None:
    expected = scores_after(small, [3, 1, 4, 1])
    found = small.recommend_indices([[9, 9, 3, 1, 4, 1]], k=NUM_BOOKS, exclude_seen=False)
    assert found.books[0].tolist() == sorted(expected, key=expected.get, reverse=True)


def test_a_user_of_nearly_everything_gets_fewer_books(small: Recommender) -> None:
    found = small.recommend_indices([range(1, NUM_BOOKS - 1), range(1, NUM_BOOKS + 1)], k=3)
    assert sorted(found.books[0].tolist()) == [0, 11, 12]
    assert found.books[0, 2] == 0
    assert found.books[1].tolist() == [0, 0, 0]
    assert [len(answer.books) for answer in small.recommend([IDS[:10], IDS], k=3)] == [2, 0]


def test_flat_histories_are_taken_as_lists_are(small: Recommender) -> None:
    lists = [[1, 2], [3], [4, 5, 6, 7, 8]]
    found = small.recommend_indices(sequences(*lists), k=4)
    assert np.array_equal(found.books, small.recommend_indices(lists, k=4).books)


@pytest.mark.parametrize(("history", "k"), [([0], 3), ([NUM_BOOKS + 1], 3), ([1], 0), ([1], NUM_BOOKS + 1)])
def test_what_the_model_does_not_know_is_refused(small: Recommender, history: list[int], k: int) -> None:
    with pytest.raises(ValueError, match=r"not in 1\.\.12"):
        small.recommend_indices([history], k)


def test_a_score_that_is_not_finite_is_refused(small: Recommender) -> None:
    with torch.no_grad():
        small.model.network.item_embedding.weight[3] = torch.nan
    with pytest.raises(UserError, match="a score is not finite"):
        small.recommend_indices([[5]], k=2)


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_true_book_is_recommended_exactly_where_evaluate_ranks_it_among_the_first_k(
    finished: Path, padding: bool, weight: float
) -> None:
    train = datasets.load_training_set(finished / "data/split/train.safetensors")
    held_out = datasets.load_held_out(finished / "data/split/evaluation.safetensors", train)
    model = Recommender.load(finished / "models").model
    recommender = Recommender(replace(model, padding=padding, hybrid=HybridWeights(weight, weight)))
    by_model = model_scorer.by_model(model.network, padding=padding)
    scorer = hybrid.by_all(by_model, model.network, train.transitions, HybridWeights(weight, weight))
    ranks = ranking.rank(held_out, scorer).full
    found = recommender.recommend_indices(held_out.histories, k=20, exclude_seen=True).books
    ends = held_out.histories.offsets
    for user, true_book in enumerate(held_out.true_books.tolist()):
        if true_book not in held_out.histories.items[ends[user] : ends[user + 1]]:
            assert (true_book in found[user]) == (ranks[user] < 20)
    assert 0 < (ranks < 20).mean() < 1


@pytest.mark.parametrize(
    ("weights", "ranker", "description"),
    [
        (HybridWeights(), "network", "the network alone"),
        (HybridWeights(transitions=0.25), "hybrid", "the network and, with weight 0.25, the item transitions"),
        (HybridWeights(autoencoder=4), "hybrid", "the network and, with weight 4, the linear autoencoder"),
        (
            HybridWeights(0.5, 2),
            "hybrid",
            "weight 0.5, the item transitions and, with weight 2, the linear autoencoder",
        ),
    ],
)
def test_it_ranks_as_was_best_on_the_validation_users(weights: HybridWeights, ranker: str, description: str) -> None:
    recommender = build(hybrid=weights)
    assert recommender.description.endswith(description)
    assert recommender.recommend([["30"]])[0].ranked_by == ranker


def column(path: Path, name: str) -> list[str]:
    return pq.ParquetFile(path).read(columns=[name])[name].to_pylist()


@pytest.fixture
def here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished pipeline to run in, which is left as it is."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))
    return finished


def answer(*words: object) -> None:
    recommend.main(list(map(str, words)))


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


def test_someone_new_is_recommended_what_is_popular_of_late(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer("--history", "nowhere", "-k", 3)
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "ranked by recent popularity: the model knows no book of the history"
    assert len(shown.out.splitlines()) == 4


def test_what_a_file_lists_is_not_recommended(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = column(recommend.BOOKS, "book_id")[0]
    answer("--history", history, "-k", 3, "--format", "json")
    first, second, third = (row["book_id"] for row in json.loads(capsys.readouterr().out))
    (tmp_path / "listed").write_text(f"{first}\n {third} \n\n")
    for excluded in (f"{first},{third}", tmp_path / "listed"):
        answer("--history", history, "-k", 1, "--format", "json", "--exclude", excluded)
        assert [row["book_id"] for row in json.loads(capsys.readouterr().out)] == [second]


def test_a_file_holds_a_history_whose_ids_have_commas(tmp_path: Path) -> None:
    (tmp_path / "read").write_text("War, and Peace\nUlysses\n")
    assert recommend.parse(["--history", str(tmp_path / "read")]).history == ["War, and Peace", "Ulysses"]


def test_similar_books_are_listed_in_both_senses(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    similar.main([column(recommend.BOOKS, "book_id")[0], "-k", "2", "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert [[row["rank"] for row in found[sense]] for sense in ("by_embedding", "by_transitions")] == [[1, 2], [1, 2]]


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
        (["--history", "1", "-k", "0"], "-k is 0; choose one of 1 to "),
    ],
)
def test_ids_and_sizes_that_cannot_be_used_are_named(here: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        answer(*words)


def test_fewer_ratings_than_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        answer("--history", "1", "--min-ratings", "-5")
    assert "argument --min-ratings: -5 is no whole number from 0" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_user_that_the_filter_dropped_is_told_so_in_one_line() -> None:
    counts = Counter(column(recommend.REVIEWS, "user_id"))
    dropped = next(user for user, number in counts.items() if number == 4)
    with pytest.raises(SystemExit) as ended:
        errors.run(lambda: answer("--user", dropped))
    said = str(ended.value.code)
    assert said.startswith(
        f"error: --user {dropped}: 4 of its reviews are in the dump, but the filter dropped the user"
    )
    assert "\n" not in said


def reverse(table: pa.Table) -> pa.Table:
    return table.take(np.arange(len(table))[::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(0, 50), "has other books than the model; run `dvc repro`"),
        (reverse, "cannot be used: its book_idx do not count up from 1"),
    ],
)
def test_books_of_another_run_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))
    table = pq.ParquetFile(recommend.BOOKS).read()
    parquet.write(recommend.BOOKS, change(table).replace_schema_metadata(None).to_reader())
    with pytest.raises(UserError, match=rf"{recommend.BOOKS}: {message}"):
        answer("--all", "all.parquet")


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
    monkeypatch.setattr(Recommender, "recommend_indices", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        answer("--all", path)
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
        ["--all", "x.txt"],
        ["--user", "u", "--exclude-seen", "--include-seen"],
    ],
)
def test_arguments_that_contradict_each_other_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recommend.parse(words)
    assert capsys.readouterr().err.startswith("usage: sasrec recommend")


def test_all_says_what_it_wrote_and_writes_the_same_rows_as_csv(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("all.csv", "all.parquet"):
        answer("--all", tmp_path / name, "-k", 2)
        users = len(column(recommend.USERS, "user_id"))
        assert f"all{Path(name).suffix}: {2 * users:,} rows for {users:,} users, in " in capsys.readouterr().err
    rows = pq.ParquetFile(tmp_path / "all.parquet").read().to_pylist()
    with (tmp_path / "all.csv").open() as file:
        assert [(row["user_id"], row["book_id"]) for row in csv.DictReader(file)] == [
            (row["user_id"], row["book_id"]) for row in rows
        ]


def test_a_command_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "import_module", mock.Mock(side_effect=ModuleNotFoundError(name="onnx.helper")))
    with pytest.raises(
        UserError, match=r"`sasrec export` needs onnx.helper.*pip install -c constraints.txt '.\[export\]'"
    ):
        main.run(["export"])


@pytest.mark.parametrize("command", ["recommend", "similar", "export", "compare"])
def test_help_only_helps(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"), mock.patch.dict("os.environ"):
        main.run([command, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: sasrec {command}")


def test_ids_that_together_are_too_long_for_a_name_are_excluded() -> None:
    ids = [f"{number:08}" for number in range(1000)]
    assert recommend.parse(["--history", "b", "--exclude", ",".join(ids)]).exclude == ids


def test_a_byte_order_mark_is_no_part_of_the_first_id_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "listed").write_bytes(b"\xef\xbb\xbf17\n4\n")
    assert recommend.parse(["--history", "b", "--exclude", str(tmp_path / "listed")]).exclude == ["17", "4"]


def test_a_user_without_a_name_is_unknown(here: Path) -> None:
    with pytest.raises(UserError, match=r"^--user : not in the dump"):
        answer("--user", "")


def test_spaces_that_an_id_has_in_the_dump_are_part_of_it(small: Recommender) -> None:
    ids = pa.array([" 10 ", *IDS[1:]])
    spaced = Recommender(replace(small.model, books=Vocabulary(ids, first=1)))
    assert spaced.recommend([[" 10 ", "20"]]) == small.recommend([["10", "20"]])
    assert recommend.parse(["--history", " 10 ,20"]).history == [" 10 ", "20"]
