"""The JSON interface answers as the recommender does, explains itself, and refuses what it cannot use in a sentence."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import ROOT, sequences
from fastapi.testclient import TestClient

from sasrec.commands import serve
from sasrec.core.errors import UserError
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import HybridWeights, build_model
from sasrec.serving import explain
from sasrec.serving.model_folder import Model
from sasrec.serving.recommender import Recommender
from sasrec.serving.vocabulary import Vocabulary
from sasrec.serving.web import app, guard, search
from sasrec.serving.web.batches import Batches
from sasrec.serving.web.messages import Question
from sasrec.split import transitions

NUM_BOOKS = 12
READ = [[1, 2], [1, 3, 2], [4, 5], [4, 6]]  # by the training users; a book's id is b and its index
TITLES = {"b1": "Émile", "b2": "The Trial", "b3": "The Castle <b>", "b4": "STRASSE", "b12": "Trial by fire"}


def recommender(**params: object) -> Recommender:
    sizes = msgspec.structs.replace(SasrecParams(4, 8, 2, 2, 0.5, False, 0.5), **params)
    network = build_model(sizes, NUM_BOOKS, torch.Generator().manual_seed(0))
    ids = pa.array([f"b{book}" for book in range(1, NUM_BOOKS + 1)])
    ratings = np.arange(NUM_BOOKS + 1)
    counted = transitions.count(sequences(*READ), NUM_BOOKS)
    model = Model(network, HybridWeights(0.5), True, Vocabulary(ids, first=1), ratings, ratings, counted, version="abc")
    return Recommender(model, TITLES)


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(app.create(recommender(), app.Run(card="# Card"), serve.LOOPBACK), "http://127.0.0.1:8000")


def test_a_history_gets_what_the_recommender_recommends(client: TestClient) -> None:
    found = client.post("/recommend", json={"history": ["b3", "b1"], "k": 5}).json()
    (expected,) = recommender().recommend([["b3", "b1"]], 5)
    assert [(each["book_id"], each["rank"]) for each in found["books"]] == [(b.book_id, b.rank) for b in expected.books]
    assert [each["score"] for each in found["books"]] == pytest.approx([b.score for b in expected.books], abs=1e-5)
    assert found["ranked_by"] == "hybrid"


def test_unknown_books_are_named_and_the_others_used(client: TestClient) -> None:
    found = client.post("/recommend", json={"history": ["nowhere", "b1", "b\0"]}).json()
    assert found["unknown"] == ["nowhere", "b\0"]
    assert found["books"] == client.post("/recommend", json={"history": ["b1"]}).json()["books"]


def test_without_a_known_book_recent_popularity_ranks(client: TestClient) -> None:
    found = client.post("/recommend", json={"history": ["nowhere"], "k": 3}).json()
    assert [book["book_id"] for book in found["books"]] == ["b12", "b11", "b10"]
    assert found["ranked_by"] == "recent popularity"


def test_read_excluded_and_rarely_rated_books_are_left_out(client: TestClient) -> None:
    question = {"history": ["b12"], "k": 100, "exclude": ["b11"], "min_ratings": 8}
    found = {book["book_id"] for book in client.post("/recommend", json=question).json()["books"]}
    assert found == {"b8", "b9", "b10"}
    again = client.post("/recommend", json=question | {"exclude_seen": False}).json()["books"]
    assert {book["book_id"] for book in again} == {"b8", "b9", "b10", "b12"}


def test_why_names_the_latest_books_that_training_users_read_it_after(client: TestClient) -> None:
    books = client.post("/recommend", json={"history": ["b1", "b3", "b4"], "k": 100}).json()["books"]
    why = {book["book_id"]: [(each["book_id"], each["weight"]) for each in book["why"]] for book in books}
    # 4 was followed by 5 and 6; two books further back, 1 was by 2 and, after another book, by 2; between them 3 was.
    assert why["b5"] == [("b4", 1.0)]
    assert why["b2"] == [("b1", pytest.approx(0.8**2 * (1 + 1 / 2))), ("b3", pytest.approx(0.8))]
    assert why["b7"] == []


def test_contributions_add_up_to_the_score_of_the_transitions() -> None:
    counted = transitions.count(sequences(*READ), NUM_BOOKS)
    books = np.arange(1, NUM_BOOKS + 1)
    for history in ([1], [4, 1], [1, 2, 3, 4, 5, 6, 1, 1]):
        added = explain.contributions(counted, np.array(history), books)
        assert added.sum(0) == pytest.approx(counted.score(np.array(history))[books])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_the_softmax_of_query_and_key_products_in_the_last_block(norm_first: bool, heads: int) -> None:
    network = recommender(norm_first=norm_first, num_heads=heads).model.network
    with torch.inference_mode():
        x = network.embedding_norm(network.item_embedding.weight[[3, 1, 4]] + network.position_embedding.weight[1:])
        mask = torch.full((1, 3, 3), -1e9).triu(1)
        x = network.blocks[0](x[None], mask, None)[0]
        last = network.blocks[1]
        x = last.attention_norm(x) if norm_first else x
        query, key = (last.attention.query_key_value.weight[part : part + 8] @ x.T for part in (0, 8))  # (8, 3)
        width = 8 // heads
        of_heads = [
            torch.softmax(key[head : head + width].T @ query[head : head + width, 2] / width**0.5, 0)
            for head in range(0, 8, width)
        ]
    found = explain.attention(network, np.array([7, 7, 3, 1, 4], dtype=np.int32)[2:], padding=True)
    assert found == pytest.approx(torch.stack(of_heads).mean(0).numpy(), abs=1e-6)


def test_attention_is_to_the_books_that_the_network_sees(client: TestClient) -> None:
    read = ["b1", "b2", "nowhere", "b3", "b4", "b5"]
    found = client.post("/attention", json={"history": read}).json()["books"]
    assert [book["book_id"] for book in found] == ["b2", "b3", "b4", "b5"]  # max_len is 4
    assert sum(book["weight"] for book in found) == pytest.approx(1, abs=1e-5)


def test_without_a_book_or_a_block_there_is_no_attention(client: TestClient) -> None:
    assert client.post("/attention", json={"history": []}).json() == {"books": []}
    network = recommender(num_layers=0).model.network
    assert explain.attention(network, np.array([1], dtype=np.int32), padding=True).tolist() == []


def test_similar_books_are_the_recommender_s(client: TestClient) -> None:
    found = client.get("/similar", params={"book_id": "b4", "k": 2}).json()
    expected = recommender().similar("b4", 2)
    assert [book["book_id"] for book in found["by_embedding"]] == [book.book_id for book in expected.by_embedding]
    assert [book["book_id"] for book in found["by_transitions"]] == ["b5", "b6"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("émile", ["b1"]),
        ("EMILE", ["b1"]),
        ("straße", ["b4"]),
        ("trial", ["b12", "b2"]),  # the most rated first
        ("the trial", ["b2"]),
        ("b1", ["b1", "b12", "b11", "b10"]),  # the very id first
        ("nothing", []),
        ("", [f"b{book}" for book in range(NUM_BOOKS, 0, -1)]),
    ],
)
def test_a_search_finds_words_of_titles_and_ids(client: TestClient, query: str, found: list[str]) -> None:
    books = client.get("/search", params={"q": query}).json()["books"]
    assert [book["book_id"] for book in books] == found


def test_a_search_returns_a_bounded_number_of_books(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_HITS", 3)
    known = recommender()
    assert search.Index(known.model, known.titles).find("b").tolist() == [12, 11, 10]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"history": [1]}', "history.0: input should be a valid string"),
        ('{"history": ["\\ud800"]}', "history.0: input should be a valid string"),
        ('{"history": "b1"}', "history: input should be a valid list"),
        ("{}", "history: field required"),
        ('{"history": [], "k": 101}', "k: input should be less than or equal to 100"),
        ('{"history": [], "k": 0}', "k: input should be greater than or equal to 1"),
        ('{"history": [], "min_ratings": -1}', "min_ratings: input should be greater than or equal to 0"),
        ('{"history": [], "exlude": []}', "exlude: extra inputs are not permitted"),
        (json.dumps({"history": ["b1"] * 1001}), "history: list should have at most 1000 items"),
        (json.dumps({"history": ["b" * 256]}), "history.0: string should have at most 255 characters"),
        ("[]", "the body: input should be a valid dictionary"),
        ("{", "the body is no JSON"),
    ],
)
def test_a_question_that_does_not_fit_is_refused_in_a_sentence(client: TestClient, body: str, detail: str) -> None:
    answer = client.post("/recommend", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)


def test_a_book_that_the_model_does_not_know_has_no_similar_ones(client: TestClient) -> None:
    answer = client.get("/similar", params={"book_id": "nowhere"})
    assert (answer.status_code, answer.json()) == (
        422,
        {"detail": f"book nowhere: is not among the {NUM_BOOKS} books of the model"},
    )


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_its_size(client: TestClient) -> None:
    body = b" " * (guard.MAX_BODY_BYTES + 1)
    for content in (body, iter([body])):
        answer = client.post("/recommend", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()) == (413, {"detail": "the body has more than 1048576 bytes"})


def test_on_the_loopback_only_its_own_names_are_answered(client: TestClient) -> None:
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        assert client.get("/health", headers={"Host": host}).status_code == 200
    assert client.get("/health", headers={"Host": "books.example:8000"}).status_code == 400
    open_to_all = TestClient(app.create(recommender(), app.Run(), ["*"]), "http://books.example")
    assert open_to_all.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/", "/page.js", "/health", "/nowhere"])
def test_every_answer_tells_browsers_to_trust_nothing_else(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


def test_health_card_and_openapi_describe_what_is_served(client: TestClient) -> None:
    health = client.get("/health").json()
    assert (health["model"], health["books"], health["has_titles"], health["readers"]) == ("abc", 12, True, 0)
    assert client.get("/card").json() == {"card": "# Card", "metrics": None}
    assert "/recommend" in client.get("/openapi.json").json()["paths"]
    assert client.get("/docs").status_code == 404  # it would load scripts from another host


def test_metrics_count_requests_by_path_and_status() -> None:
    client = TestClient(app.create(recommender(), app.Run(), serve.LOOPBACK), "http://localhost")
    for path in (
        "/similar?book_id=b1",
        "/similar?book_id=b2",
        "/similar",
        "/nowhere",
        "/nothing",
        "/users/a",
        "/users/b",
    ):
        client.get(path)
    lines = client.get("/metrics").text.splitlines()
    assert 'sasrec_requests_total{path="/similar",status="200"} 2' in lines
    assert 'sasrec_requests_total{path="/similar",status="422"} 1' in lines
    assert 'sasrec_requests_total{path="other",status="404"} 2' in lines
    assert 'sasrec_requests_total{path="/users/{user_id:path}",status="404"} 2' in lines
    assert 'sasrec_request_seconds_bucket{path="/similar",le="+Inf"} 3' in lines


async def answers_while_busy(batches: Batches, questions: list[Question]) -> list[object]:
    """The answers to questions that all wait before the first is answered."""
    free = threading.Event()
    busy = asyncio.ensure_future(batches.run(lambda: free.wait()))
    asked = [asyncio.ensure_future(batches.recommend(question)) for question in questions]
    await asyncio.sleep(0)
    free.set()
    await busy
    return await asyncio.gather(*asked, return_exceptions=True)


def test_questions_that_wait_together_are_answered_together_and_as_alone() -> None:
    known = recommender()
    options = [{"k": 3}] * 3 + [{"k": 3, "exclude": ["b5"]}] + [{"k": 3, "exclude_seen": False}] * 2
    questions = [Question(history=[f"b{number + 1}"], **each) for number, each in enumerate(options)]
    alone = [known.recommend([q.history], 3, exclude_seen=q.exclude_seen, exclude=q.exclude)[0] for q in questions]
    with mock.patch.object(Recommender, "recommend", autospec=True, side_effect=Recommender.recommend) as recommend:
        found = asyncio.run(answers_while_busy(Batches(known), questions))
    assert [[book.book_id for book in answer.books] for answer in found] == [
        [book.book_id for book in answer.books] for answer in alone
    ]
    assert [len(call.args[1]) for call in recommend.call_args_list] == [3, 1, 2]


def test_an_error_reaches_all_who_wait_for_it_and_nobody_after_them() -> None:
    batches = Batches(recommender())
    with mock.patch.object(Recommender, "recommend", side_effect=UserError("not finite")):
        found = asyncio.run(answers_while_busy(batches, [Question(history=["b1"])] * 3))
    assert [str(error) for error in found] == ["not finite"] * 3
    assert asyncio.run(batches.recommend(Question(history=["b1"]))).ranked_by == "hybrid"


@pytest.fixture
def of_the_pipeline(finished: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.chdir(finished)
    known = Recommender.load("models")
    return TestClient(app.create(known, serve.read_run(Path("models"), known), ["*"]))


def test_a_held_out_reader_s_true_book_has_the_rank_that_evaluate_gave_it(of_the_pipeline: TestClient) -> None:
    ranker = {"hybrid": "hybrid", "network": "sasrec"}
    num_marked = 0
    for user_id in of_the_pipeline.get("/users", params={"limit": 20}).json()["user_ids"]:
        reader = of_the_pipeline.get(f"/users/{user_id}").json()
        history = [book["book_id"] for book in reader["history"]]
        answer = of_the_pipeline.post("/recommend", json={"history": history, "k": 100}).json()
        rank = reader["ranks"][ranker[answer["ranked_by"]]]["full"]
        if rank <= 100 and reader["true_book"]["book_id"] not in history:
            assert answer["books"][rank - 1]["book_id"] == reader["true_book"]["book_id"]
            num_marked += 1
    assert num_marked > 5


def test_the_pipeline_s_own_model_comes_with_its_card_metrics_and_readers(of_the_pipeline: TestClient) -> None:
    found = of_the_pipeline.get("/card").json()
    assert found["card"] == Path("models/README.md").read_text()
    assert found["metrics"] == json.loads(Path("metrics/eval.json").read_text())
    assert of_the_pipeline.get("/users", params={"offset": 50}).json()["total"] == 60
    assert of_the_pipeline.get("/users/nobody%2Fhere").json() == {
        "detail": "user nobody/here: is not among the held-out users of the data set"
    }


def test_a_model_from_elsewhere_comes_without_the_metrics_of_this_pipeline(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    moved = Path("models/sasrec").rename(tmp_path / "moved")
    run = serve.read_run(moved, Recommender.load(moved))
    assert run.card.startswith("---\nlicense: mit")
    assert (run.metrics, run.readers) == (None, None)


def test_a_run_that_is_not_whole_is_left_out_and_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    serve.RANKS.unlink()
    assert serve.read_run(Path("models"), Recommender.load("models")).readers is None
    assert capsys.readouterr().err == (
        "the page does not show the pipeline's run: data/evaluation/ranks.parquet: not found; run `dvc repro`, "
        "which makes it first\n"
    )


def program(*words: str) -> list[str]:
    return [sys.executable, "-m", "sasrec.commands.main", "serve", *words]


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "stages"), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_its_address_answers_there_and_ends_in_silence(finished: Path, number: int) -> None:
    with subprocess.Popen(
        program("--port", "0"), cwd=finished, env=ENVIRONMENT, stdout=-1, stderr=-1, text=True
    ) as server:
        address, _, rest = server.stdout.readline().partition(": ")
        assert json.load(urllib.request.urlopen(f"{address}health"))["model"] in rest
        server.send_signal(number)
        assert server.communicate(timeout=60) == ("", "")
    assert server.returncode == 0


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UserError) as refused:
        serve.main(["--port", str(port := other.getsockname()[1])])
    assert str(refused.value) == (
        f"--host 127.0.0.1 --port {port}: Address already in use; choose another, or port 0, which takes a free one"
    )


def test_an_answer_does_not_wait_for_an_acknowledgement_of_its_first_part() -> None:
    listener = serve.listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_other_machines_are_let_in_with_a_warning_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with serve.listen("localhost", 0) as listener:
        assert serve.hosts(listener) == ["127.0.0.1", "localhost", "[::1]"]
    assert capsys.readouterr().err == ""
    with serve.listen("0.0.0.0", 0) as listener:
        assert serve.hosts(listener) == ["*"]
    assert capsys.readouterr().err.startswith("warning: listening on 0.0.0.0: whoever reaches this machine sees")


def test_help_needs_neither_torch_nor_fastapi() -> None:
    code = (
        "import sys; from sasrec.commands import serve\n"
        "try: serve.main(['--help'])\n"
        "finally: print({'torch', 'fastapi', 'uvicorn'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
