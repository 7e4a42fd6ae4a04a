"""SASRec (Kang & McAuley 2018, "Self-Attentive Sequential Recommendation"), built like the notebook's."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from sasrec.core.params import Count
from sasrec.io import digests, files
from sasrec.model import fixed_order, matmul
from sasrec.model.attention import attend
from sasrec.model.autoencoder import Autoencoder
from sasrec.model.dropout import RandomBytes, add_dropped, dropout
from sasrec.model.feed_forward import transform
from sasrec.model.params import SasrecParams

LAYER_NORM_EPS = 1e-6
MASK_PENALTY = 1e9  # subtracted from a masked position's score, so that its weight is exactly 0


class Linear(nn.Linear):
    """A linear layer that, in portable mode, is bit-identical on every processor with AVX2."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T + bias, (..., out_features)."""
        return matmul.linear(x, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """A LayerNorm whose gradient, in portable mode, does not depend on the number of threads."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised over its last dimension."""
        return fixed_order.layer_norm(x, self.weight, self.bias, self.eps)


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention without bias (equation 2 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.num_heads = params.num_heads
        self.dropout_rate = params.dropout_rate
        self.query_key_value = Linear(params.hidden_units, 3 * params.hidden_units, bias=False)
        self.output = Linear(params.hidden_units, params.hidden_units, bias=False)

    def forward(
        self, x: Tensor, mask: Tensor, random_bytes: RandomBytes | None, num_queries: int | None = None
    ) -> Tensor:
        """Return the output at the last `num_queries` positions of x (None: at all), (rows, num_queries, hidden_units).

        `mask` (rows, num_queries, length) is added to the scores.
        """
        query, key, value = matmul.linear_parts(x, self.query_key_value.weight, num_parts=3)
        query = last(query, num_queries)
        return self.output(attend(query, key, value, mask, self.num_heads, self.dropout_rate, random_bytes))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, applied to each position (equation 4 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.dropout_rate = params.dropout_rate
        self.inner = Linear(params.hidden_units, params.hidden_units)
        self.outer = Linear(params.hidden_units, params.hidden_units)

    def forward(self, x: Tensor, random_bytes: RandomBytes | None) -> Tensor:
        """Return (rows, length, hidden_units)."""
        inner, outer = ((layer.weight, layer.bias) for layer in (self.inner, self.outer))
        return transform(x, inner, outer, self.dropout_rate, random_bytes)


class Block(nn.Module):
    """Attention, then feed-forward, each with dropout, residual and LayerNorm (equation 5 of the paper)."""

    def __init__(self, params: SasrecParams) -> None:
        super().__init__()
        self.norm_first = params.norm_first
        self.dropout_rate = params.dropout_rate
        self.attention = SelfAttention(params)
        self.attention_norm = LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS)
        self.feed_forward = FeedForward(params)
        self.feed_forward_norm = LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS)

    def forward(
        self, x: Tensor, mask: Tensor, random_bytes: RandomBytes | None, num_queries: int | None = None
    ) -> Tensor:
        """Return the features of the last `num_queries` positions (None: of all), (rows, num_queries, hidden_units).

        `mask` is (rows, num_queries, length). With fewer queries than positions, the others cost only their keys and
        values.
        """
        normed = self.attention_norm(x) if self.norm_first else x
        attended = self.attention(normed, mask, random_bytes, num_queries)
        x = add_dropped(last(x, num_queries), attended, self.dropout_rate, random_bytes)
        if self.norm_first:
            transformed = self.feed_forward(self.feed_forward_norm(x), random_bytes)
            return add_dropped(x, transformed, self.dropout_rate, random_bytes)
        x = self.attention_norm(x)
        transformed = self.feed_forward(x, random_bytes)
        return self.feed_forward_norm(add_dropped(x, transformed, self.dropout_rate, random_bytes))


class Sasrec(nn.Module):
    """Predicts the next book at each position of a history."""

    def __init__(self, params: SasrecParams, num_books: int, num_inputs: int = 0) -> None:
        super().__init__()
        self.params = params
        self.num_books = num_books
        # nn.Embedding would draw the weights itself, and import PyTorch's compiler to do so: 1 s.
        embed = partial(nn.Embedding.from_pretrained, freeze=False)
        self.item_embedding = embed(torch.empty(num_books + 1, params.hidden_units), padding_idx=0)
        self.position_embedding = embed(torch.empty(params.max_len, params.hidden_units))
        self.autoencoder = Autoencoder(num_books, num_inputs)  # ranks beside the network: no gradient changes it
        self.embedding_norm = LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS)
        blocks = nn.ModuleList(Block(params) for _ in range(params.num_layers))
        self.blocks = cast("Sequence[Block]", blocks)  # ModuleList's type hides that it holds blocks
        self.final_norm = LayerNorm(params.hidden_units, eps=LAYER_NORM_EPS) if params.norm_first else nn.Identity()

    def forward(self, history: Tensor, positions: Tensor) -> Tensor:
        """Return features that predict the book after each history, (batch, hidden_units).

        `history` (batch, length) holds book indices, padded on the left with 0; length is at most max_len. `positions`
        (batch, length) are those of `encode`. A book's logit is the dot product of its embedding and the features.
        """
        segments = (history != 0).int()
        return self.encode(self.item_embedding(history), positions, segments, num_queries=1)[:, 0]

    def encode(
        self,
        items: Tensor,
        positions: Tensor,
        segments: Tensor,
        random_bytes: RandomBytes | None = None,
        num_queries: int | None = None,
    ) -> Tensor:
        """Return features that predict the next book at the last `num_queries` positions (None: at all) of each row.

        The features are (rows, num_queries, hidden_units). A row may hold several histories. `items` (rows, length,
        hidden_units) are embedded books, `positions` (rows, length) count up to max_len - 1 at a history's last book,
        and `segments` (rows, length) number the histories of a row. A position sees itself and the earlier positions
        of its history. No random bytes, no dropout.
        """
        x = items + self.position_embedding(positions)  # (rows, length, hidden_units)
        x = self.embedding_norm(dropout(x, self.params.dropout_rate, random_bytes))
        mask = _causal_mask(segments, x.dtype)  # (rows, length, length)
        for block in self.blocks[:-1]:
            x = block(x, mask, random_bytes)
        for block in self.blocks[-1:]:
            x = block(x, last(mask, num_queries), random_bytes, num_queries)  # (rows, num_queries, hidden_units)
        return self.final_norm(last(x, num_queries))


def last(x: Tensor, num_positions: int | None) -> Tensor:
    """Return the last `num_positions` of x, (rows, positions, ...); x if None, because a slice's gradient is a copy."""
    return x if num_positions is None else x[:, -num_positions:]


def _causal_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (rows, length, length) to add to scores: 0 where a position sees the other, else -MASK_PENALTY or less."""
    numbers = segments.to(dtype)  # floats are many times faster than whole numbers and bools
    differences = numbers[:, :, None] - numbers[:, None]  # (rows, length, length): 0 within a history, else 1 or more
    is_later = numbers.new_ones(differences.shape[1:]).triu(1)  # (length, length); a process may have no rows
    return differences.abs_().add_(is_later).mul_(-MASK_PENALTY)


def num_weights(params: SasrecParams, num_books: int) -> int:
    """Return the number of weights without norms and biases, to estimate memory."""
    width = params.hidden_units
    return (num_books + 1 + params.max_len) * width + params.num_layers * 6 * width**2


class HybridWeights(msgspec.Struct, frozen=True):
    """The weights of what the hybrid adds to the logits, chosen on the validation users; 0 leaves it out."""

    transitions: float = 0.0
    autoencoder: float = 0.0


class Config(msgspec.Struct, frozen=True):
    """The sizes that turn the weights back into a model; models/sasrec.json holds them."""

    num_books: Count
    sasrec: SasrecParams
    hybrid: HybridWeights = HybridWeights()

    def require_books(self, num_books: int) -> None:
        """Raise ValueError if the model has another number of books."""
        if self.num_books != num_books:
            raise ValueError(f"the model has {self.num_books} books, the data {num_books}")


def build_model(params: SasrecParams, num_books: int, generator: torch.Generator) -> Sasrec:
    """Return a new model on the CPU: embeddings from N(0, init_std), linear layers as PyTorch initialises them."""
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
    model.autoencoder.rows.fill_(-1)
    return model


def save_model(path: Path, model: Sasrec) -> None:
    """Write the weights as safetensors with a digest, from any device."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    path.write_bytes(digests.fill(to_bytes(tensors, metadata=digests.METADATA)))


def load_model(path: Path, config: Config) -> Sasrec:
    """Return the model that `save_model` wrote, on the CPU.

    Raises:
        UserError: the file is damaged, belongs to another config, or a weight is not float32 or not finite.

    """
    with files.naming_damage(path):
        content = path.read_bytes()
        digests.check(content)
        weights = from_bytes(content)
        model = _empty(config.sasrec, config.num_books, len(weights.get("autoencoder.weight", ())))
        model.load_state_dict(weights, assign=True)
        model.autoencoder.require_rows()
        floats = [tensor for name, tensor in weights.items() if name != "autoencoder.rows"]
        if not all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in floats):
            raise ValueError("a weight is not float32 or not finite")
    return model


def save_config(path: Path, config: Config) -> None:
    """Write the config as JSON, with a digest."""
    content = msgspec.json.encode(msgspec.to_builtins(config) | digests.METADATA)
    path.write_bytes(digests.fill(msgspec.json.format(content, indent=2) + b"\n"))


def load_config(path: Path) -> Config:
    """Return the config that `save_config` wrote; raise UserError if the file is damaged."""
    with files.naming_damage(path):
        content = path.read_bytes()
        digests.check(content)
        return msgspec.json.decode(content, type=Config)


def _empty(params: SasrecParams, num_books: int, num_inputs: int = 0) -> Sasrec:
    """Return a model without storage, because PyTorch's initialisation would draw from the global generator."""
    with torch.device("meta"):
        return Sasrec(params, num_books, num_inputs)
