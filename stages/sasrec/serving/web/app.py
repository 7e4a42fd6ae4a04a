"""The JSON interface of a recommender, and the page that uses it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sasrec.core.errors import UserError
from sasrec.serving import explain, recommender
from sasrec.serving.recommender import DECIMALS, Recommender
from sasrec.serving.web import messages
from sasrec.serving.web.batches import Batches
from sasrec.serving.web.guard import Guard, Metrics
from sasrec.serving.web.readers import Readers
from sasrec.serving.web.search import Index

PAGE = Path(__file__).with_name("page")
MAX_QUERY = 200  # characters


@dataclass(frozen=True)
class Run:
    """What the pipeline says of a model beside the model itself."""

    card: str = ""
    metrics: dict[str, Any] | None = None
    readers: Readers | None = None


def create(recommender: Recommender, run: Run, hosts: Collection[str]) -> FastAPI:
    """Return the application; it answers requests to one of `hosts` alone, which may be `*`, any."""
    # FastAPI's own pages of documentation load scripts from another host.
    app = FastAPI(title="SASRec", version=recommender.model.version, docs_url=None, redoc_url=None)
    handlers, metrics = Handlers(recommender, run), Metrics()
    app.post("/recommend")(handlers.recommend)
    app.post("/attention")(handlers.attention)
    app.get("/similar")(handlers.similar)
    app.get("/search")(handlers.search)
    app.get("/users")(handlers.users)
    app.get("/users/{user_id:path}")(handlers.user)
    app.get("/card")(handlers.card)
    app.get("/health")(handlers.health)
    app.get("/metrics", response_class=PlainTextResponse)(metrics.as_text)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.exception_handler(RequestValidationError)(_refuse)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(Guard, metrics=metrics)
    return app


class Handlers:
    """Answers the requests. What computes with torch waits for its turn in `Batches`."""

    def __init__(self, recommender: Recommender, run: Run) -> None:
        self.recommender = recommender
        self.model = recommender.model
        self.run = run
        self.index = Index(recommender.model, recommender.titles)
        self.batches = Batches(recommender)

    async def recommend(self, question: messages.Question) -> messages.Answer:
        """Recommend the next books after a history."""
        found = await self.batches.recommend(question)
        history, books = self._known(question.history), self._known([book.book_id for book in found.books])
        reasons = self._reasons(history, books) if len(history) else [[] for _ in books]
        answer = messages.Answer.model_validate(found)
        for book, why in zip(answer.books, reasons, strict=True):
            book.why = why
        return answer

    async def attention(self, asked: messages.History) -> messages.Attention:
        """Say how much the network attends to each of the latest books of a history."""
        history = self._known(asked.history)
        network, padding = self.model.network, self.model.padding
        weights = await self.batches.run(lambda: explain.attention(network, history, padding=padding))  # (latest,)
        return messages.Attention(books=_weighed(self._books(history[len(history) - len(weights) :]), weights))

    async def similar(self, book_id: messages.Id, k: messages.K = 10) -> messages.Similar:
        """List the books nearest to one."""
        try:
            found = await self.batches.run(lambda: self.recommender.similar(book_id, min(k, self.model.num_books)))
        except UserError as error:
            raise HTTPException(422, str(error)) from None
        return messages.Similar.model_validate(found)

    def search(self, q: Annotated[str, Query(max_length=MAX_QUERY)] = "") -> messages.Hits:
        """Find books whose title or id holds every word of `q`; without a word, the most rated books."""
        return messages.Hits(books=self._books(self.index.find(q)))

    def users(
        self, offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 100
    ) -> messages.Readers:
        """List held-out users of the data set."""
        readers = self.run.readers
        if readers is None:
            return messages.Readers(total=0, user_ids=[])
        return messages.Readers(
            total=len(readers.users), user_ids=readers.users.ids[offset : offset + limit].to_pylist()
        )

    def user(self, user_id: messages.Id) -> messages.Reader:
        """Show a held-out user of the data set."""
        readers = self.run.readers
        (row,) = readers.users.indices_of([user_id]) if readers else [None]
        if readers is None or row is None:
            raise HTTPException(404, f"user {user_id}: is not among the held-out users of the data set")
        (true_book,) = self._books(readers.true_books[row : row + 1])
        ranks = {
            ranker: messages.Ranks(sampled=ranks.sampled[row] + 1, full=ranks.full[row] + 1)
            for ranker, ranks in readers.ranks.items()
        }
        history = self._books(readers.histories[row][-messages.MAX_HISTORY :])
        return messages.Reader(user_id=user_id, history=history, true_book=true_book, ranks=ranks)

    def card(self) -> messages.Card:
        """Show the model card and the metrics."""
        return messages.Card(card=self.run.card, metrics=self.run.metrics)

    def health(self) -> messages.Health:
        """Say which model is served."""
        return messages.Health(
            status="ok",
            model=self.model.version,
            books=self.model.num_books,
            ranked_by=self.recommender.description,
            has_titles=bool(self.recommender.titles),
            readers=len(self.run.readers.users) if self.run.readers else 0,
        )

    def _known(self, ids: Sequence[str]) -> np.ndarray:
        """Return the book_idx of the ids that the model knows, (known,) int32."""
        found = self.model.books.indices_of(recommender.require_ids(ids))
        return np.array([index for index in found if index is not None], dtype=np.int32)

    def _reasons(self, history: np.ndarray, books: np.ndarray) -> list[list[messages.Weighed]]:
        """Return after which of the latest books each of `books` is read, the heaviest first."""
        added = explain.contributions(self.model.transitions, history, books).T  # (books, latest)
        latest = self._books(history[::-1][: added.shape[1]])
        reasons = [[each for each in _weighed(latest, weights) if each.weight] for weights in added]
        return [sorted(why, key=lambda each: -each.weight) for why in reasons]

    def _books(self, books: np.ndarray) -> list[messages.Book]:
        listed = self.recommender.listed(books, np.zeros(len(books)))
        return [messages.Book.model_validate(book) for book in listed]


def _weighed(books: Sequence[messages.Book], weights: np.ndarray) -> list[messages.Weighed]:
    return [
        messages.Weighed(book_id=book.book_id, title=book.title, ratings=book.ratings, weight=round(weight, DECIMALS))
        for book, weight in zip(books, weights.tolist(), strict=True)
    ]


def _refuse(_request: Request, error: Exception) -> JSONResponse:
    """Answer a request that does not fit with one sentence on the first thing that is wrong."""
    if not isinstance(error, RequestValidationError):
        raise error
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return JSONResponse({"detail": "the body is no JSON"}, 422)
    where, what = ".".join(map(str, fault["loc"][1:])) or "the body", str(fault["msg"])
    return JSONResponse({"detail": f"{where}: {what[:1].lower()}{what[1:]}"}, 422)
