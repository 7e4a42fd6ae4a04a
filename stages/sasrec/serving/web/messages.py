"""The questions that the interface takes and the answers that it gives, as JSON."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sasrec.serving.recommender import Ranker

MAX_HISTORY = 1000
MAX_K = 100
Id = Annotated[str, Field(max_length=255)]  # as in the dump
K = Annotated[int, Field(ge=1, le=MAX_K)]


class History(BaseModel):
    """The books that someone read."""

    model_config = ConfigDict(extra="forbid")

    history: Annotated[list[Id], Field(max_length=MAX_HISTORY, description="book ids, oldest first")]


class Question(History):
    """What to recommend."""

    k: K = 10
    exclude_seen: Annotated[bool, Field(description="recommend no book of the history")] = True
    exclude: Annotated[list[Id], Field(max_length=MAX_HISTORY, description="books not to recommend")] = []
    min_ratings: Annotated[int, Field(ge=0, le=2**53, description="of each recommended book, by training users")] = 0


class Book(BaseModel):
    """A book of the model."""

    model_config = ConfigDict(from_attributes=True)

    book_id: str
    title: str | None
    ratings: Annotated[int, Field(description="by training users")]


class Weighed(Book):
    """A book of the history, and how much it matters."""

    weight: float


class Ranked(Book):
    """A recommended or similar book."""

    rank: int
    score: Annotated[float, Field(description="comparable only within one answer")]


class Recommended(Ranked):
    """A recommended book, and why."""

    why: Annotated[
        list[Weighed],
        Field(description="the latest books of the history after which training users read this one, heaviest first"),
    ] = []


class Answer(BaseModel):
    """What is recommended, best first."""

    model_config = ConfigDict(from_attributes=True)

    books: list[Recommended]
    unknown: Annotated[list[str], Field(description="the ids of the history that the model does not know")]
    ranked_by: Ranker


class Attention(BaseModel):
    """How much the network's last position attends to each of the latest books, whichever book it then ranks."""

    books: Annotated[list[Weighed], Field(description="oldest first; the weights sum to 1")]


class Similar(BaseModel):
    """The books nearest to one, in two senses, best first."""

    model_config = ConfigDict(from_attributes=True)

    by_embedding: list[Ranked]
    by_transitions: list[Ranked]


class Hits(BaseModel):
    """The books that a search found, the most rated first."""

    books: list[Book]


class Ranks(BaseModel):
    """The rank of a true book by a ranker, from 1."""

    sampled: Annotated[int, Field(description="among the negatives that were drawn for the reader")]
    full: Annotated[int, Field(description="among all books")]


class Reader(BaseModel):
    """A held-out user of the data set, with the book that the user read next."""

    user_id: str
    history: Annotated[list[Book], Field(description=f"oldest first, at most the latest {MAX_HISTORY}")]
    true_book: Book
    ranks: dict[str, Ranks]


class Readers(BaseModel):
    """Some of the held-out users of the data set."""

    total: int
    user_ids: list[str]


class Health(BaseModel):
    """The model that is served."""

    status: str
    model: Annotated[str, Field(description="the version of its content")]
    books: int
    ranked_by: str
    has_titles: bool
    readers: Annotated[int, Field(description="held-out users of the data set, under /users")]


class Card(BaseModel):
    """The model card as Markdown, and the metrics of the pipeline that trained the model."""

    card: str
    metrics: dict[str, Any] | None
