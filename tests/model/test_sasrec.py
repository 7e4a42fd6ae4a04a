"""The model against plain loops written from the paper's equations."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from sasrec.model import dropout, matmul
from sasrec.model.sasrec import (
    Config,
    FeedForward,
    Sasrec,
    SasrecParams,
    SelfAttention,
    build_model,
    load_model,
    save_model,
)

PARAMS = SasrecParams(
    max_len=6, hidden_units=8, num_heads=2, num_layers=2, dropout_rate=0.5, norm_first=False, init_std=0.5
)
NUM_BOOKS = 20
HISTORY = torch.tensor([[0, 0, 4, 9, 9, 2], [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 7]])


def build(**changes: object) -> Sasrec:
    return build_model(msgspec.structs.replace(PARAMS, **changes), NUM_BOOKS, torch.Generator().manual_seed(0))


def features_of(network: Sasrec, history: Tensor) -> Tensor:
    """The features of every position, where the last book has the last one."""
    positions = last_positions(network, history)
    return network.encode(network.item_embedding(history), positions, (history != 0).int())


def last_positions(network: Sasrec, history: Tensor) -> Tensor:
    return torch.arange(network.params.max_len)[-history.shape[1] :].expand_as(history)


def layer_norm(row: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    scaled = (row - row.mean()) / math.sqrt(row.var() + 1e-6)
    return scaled * norm.weight.numpy() + norm.bias.numpy()


def attend(rows: np.ndarray, history: list[int], attention: SelfAttention) -> np.ndarray:
    """One place and one head at a time, looking only at books that are not later."""
    width = rows.shape[1]
    head_width = width // attention.num_heads
    query, key, value = (rows @ part.T for part in np.split(attention.query_key_value.weight.numpy(), 3))
    mixed = np.zeros_like(rows)
    for place in range(len(rows)):
        seen = [other for other in range(place + 1) if history[other] != 0]
        for start in range(0, width, head_width):
            head = slice(start, start + head_width)
            scores = [math.exp(query[place, head] @ key[other, head] / math.sqrt(head_width)) for other in seen]
            for score, other in zip(scores, seen, strict=True):
                mixed[place, head] += score / sum(scores) * value[other, head]
    return mixed @ attention.output.weight.numpy().T


def transform(rows: np.ndarray, layer: FeedForward) -> np.ndarray:
    inner = np.maximum(rows @ layer.inner.weight.numpy().T + layer.inner.bias.numpy(), 0)
    return inner @ layer.outer.weight.numpy().T + layer.outer.bias.numpy()


@torch.no_grad()
def by_hand(network: Sasrec, history: list[int]) -> np.ndarray:
    items, positions = network.item_embedding.weight.numpy(), network.position_embedding.weight.numpy()
    rows = np.stack([layer_norm(items[b] + positions[i], network.embedding_norm) for i, b in enumerate(history)])
    for block in network.blocks:
        norms = block.attention_norm, block.feed_forward_norm
        sublayers = (
            (lambda x, b=block: attend(x, history, b.attention)),
            (lambda x, b=block: transform(x, b.feed_forward)),
        )
        for norm, sublayer in zip(norms, sublayers, strict=True):
            if network.params.norm_first:
                rows = rows + sublayer(np.stack([layer_norm(row, norm) for row in rows]))
            else:
                rows = np.stack([layer_norm(row, norm) for row in rows + sublayer(rows)])
    return np.stack([layer_norm(row, network.final_norm) for row in rows]) if network.params.norm_first else rows


@pytest.mark.parametrize("num_heads", [1, 2, 4, 8])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("portable", [False, True])
def test_features_are_those_of_plain_loops(
    num_heads: int, norm_first: bool, portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "PORTABLE", portable)
    network = build(num_heads=num_heads, norm_first=norm_first)
    features = features_of(network, HISTORY).detach().numpy()
    for row, history in zip(features, HISTORY.tolist(), strict=True):
        books = [place for place, book in enumerate(history) if book != 0]
        np.testing.assert_allclose(row[books], by_hand(network, history)[books], atol=1e-5)


def test_a_later_book_never_changes_an_earlier_place() -> None:
    network = build()
    before = features_of(network, HISTORY)
    for place in range(HISTORY.shape[1]):
        changed = HISTORY.clone()
        changed[:, place:] = (changed[:, place:] + 11) % NUM_BOOKS + 1
        assert torch.equal(features_of(network, changed)[:, :place], before[:, :place])


def test_more_padding_on_the_left_changes_nothing() -> None:
    network = build(max_len=9)
    short = HISTORY[:, 2:]
    padded = torch.cat([torch.zeros(3, 5, dtype=torch.int64), short], dim=1)
    books = short != 0
    torch.testing.assert_close(features_of(network, padded)[:, 5:][books], features_of(network, short)[books])


def test_what_the_padding_holds_is_never_seen() -> None:
    network = build()
    before = features_of(network, HISTORY)[HISTORY != 0]
    with torch.no_grad():
        network.item_embedding.weight[0] = 100.0
    torch.testing.assert_close(features_of(network, HISTORY)[HISTORY != 0], before)


@pytest.mark.parametrize("num_heads", [1, 4])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_the_forward_pass_gives_the_features_of_the_last_position(
    num_heads: int, norm_first: bool, num_layers: int
) -> None:
    network = build(num_heads=num_heads, norm_first=norm_first, num_layers=num_layers)
    expected = features_of(network, HISTORY)[:, -1]
    torch.testing.assert_close(network(HISTORY, last_positions(network, HISTORY)), expected)


def test_an_empty_history_gives_finite_features() -> None:
    assert torch.isfinite(features_of(build(), torch.zeros(1, 6, dtype=torch.int64))).all()


def test_histories_that_share_a_row_do_not_see_each_other() -> None:
    network = build()
    pair = torch.tensor([[4, 9, 3, 8, 2, 0]])
    positions, segments = torch.tensor([[4, 5, 3, 4, 5, 0]]), torch.tensor([[1, 1, 2, 2, 2, 0]])
    together = network.encode(network.item_embedding(pair), positions, segments)
    torch.testing.assert_close(together[:, :2], features_of(network, torch.tensor([[4, 9]])))
    torch.testing.assert_close(together[:, 2:5], features_of(network, torch.tensor([[3, 8, 2]])))


def random_bytes(num_rows: int, seed: int = 0) -> dropout.RandomBytes:
    return dropout.RandomBytes(torch.Generator().manual_seed(seed), num_rows, range(num_rows))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_zeroes_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    dropped = dropout.dropout(torch.ones(1000, 1000), rate, random_bytes(1000))
    assert (dropped == 0).double().mean() == pytest.approx(rate, abs=0.004)  # 1/512 of rounding, and chance
    assert dropped.double().mean() == pytest.approx(1, abs=0.01)
    assert len(dropped.unique()) == 2


def test_a_dropped_change_is_added_to_what_it_changes() -> None:
    x, change = torch.full((50, 50), 7.0), torch.rand(50, 50)
    expected = 7 + dropout.dropout(change, 0.25, random_bytes(50))
    torch.testing.assert_close(dropout.add_dropped(x, change, 0.25, random_bytes(50)), expected)


def test_a_rate_close_to_1_still_lets_something_through() -> None:
    dropped = dropout.dropout(torch.ones(100, 1000), 0.9999, random_bytes(100))
    assert dropped.max() == 256
    assert dropped.mean().item() == pytest.approx(1, abs=0.25)


def test_dropout_is_drawn_from_the_generator_alone() -> None:
    network = build()
    items, positions = network.item_embedding(HISTORY), torch.arange(6).expand_as(HISTORY)

    def with_seed(seed: int) -> Tensor:
        torch.manual_seed(int(torch.seed()) % 1000)
        return network.encode(items, positions, HISTORY, random_bytes(len(HISTORY), seed))

    assert torch.equal(with_seed(1), with_seed(1))
    assert not torch.equal(with_seed(1), with_seed(2))


def test_the_start_is_drawn_from_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = build(), build()
    assert torch.equal(torch.random.get_rng_state(), state)
    for mine, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_embeddings_start_with_the_std_asked_for_and_the_padding_at_zero() -> None:
    params = msgspec.structs.replace(PARAMS, hidden_units=64, init_std=0.02)
    weight = build_model(params, 5000, torch.Generator().manual_seed(0)).item_embedding.weight
    assert weight[1:].std().item() == pytest.approx(0.02, rel=0.01)
    assert weight[0].abs().max() == 0


def test_a_saved_model_gives_the_same_features(tmp_path: Path) -> None:
    network = build(norm_first=True)
    save_model(tmp_path / "weights", network)
    loaded = load_model(tmp_path / "weights", Config(NUM_BOOKS, network.params))
    assert torch.equal(features_of(loaded, HISTORY), features_of(network, HISTORY))
