"""What a graph is built from: the trunk's weights and the checks' branches, each held to what it says of itself.

Nothing is filled in and nothing is dropped: a weight that is missing, and one that would find no use, are errors here
and not scores that are a little wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardproxy.backends.onnx.card import SEQUENCE, TOKENS
from guardproxy.errors import ConfigError
from guardproxy.training import graph_layers as layers
from guardproxy.training.graph_layers import Array, Layer
from guardproxy.training.lora import merged

HEADS: Mapping[str, tuple[str, ...]] = {
    SEQUENCE: ("dense.weight", "dense.bias", "out.weight", "out.bias"),
    TOKENS: ("shape.weight", "out.weight", "out.bias"),
}
"""The tensors of each kind's head."""

_NAME = re.compile(r"(?!(shared|ids|shapes)$)[a-z][a-z0-9_]*", re.ASCII)
_FIXED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_SIZES = ("num_hidden_layers", "num_attention_heads", "layer_norm_eps")
_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


@dataclass(frozen=True, slots=True)
class Branch:
    """A check's part of the graph. `deltas` are its adapter's, by module, [out, in]; `head` is named as in HEADS."""

    name: str
    kind: str
    depth: int  # its first own layer; the number of layers means that it has none
    deltas: Mapping[str, Array]
    head: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Trunk:
    """The base with the shared adapter merged in; `weights` are named as transformers' BertModel names them."""

    weights: Mapping[str, Array]
    count: int  # of layers
    heads: int
    epsilon: float

    @property
    def hidden(self) -> int:
        """Width of a token."""
        return int(self.weights["embeddings.word_embeddings.weight"].shape[1])

    def layer(self, number: int, deltas: Mapping[str, Array] | None = None) -> Layer:
        """A layer of the trunk's, or of a branch's with its `deltas`."""
        prefix = f"encoder.layer.{number}."
        own = {name: delta for name, delta in (deltas or {}).items() if name.startswith(prefix)}
        return layers.layer(merged(self.weights, own), number, self.heads, self.epsilon)


def trunk(weights: Mapping[str, Array], config: Mapping[str, Any]) -> Trunk:
    """The trunk of `weights` and the base's config.json. Raises ConfigError where it is no BERT of the known form."""
    for key, value in _FIXED.items():
        if config.get(key, "absolute") != value:
            raise ConfigError(f"the base's {key} must be {value}")
    for key in _SIZES:
        if not isinstance(config.get(key), int | float):
            raise ConfigError(f"the base's configuration has no {key}")
    found = Trunk(weights, *(config[key] for key in _SIZES))
    names = [f"embeddings.{each}" for each in _TABLES]
    names += [layers.module(n, each) for n in range(found.count) for each in (*layers.MODULES, *_NORMS)]
    for name in names:
        if f"{name}.weight" not in weights:
            raise ConfigError(f"the base has no {name}.weight")
    return found


def fit(branch: Branch, trunk: Trunk) -> None:
    """Raises ConfigError where a branch would not do all that it says, or not on this trunk."""
    if not _NAME.fullmatch(branch.name):
        raise ConfigError("a check's name must be of small letters and digits, and not one that the graph uses itself")
    if not 0 <= branch.depth <= trunk.count:
        raise ConfigError(f"{branch.name}: depth must be from 0 to {trunk.count}")
    own = {layers.module(n, each) for n in range(branch.depth, trunk.count) for each in layers.MODULES}
    for name in branch.deltas:
        if name not in own:
            raise ConfigError(f"{branch.name}: the adapter changes {name}, which is not its own")
    _fit_head(branch, trunk.hidden)


def _fit_head(branch: Branch, hidden: int) -> None:
    wanted = HEADS.get(branch.kind, ())
    if set(branch.head) != set(wanted):
        raise ConfigError(f"{branch.name}: the head must have {', '.join(wanted)} and nothing else")
    for name, tensor in branch.head.items():
        bias = branch.head.get(name.replace(".weight", ".bias"), tensor)
        form = (len(bias), hidden) if name.endswith(".weight") else (len(bias),)
        if tensor.shape != form or (name == "dense.bias" and len(tensor) != hidden):
            raise ConfigError(f"{branch.name}: {name} of the head does not fit")
