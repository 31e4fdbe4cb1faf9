"""What a graph has to compute, written down in the plainest way, to hold the graph against.

BERT (Devlin et al. 2018) in 64-bit floats, one text, one layer after the other for all tokens: none of the forms that
make the graph fast. It shares no code with the graph but the merging of weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardproxy.backends.onnx.card import TOKENS
from guardproxy.training.graph_parts import Branch
from guardproxy.training.lora import merged

Array = NDArray[Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def logits(
    base: Mapping[str, Array], config: Mapping[str, Any], branch: Branch, given: Mapping[str, NDArray[np.int64]]
) -> Array:
    """The branch's logits for one text: [labels], or [n, labels]. Arguments as for the graph."""
    weights, ids = merged(base, branch.deltas), given["ids"]
    head = {name: tensor.astype(np.float64) for name, tensor in branch.head.items()}
    epsilon, count = config["layer_norm_eps"], config["num_hidden_layers"]
    states = weights["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    states += weights["embeddings.position_embeddings.weight"][: len(ids)]
    states += weights["embeddings.token_type_embeddings.weight"][0]
    states = _norm(states, weights, "embeddings", epsilon)
    for number in range(count + 1):
        if branch.kind == TOKENS and number == branch.depth:
            states = states + head["shape.weight"][given["shapes"]]
        if number < count:
            states = _layer(states, weights, number, config["num_attention_heads"], epsilon)
    if branch.kind != TOKENS:
        states = _gelu(states[0] @ head["dense.weight"].T + head["dense.bias"])
    return np.asarray(states @ head["out.weight"].T + head["out.bias"])


def _layer(states: Array, weights: Mapping[str, Array], number: int, heads: int, epsilon: float) -> Array:
    prefix = f"encoder.layer.{number}."

    def linear(value: Array, name: str) -> Array:
        return np.asarray(value @ weights[f"{prefix}{name}.weight"].T + weights[f"{prefix}{name}.bias"])

    def by_head(value: Array) -> Array:
        return value.reshape(len(value), heads, -1).transpose(1, 0, 2)

    query, key, value = (by_head(linear(states, f"attention.self.{name}")) for name in ("query", "key", "value"))
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    read = (shares @ value).transpose(1, 0, 2).reshape(states.shape)
    mixed = linear(read, "attention.output.dense") + states
    seen = _norm(mixed, weights, f"{prefix}attention.output", epsilon)
    grown = linear(_gelu(linear(seen, "intermediate.dense")), "output.dense") + seen
    return _norm(grown, weights, f"{prefix}output", epsilon)


def _norm(value: Array, weights: Mapping[str, Array], name: str, epsilon: float) -> Array:
    centred = value - value.mean(axis=-1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon)
    return np.asarray(centred / spread * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"])


def _gelu(value: Array) -> Array:
    return np.asarray(value / 2 * (1 + _erf(value / math.sqrt(2))))
