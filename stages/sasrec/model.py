"""SASRec (Kang & McAuley 2018, "Self-Attentive Sequential Recommendation"), as the notebook built it."""

import math
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6


class SasrecParams(msgspec.Struct, frozen=True):
    """Section `sasrec` of params.yaml."""

    max_len: Annotated[int, msgspec.Meta(ge=1)]  # the latest books that the model sees
    hidden_units: Annotated[int, msgspec.Meta(ge=1)]  # width of every embedding and layer
    num_heads: Annotated[int, msgspec.Meta(ge=1)]  # must divide hidden_units
    num_layers: Annotated[int, msgspec.Meta(ge=0)]  # attention blocks
    dropout_rate: Annotated[float, msgspec.Meta(ge=0, lt=1)]  # rounded to a multiple of 1/256
    norm_first: bool  # LayerNorm before each sublayer (and once at the end) instead of after it
    init_std: Annotated[float, msgspec.Meta(gt=0)]  # std of the initial embeddings; 1 is PyTorch's, and too large

    def __post_init__(self) -> None:
        if self.hidden_units % self.num_heads:
            raise ValueError(
                f"sasrec.num_heads is {self.num_heads}, which does not divide "
                f"sasrec.hidden_units, {self.hidden_units}; choose a divisor"
            )


def dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Return x with each element zeroed with probability `rate` and the others scaled to keep the mean.

    Without a generator x is returned as it is. The rate is rounded to a multiple of 1/256, because one random byte
    decides an element: that is several times faster than a Bernoulli draw.
    """
    threshold = round(rate * 256)
    if generator is None or threshold == 0:
        return x
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
    words.random_(-(2**63), None, generator=generator)
    keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return x * keep * (256 / (256 - threshold))


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention without bias (equation 2 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.num_heads = params.num_heads
        self.dropout_rate = params.dropout_rate
        self.query_key_value = nn.Linear(params.hidden_units, 3 * params.hidden_units, bias=False)
        self.output = nn.Linear(params.hidden_units, params.hidden_units, bias=False)

    def forward(self, x: Tensor, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return (batch, length, hidden_units); `hidden` (batch, 1, length, length) is true where not to look."""
        batch, length, width = x.shape
        heads = self.query_key_value(x).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, num_heads, length, head width)
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (batch, num_heads, length, length)
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        weights = dropout(scores.softmax(-1), self.dropout_rate, generator)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, length, width)
        return self.output(mixed)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, applied to each position (equation 4 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.dropout_rate = params.dropout_rate
        self.inner = nn.Linear(params.hidden_units, params.hidden_units)
        self.outer = nn.Linear(params.hidden_units, params.hidden_units)

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return (batch, length, hidden_units)."""
        return self.outer(dropout(F.relu(self.inner(x)), self.dropout_rate, generator))


class Block(nn.Module):
    """Attention, then feed-forward; each with dropout, a residual and a LayerNorm (equation 5 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.norm_first = params.norm_first
        self.dropout_rate = params.dropout_rate
        self.attention = SelfAttention(params)
        self.attention_norm = nn.LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS)
        self.feed_forward = FeedForward(params)
        self.feed_forward_norm = nn.LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return (batch, length, hidden_units)."""
        if self.norm_first:
            attended = self.attention(self.attention_norm(x), hidden, generator)
            x = x + dropout(attended, self.dropout_rate, generator)
            transformed = self.feed_forward(self.feed_forward_norm(x), generator)
            return x + dropout(transformed, self.dropout_rate, generator)
        attended = self.attention(x, hidden, generator)
        x = self.attention_norm(x + dropout(attended, self.dropout_rate, generator))
        transformed = self.feed_forward(x, generator)
        return self.feed_forward_norm(x + dropout(transformed, self.dropout_rate, generator))


class Sasrec(nn.Module):
    """Predicts, at each place of a history, the book that comes next."""

    def __init__(self, params: SasrecParams, num_books: int) -> None:
        super().__init__()
        self.params = params
        self.num_books = num_books
        self.item_embedding = nn.Embedding(num_books + 1, params.hidden_units, padding_idx=0)
        self.position_embedding = nn.Embedding(params.max_len, params.hidden_units)
        self.embedding_norm = nn.LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.num_layers))
        self.final_norm = nn.LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS) if params.norm_first else nn.Identity()

    def forward(self, history: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the features of what comes after each place, (batch, length, hidden_units).

        `history` (batch, length) holds book indices, padded on the left with 0; length is at most max_len. Dropout
        is applied where a generator, on the model's device, is given. A book's logit at a place is the dot product
        of the place's features with the book's embedding.
        """
        length = history.shape[1]
        x = self.item_embedding(history) + self.position_embedding.weight[-length:]  # (batch, length, hidden_units)
        x = self.embedding_norm(dropout(x, self.params.dropout_rate, generator))
        places = torch.arange(length, device=history.device)
        is_future = places > places[:, None]  # (length, length)
        is_other_padding = (history == 0)[:, None, :] & (
            places != places[:, None]
        )  # padding sees itself: no row is empty
        hidden = (is_future | is_other_padding)[:, None]  # (batch, 1, length, length)
        for block in self.blocks:
            x = block(x, hidden, generator)
        return self.final_norm(x)


class Config(msgspec.Struct, frozen=True):
    """What the weights need to become a model again: models/sasrec.json."""

    num_books: int
    sasrec: SasrecParams


def build(params: SasrecParams, num_books: int, generator: torch.Generator) -> Sasrec:
    """Return a new model on the CPU: embeddings from N(0, init_std), linear layers as PyTorch starts them."""
    model = _empty(params, num_books).to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=params.init_std, generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = module.in_features**-0.5
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    nn.init.zeros_(model.item_embedding.weight[0])
    return model


def save(path: Path, model: Sasrec) -> None:
    """Write the weights as safetensors, on the CPU, whatever device trained them."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, path)


def load(path: Path, config: Config) -> Sasrec:
    """Return the model that `save` wrote, on the CPU."""
    model = _empty(config.sasrec, config.num_books)
    model.load_state_dict(load_file(path), assign=True)
    return model


def predict(model: Sasrec, history: Tensor) -> Tensor:
    """Return each book's logit as the next one after `history` (batch, length), (batch, num_books + 1).

    Column 0 is the padding's and means nothing.
    """
    return model(history)[:, -1] @ model.item_embedding.weight.T


def _empty(params: SasrecParams, num_books: int) -> Sasrec:
    """Return a model without storage: PyTorch's own initialisation would draw from the global generator."""
    with torch.device("meta"):
        return Sasrec(params, num_books)
