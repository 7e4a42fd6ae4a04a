"""The plain algorithm of each stage, as in a course notebook; `make bench` compares the pipeline with it."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sasrec.model.params import SasrecParams
from sasrec.training.params import TrainParams


def parse(path: Path) -> pd.DataFrame:
    """Return all reviews of a dump; memory grows with the file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        reviews = [json.loads(line) for line in file]
    return pd.DataFrame(reviews)[["user_id", "timestamp", "book_id"]]


def filter_reindex(reviews: pd.DataFrame, min_ratings: int) -> pd.DataFrame:
    """Return user_idx, timestamp and book_idx of users with at least `min_ratings` reviews, by user and time."""
    kept = reviews.groupby("user_id").filter(lambda group: len(group) >= min_ratings)
    users = pd.DataFrame({"user_id": kept["user_id"].unique()})
    books = pd.DataFrame({"book_id": kept["book_id"].unique()})
    users["user_idx"] = range(len(users))
    books["book_idx"] = range(1, len(books) + 1)
    merged = kept.merge(users, on="user_id").merge(books, on="book_id")
    merged["timestamp"] = pd.to_datetime(merged["timestamp"])
    return merged.sort_values(["user_idx", "timestamp", "book_idx"])[["user_idx", "timestamp", "book_idx"]]


def sample(
    histories: Sequence[np.ndarray], params: TrainParams, max_len: int, num_books: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return history, positives and negatives, each (batch, max_len) int64, drawn one user and one book at a time."""
    batch = np.zeros((3, params.batch_size, max_len), dtype=np.int64)
    for row in range(params.batch_size):
        books = histories[int(rng.integers(len(histories)))]
        while len(books) < 2:
            books = histories[int(rng.integers(len(histories)))]
        read = set(books)
        following, position = books[-1], max_len - 1
        for book in reversed(books[:-1]):
            negative = rng.integers(1, num_books + 1)
            while negative in read:
                negative = rng.integers(1, num_books + 1)
            batch[:, row, position] = book, following, negative
            following, position = book, position - 1
            if position < 0:
                break
    history, positives, negatives = torch.from_numpy(batch)
    return history, positives, negatives


class Attention(nn.Module):
    """Causal scaled dot-product attention."""

    def __init__(self, width: int, num_heads: int, dropout_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (batch, length, width); `mask` is true where a position must not look."""
        batch, length, width = x.shape
        shape = (batch, length, self.num_heads, width // self.num_heads)
        query, key, value = (part(x).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value))
        scores = query @ key.transpose(-2, -1) / (width // self.num_heads) ** 0.5  # (batch, num_heads, length, length)
        weights = self.dropout(scores.masked_fill(mask, -1e9).softmax(-1))
        return self.output((weights @ value).transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Attention and feed-forward, each followed by dropout, a residual and a LayerNorm."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        width, rate = params.hidden_units, params.dropout_rate
        self.attention = Attention(width, params.num_heads, rate)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(rate), nn.Linear(width, width))
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(rate)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (batch, length, width)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Sasrec(nn.Module):
    """SASRec from plain modules; all histories are padded to max_len."""

    def __init__(self, params: SasrecParams, num_books: int) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_books + 1, params.hidden_units, padding_idx=0)
        self.position_embedding = nn.Embedding(params.max_len, params.hidden_units)
        self.norm = nn.LayerNorm(params.hidden_units, eps=1e-6)
        self.dropout = nn.Dropout(params.dropout_rate)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.num_layers))

    def forward(self, history: Tensor) -> Tensor:
        """Return the features at each position of `history` (batch, length), (batch, length, width)."""
        length = history.shape[1]
        positions = torch.arange(
            self.position_embedding.num_embeddings - length, self.position_embedding.num_embeddings
        )
        x = self.norm(self.dropout(self.item_embedding(history) + self.position_embedding(positions)))
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mask = (future | (history == 0)[:, None, :])[:, None]  # (batch, 1, length, length)
        for block in self.blocks:
            x = block(x, mask)
        return x


def step(model: Sasrec, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Run one step of binary cross-entropy; return the loss, a scalar."""
    history, positives, negatives = batch
    features = model(history)
    positive_logits = (features * model.item_embedding(positives)).sum(-1)
    negative_logits = (features * model.item_embedding(negatives)).sum(-1)
    is_book = history != 0
    criterion = nn.BCEWithLogitsLoss()
    loss = criterion(positive_logits[is_book], torch.ones_like(positive_logits)[is_book])
    loss = loss + criterion(negative_logits[is_book], torch.zeros_like(negative_logits)[is_book])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@torch.no_grad()
def evaluate(
    model: Sasrec, histories: Sequence[np.ndarray], true_books: np.ndarray, max_len: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 among 100 unread books, one user and one book at a time."""
    model.eval()
    num_books = model.item_embedding.num_embeddings - 1
    hits, gains = [], []
    for books, true_book in zip(histories, true_books, strict=True):
        read = {*books, true_book}
        candidates = [true_book]
        while len(candidates) < 101:
            negative = rng.integers(1, num_books + 1)
            if negative not in read and negative not in candidates:
                candidates.append(negative)
        history = torch.tensor(books[-max_len:], dtype=torch.int64)[None]
        features = model(history)[0, -1]
        scores = model.item_embedding(torch.tensor(np.array(candidates), dtype=torch.int64)) @ features
        rank = scores.argsort(descending=True).argsort()[0].item()
        hits.append(rank < 10)
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0)
    return float(np.mean(hits)), float(np.mean(gains))
