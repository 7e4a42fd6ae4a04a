"""SASRec (Kang & McAuley 2018, "Self-Attentive Sequential Recommendation"), as the notebook built it."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, cast

import msgspec
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from sasrec import digests, inputs, products
from sasrec.params import Count

LAYER_NORM_EPS = 1e-6
HIDDEN = 1e9  # subtracted from the score of a place not to look at: its weight is exactly 0


class SasrecParams(msgspec.Struct, frozen=True):
    """Section `sasrec` of params.yaml."""

    max_len: Annotated[int, msgspec.Meta(ge=1, le=2**16)]  # the latest books that the model sees
    hidden_units: Annotated[int, msgspec.Meta(ge=1, le=2**16)]  # width of every embedding and layer
    num_heads: Annotated[int, msgspec.Meta(ge=1, le=2**16)]  # must divide hidden_units
    num_layers: Annotated[int, msgspec.Meta(ge=0, le=1000)]  # attention blocks
    dropout_rate: Annotated[float, msgspec.Meta(ge=0, lt=1)]  # rounded to a multiple of 1/256
    norm_first: bool  # LayerNorm before each sublayer (and once at the end) instead of after it
    init_std: Annotated[float, msgspec.Meta(gt=0, le=100)]  # of the embeddings at the start; 1, PyTorch's, is too large

    def __post_init__(self) -> None:
        if self.hidden_units % self.num_heads:
            raise ValueError(
                f"sasrec.num_heads is {self.num_heads}, which does not divide "
                f"sasrec.hidden_units, {self.hidden_units}; choose a divisor"
            )


class RandomBytes(NamedTuple):
    """Draws bytes for every row of a batch and gives those of some: who computes one part gets what the whole has."""

    generator: torch.Generator  # on the model's device
    num_rows: int  # of the batch
    rows: range  # of them, those that are computed here

    def draw(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return the bytes of `rows`, uniform from 0 to 255, of `shape` (rows, ...), uint8."""
        per_row = shape[1:].numel()
        words = torch.empty(-(-self.num_rows * per_row // 8), dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=self.generator)
        return words.view(torch.uint8)[self.rows.start * per_row : self.rows.stop * per_row].view(shape)


def dropout_mask(x: Tensor, rate: float, random_bytes: RandomBytes) -> Tensor:
    """Return 0 with probability `rate`, else what keeps the mean at 1, of the shape (rows, ...) and the dtype of x.

    The rate is rounded to a multiple of 1/256, because one random byte decides an element: that is many times faster
    than a Bernoulli draw.
    """
    threshold = min(round(rate * 256), 255)  # something is always left
    letters = random_bytes.draw(x.shape, x.device)
    return letters.to(x.dtype).ge_(threshold).mul_(256 / (256 - threshold))


def dropout(x: Tensor, rate: float, random_bytes: RandomBytes | None) -> Tensor:
    """Return x with each element zeroed with probability `rate` and the others scaled; x without random bytes."""
    if random_bytes is None or rate == 0:
        return x
    return x * dropout_mask(x, rate, random_bytes)


def add_dropped(x: Tensor, change: Tensor, rate: float, random_bytes: RandomBytes | None) -> Tensor:
    """Return x + dropout(change), in one pass."""
    if random_bytes is None or rate == 0:
        return x + change
    return torch.addcmul(x, change, dropout_mask(change, rate, random_bytes))


class Linear(nn.Linear):
    """A linear layer; in portable mode it has the same bits on every processor with AVX2."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T + bias, (..., out_features)."""
        return products.linear(x, self.weight, self.bias)


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention without bias (equation 2 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.num_heads = params.num_heads
        self.dropout_rate = params.dropout_rate
        self.query_key_value = Linear(params.hidden_units, 3 * params.hidden_units, bias=False)
        self.output = Linear(params.hidden_units, params.hidden_units, bias=False)

    def forward(self, x: Tensor, mask: Tensor, random_bytes: RandomBytes | None) -> Tensor:
        """Return what each place of x attends to, (rows, length, hidden_units).

        `mask` (rows, length, length) is added to the scores.
        """
        rows, length, width = x.shape
        head_width = width // self.num_heads
        parts = self.query_key_value(x).view(rows, length, 3, self.num_heads, head_width).unbind(2)
        heads = (part.transpose(1, 2).reshape(rows * self.num_heads, length, head_width) for part in parts)
        query, key, value = heads  # each (rows * num_heads, length, head width)
        mask = mask.repeat_interleave(self.num_heads, 0) if self.num_heads > 1 else mask
        scores = products.add_batched(mask, query, key, scale=head_width**-0.5)
        weights = scores.softmax(-1).view(rows, self.num_heads, length, length)
        weights = dropout(weights, self.dropout_rate, random_bytes).view(scores.shape)
        mixed = products.batched(weights, value.transpose(1, 2))  # (rows * num_heads, length, head width)
        mixed = mixed.view(rows, self.num_heads, length, head_width).transpose(1, 2)
        return self.output(mixed.reshape(rows, length, width))

    def last(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return what the last place of x attends to, (rows, 1, hidden_units), without dropout.

        `mask` (rows, 1, length) is added to the scores. One query needs no keys and values of all places: its product
        with a key is that of the place with the query times the key's weights, and the mean of values is the value of
        the mean place.
        """
        width = x.shape[2]
        head_width = width // self.num_heads
        parts = self.query_key_value.weight.view(3, self.num_heads, head_width, width).unbind()
        queries, keys, values = (part.unbind() for part in parts)  # each (head width, hidden_units), one a head
        last_place = x[:, -1]
        asked = [products.linear(products.linear(last_place, q), k.T) for q, k in zip(queries, keys, strict=True)]
        scores = products.add_batched(mask, torch.stack(asked, 1), x, scale=head_width**-0.5)
        mean_places = products.batched(scores.softmax(-1), x.transpose(1, 2))  # (rows, num_heads, hidden_units)
        mixed = [products.linear(place, value) for place, value in zip(mean_places.unbind(1), values, strict=True)]
        return self.output(torch.cat(mixed, -1))[:, None]


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, applied to each position (equation 4 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.dropout_rate = params.dropout_rate
        self.inner = Linear(params.hidden_units, params.hidden_units)
        self.outer = Linear(params.hidden_units, params.hidden_units)

    def forward(self, x: Tensor, random_bytes: RandomBytes | None) -> Tensor:
        """Return (rows, length, hidden_units)."""
        return self.outer(dropout(F.relu(self.inner(x)), self.dropout_rate, random_bytes))


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

    def forward(self, x: Tensor, mask: Tensor, random_bytes: RandomBytes | None) -> Tensor:
        """Return the new features of all places, (rows, length, hidden_units); `mask` is (rows, length, length)."""
        attended = self.attention(self.attention_norm(x) if self.norm_first else x, mask, random_bytes)
        return self._transform(x, attended, random_bytes)

    def last(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the new features of the last place alone, (rows, 1, hidden_units); `mask` is (rows, 1, length)."""
        attended = self.attention.last(self.attention_norm(x) if self.norm_first else x, mask)
        return self._transform(x[:, -1:], attended, random_bytes=None)

    def _transform(self, x: Tensor, attended: Tensor, random_bytes: RandomBytes | None) -> Tensor:
        """Return what becomes of x and of what it attended to."""
        x = add_dropped(x, attended, self.dropout_rate, random_bytes)
        if self.norm_first:
            transformed = self.feed_forward(self.feed_forward_norm(x), random_bytes)
            return add_dropped(x, transformed, self.dropout_rate, random_bytes)
        x = self.attention_norm(x)
        transformed = self.feed_forward(x, random_bytes)
        return self.feed_forward_norm(add_dropped(x, transformed, self.dropout_rate, random_bytes))


class Sasrec(nn.Module):
    """Predicts, at each place of a history, the book that comes next."""

    def __init__(self, params: SasrecParams, num_books: int) -> None:
        super().__init__()
        self.params = params
        self.num_books = num_books
        # nn.Embedding itself would draw the weights, and for that import PyTorch's compiler: a second.
        embed = partial(nn.Embedding.from_pretrained, freeze=False)
        self.item_embedding = embed(torch.empty(num_books + 1, params.hidden_units), padding_idx=0)
        self.position_embedding = embed(torch.empty(params.max_len, params.hidden_units))
        self.embedding_norm = nn.LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS)
        blocks = nn.ModuleList(Block(params) for _ in range(params.num_layers))
        self.blocks = cast("Sequence[Block]", blocks)  # what it holds, which its type does not say
        self.final_norm = nn.LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS) if params.norm_first else nn.Identity()

    def forward(self, history: Tensor) -> Tensor:
        """Return the features of what comes after each place of `history`, (batch, length, hidden_units).

        `history` (batch, length) holds book indices, padded on the left with 0; length is at most max_len. A book's
        logit at a place is the dot product of the place's features with the book's embedding.
        """
        length = history.shape[1]
        positions = torch.arange(self.params.max_len - length, self.params.max_len, device=history.device)
        return self.encode(self.item_embedding(history), positions.expand_as(history), (history != 0).int())

    def encode(
        self, items: Tensor, positions: Tensor, segments: Tensor, random_bytes: RandomBytes | None = None
    ) -> Tensor:
        """Return the features of what comes after each place, (rows, length, hidden_units).

        A row may hold several histories. `items` (rows, length, hidden_units) are embedded books, `positions` (rows,
        length) count to max_len - 1 at a history's last book, and `segments` (rows, length) tell the histories of a
        row apart: a place sees the earlier places of its own. Dropout is applied where random
        bytes are given.
        """
        x = self._embed(items, positions, random_bytes)
        mask = _causal_mask(segments, x.dtype)
        for block in self.blocks:
            x = block(x, mask, random_bytes)
        return self.final_norm(x)

    def encode_last(self, history: Tensor, positions: Tensor) -> Tensor:
        """Return the features of what comes after each history, (batch, hidden_units): `encode` at its last place.

        `history` (batch, length) is padded on the left with 0. The last block computes that one place alone.
        """
        x = self._embed(self.item_embedding(history), positions, random_bytes=None)
        mask = _causal_mask((history != 0).int(), x.dtype)
        for block in self.blocks[:-1]:
            x = block(x, mask, None)
        for block in self.blocks[-1:]:
            x = block.last(x, mask[:, -1:])
        return self.final_norm(x[:, -1])

    def _embed(self, items: Tensor, positions: Tensor, random_bytes: RandomBytes | None) -> Tensor:
        x = items + self.position_embedding(positions)  # (rows, length, hidden_units)
        return self.embedding_norm(dropout(x, self.params.dropout_rate, random_bytes))


def _causal_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what to add to the scores: 0 where a place sees the other, else -HIDDEN, (rows, length, length)."""
    sees = (segments[:, :, None] == segments[:, None, :]).tril()
    return sees.to(dtype).sub_(1).mul_(HIDDEN)


class Config(msgspec.Struct, frozen=True):
    """What the weights need to become a model again: models/sasrec.json."""

    num_books: Count
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
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    path.write_bytes(digests.fill(to_bytes(tensors, metadata=digests.METADATA)))


def load(path: Path, config: Config) -> Sasrec:
    """Return the model that `save` wrote, on the CPU.

    Raises:
        UserError: the file is damaged, of another config, or holds weights that are not finite.

    """
    model = _empty(config.sasrec, config.num_books)
    with inputs.reading(path):
        content = path.read_bytes()
        digests.check(content)
        weights = from_bytes(content)
        model.load_state_dict(weights, assign=True)
        if not all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in weights.values()):
            raise ValueError("a weight is not float32 or not finite")
    return model


def save_config(path: Path, config: Config) -> None:
    """Write what the weights need, with its digest, as JSON."""
    content = msgspec.json.encode(msgspec.to_builtins(config) | digests.METADATA)
    path.write_bytes(digests.fill(msgspec.json.format(content, indent=2) + b"\n"))


def load_config(path: Path) -> Config:
    """Return what `save_config` wrote; raise UserError where the file is damaged."""
    with inputs.reading(path):
        content = path.read_bytes()
        digests.check(content)
        return msgspec.json.decode(content, type=Config)


def _empty(params: SasrecParams, num_books: int) -> Sasrec:
    """Return a model without storage: PyTorch's own initialisation would draw from the global generator."""
    with torch.device("meta"):
        return Sasrec(params, num_books)
