"""BERT's layers as nodes, in the forms that cost least and give the same numbers.

- Softmax is blind to what it adds to all keys alike, so the key's bias is left out; probabilities sum to one, so the
  value's bias moves into the bias of what follows; the scale of the scores moves into the query.
- Where only the first token of a layer is wanted, keys and values are never made: with q a head's query and K, V its
  projections, q.(K h) = (K'q).h and sum p (V h) = V (sum p h). The layer then costs what a single token costs,
  whatever the length of the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardproxy.training.graph_nodes import Nodes

Array = NDArray[Any]

MODULES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""The linear maps of a layer, below `encoder.layer.N.`."""


def module(layer: int, name: str) -> str:
    """The full name of one of MODULES."""
    return f"encoder.layer.{layer}.{name}"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's weights as the graph uses them; maps are [in, out]."""

    heads: int
    epsilon: float
    query: Array  # scaled by 1 / sqrt(width of a head)
    query_bias: Array
    key: Array  # [hidden out, hidden in], as stored
    value: Array
    mixed: Array  # the map after attention
    mixed_bias: Array  # with the value's bias
    first_norm: tuple[Array, Array]
    wide: Array
    wide_bias: Array
    narrow: Array
    narrow_bias: Array
    second_norm: tuple[Array, Array]

    @property
    def hidden(self) -> int:
        """Width of a token."""
        return int(self.query.shape[0])


def layer(weights: Mapping[str, Array], number: int, heads: int, epsilon: float) -> Layer:
    """Layer `number` of `weights`, which are named as transformers' BertModel names them."""

    def get(name: str) -> Array:
        return weights[module(number, name)].astype(np.float64)

    def norm(name: str) -> tuple[Array, Array]:
        return _single(get(f"{name}.LayerNorm.weight")), _single(get(f"{name}.LayerNorm.bias"))

    mixed = get("attention.output.dense.weight")
    scale = (mixed.shape[0] // heads) ** -0.5
    return Layer(
        heads=heads,
        epsilon=epsilon,
        query=_single(get("attention.self.query.weight").T * scale),
        query_bias=_single(get("attention.self.query.bias") * scale),
        key=_single(get("attention.self.key.weight")),
        value=_single(get("attention.self.value.weight")),
        mixed=_single(mixed.T),
        mixed_bias=_single(get("attention.output.dense.bias") + mixed @ get("attention.self.value.bias")),
        first_norm=norm("attention.output"),
        wide=_single(get("intermediate.dense.weight").T),
        wide_bias=_single(get("intermediate.dense.bias")),
        narrow=_single(get("output.dense.weight").T),
        narrow_bias=_single(get("output.dense.bias")),
        second_norm=norm("output"),
    )


def whole(nodes: Nodes, value: str, layer: Layer, name: str, apart: Sequence[int] = ()) -> str:
    """All tokens: [n, hidden] to [n, hidden]. One product makes queries, keys and values.

    The columns `apart` of the widest state get a product of their own, which gives the same and can stay in floats.
    """
    width = layer.hidden // layer.heads
    together = np.concatenate([layer.query, layer.key.T, layer.value.T], axis=1)
    bias = np.concatenate([layer.query_bias, np.zeros(2 * layer.hidden, dtype=np.float32)])
    projected = nodes.linear(value, together, bias, f"{name}/projected")
    by_head = nodes.shaped(projected, (0, 3 * layer.heads, width), f"{name}/by_head")
    turned = nodes.node("Transpose", [by_head], f"{name}/turned", perm=[1, 0, 2])
    query, key, content = nodes.parts(turned, [f"{name}/{part}" for part in ("query", "key", "value")], axis=0)
    key = nodes.node("Transpose", [key], f"{name}/key_turned", perm=[0, 2, 1])
    scores = nodes.node("MatMul", [query, key], f"{name}/scores")
    shares = nodes.node("Softmax", [scores], f"{name}/shares", axis=-1)
    read = nodes.node("MatMul", [shares, content], f"{name}/read")
    back = nodes.node("Transpose", [read], f"{name}/read_turned", perm=[1, 0, 2])
    joined = nodes.shaped(back, (0, layer.hidden), f"{name}/joined")
    return _after_attention(nodes, value, joined, layer, name, apart)


def first(nodes: Nodes, value: str, layer: Layer, name: str) -> str:
    """The first token alone: [n, hidden] to [1, hidden]."""
    width = layer.hidden // layer.heads
    token = first_token(nodes, value, f"{name}/token")
    query = nodes.linear(token, layer.query, layer.query_bias, f"{name}/query")
    by_head = nodes.shaped(query, (layer.heads, 1, width), f"{name}/by_head")
    key = nodes.constant(f"{name}/key.weight", layer.key.reshape(layer.heads, width, layer.hidden))
    asked = nodes.node("MatMul", [by_head, key], f"{name}/asked")
    asked = nodes.shaped(asked, (layer.heads, layer.hidden), f"{name}/asked_flat")
    tokens = nodes.node("Transpose", [value], f"{name}/tokens", perm=[1, 0])
    scores = nodes.node("MatMul", [asked, tokens], f"{name}/scores")
    shares = nodes.node("Softmax", [scores], f"{name}/shares", axis=-1)
    read = nodes.node("MatMul", [shares, value], f"{name}/read")
    read = nodes.shaped(read, (layer.heads, 1, layer.hidden), f"{name}/read_by_head")
    content = layer.value.reshape(layer.heads, width, layer.hidden).transpose(0, 2, 1)
    valued = nodes.node("MatMul", [read, nodes.constant(f"{name}/value.weight", content)], f"{name}/valued")
    joined = nodes.shaped(valued, (1, layer.hidden), f"{name}/joined")
    return _after_attention(nodes, token, joined, layer, name)


def first_token(nodes: Nodes, value: str, output: str) -> str:
    """[n, hidden] to [1, hidden]."""
    zero, one = nodes.constant("/0", [0]), nodes.constant("/1", [1])
    return nodes.node("Slice", [value, zero, one, zero], output)


def _after_attention(nodes: Nodes, value: str, joined: str, layer: Layer, name: str, apart: Sequence[int] = ()) -> str:
    mixed = nodes.linear(joined, layer.mixed, layer.mixed_bias, f"{name}/mixed")
    added = nodes.node("Add", [mixed, value], f"{name}/mixed_added")
    normed = nodes.norm(added, *layer.first_norm, layer.epsilon, f"{name}/attended")
    columns = np.isin(np.arange(len(layer.wide_bias)), apart)
    most, most_bias, narrow = (np.where(columns, 0, each) for each in (layer.wide, layer.wide_bias, layer.narrow.T))
    wide = nodes.gelu(nodes.linear(normed, most, most_bias, f"{name}/wide"), f"{name}/gelu")
    narrowed = nodes.linear(wide, narrow.T, layer.narrow_bias, f"{name}/narrow")
    if len(apart):
        normed = _beside(nodes, normed, layer, columns, name)
    added = nodes.node("Add", [narrowed, normed], f"{name}/narrow_added")
    return nodes.norm(added, *layer.second_norm, layer.epsilon, f"{name}/out")


def _beside(nodes: Nodes, normed: str, layer: Layer, columns: Array, name: str) -> str:
    """What some columns of the widest state add to `normed`; a zero takes their place among the others."""

    def product(value: str, weight: Array, added: str, output: str) -> str:
        return nodes.node("Gemm", [value, nodes.constant(f"{output}.weight", weight), added], output)

    bias = nodes.constant(f"{name}/few.bias", layer.wide_bias[columns])
    few = product(normed, layer.wide[:, columns], bias, f"{name}/few")
    return product(nodes.gelu(few, f"{name}/few_gelu"), layer.narrow[columns], normed, f"{name}/beside")


def _single(array: Array) -> NDArray[np.float32]:
    return array.astype(np.float32)
