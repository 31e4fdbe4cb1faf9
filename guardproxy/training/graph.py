"""One graph for all checks: what they share is computed once, and nothing is computed that no check needs.

- The trunk (embeddings and layers of the base, with the shared adapter merged in) serves every branch up to its depth;
  from there on the branch has its own copy of the layers, with its own adapter merged in.
- A branch that judges a whole text reads the first token of its last layer, so that layer is computed for that token
  alone. A branch that judges tokens is told the shape of each (the base is uncased) where its own layers begin.
- Branches share nothing but the trunk, so that leaving an output out leaves out all that it alone needs.

Inputs `ids` and, where a branch judges tokens, `shapes`: int64 [n], one text at its exact length, no padding. One
output a branch, under its name: logits, float [labels] or [n, labels].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from guardproxy.backends.onnx.card import SEQUENCE, TOKENS
from guardproxy.errors import ConfigError
from guardproxy.training import graph_layers as layers
from guardproxy.training import graph_parts as parts
from guardproxy.training.graph_layers import Array
from guardproxy.training.graph_nodes import LENGTH, Nodes
from guardproxy.training.graph_parts import Branch, Trunk
from guardproxy.training.quantise import LOGITS, PLACES, WORDS, Sample, outlying, quantised

__all__ = ["Branch", "arranged", "build", "quantised"]

Apart = Mapping[str, Sequence[int]]
"""Columns of a layer's widest state that get a product of their own, by the layer's name in the graph."""

_TRUNK = "shared"


def build(
    base: Mapping[str, Array], config: Mapping[str, Any], branches: Sequence[Branch], apart: Apart | None = None
) -> onnx.ModelProto:
    """The graph in 32-bit floats, with one output for each of `branches`, in their order.

    `base`: the trunk's weights, named as transformers' BertModel names them. `config`: its config.json. `apart` changes
    how layers are computed, not what. Raises ConfigError where base or branches are not what they have to be.
    """
    trunk = parts.trunk(base, config)
    names = [branch.name for branch in branches]
    if not names or len(set(names)) < len(names):
        raise ConfigError("a graph needs checks, each once")
    for branch in branches:
        parts.fit(branch, trunk)
    building = _Building(Nodes(), trunk, apart or {})
    states = building.states(branches)
    outputs = [building.branch(branch, states[branch.depth]) for branch in branches]
    tokens = any(branch.kind == TOKENS for branch in branches)
    return building.nodes.model(["ids", "shapes"] if tokens else ["ids"], outputs)


def arranged(
    base: Mapping[str, Array], config: Mapping[str, Any], branches: Sequence[Branch], samples: Sequence[Sample]
) -> onnx.ModelProto:
    """The same graph, prepared for 8 bits: what `samples` show to be great is apart."""
    return build(base, config, branches, outlying(build(base, config, branches), samples))


@dataclass(frozen=True, slots=True)
class _Building:
    nodes: Nodes
    trunk: Trunk
    apart: Apart

    def states(self, branches: Sequence[Branch]) -> dict[int, str]:
        """The trunk's state before each layer, as deep as branches begin."""
        states = {0: self._embedded()}
        on_top = [branch for branch in branches if branch.depth == self.trunk.count]
        alone = all(branch.kind == SEQUENCE for branch in on_top)
        for number in range(max(branch.depth for branch in branches)):
            states[number + 1] = self._layer(states[number], _TRUNK, number, {}, alone)
        return states

    def branch(self, branch: Branch, state: str) -> onnx.ValueInfoProto:
        """A branch's own layers and head, from the state that enters its depth."""
        head = {key: tensor.astype(np.float32) for key, tensor in branch.head.items()}
        if branch.kind == TOKENS:
            table = self.nodes.constant(f"{branch.name}/shapes.table", head["shape.weight"])
            shape = self.nodes.node("Gather", [table, "shapes"], f"{branch.name}/shape")
            state = self.nodes.node("Add", [state, shape], f"{branch.name}/entered")
        for number in range(branch.depth, self.trunk.count):
            state = self._layer(state, branch.name, number, branch.deltas, branch.kind == SEQUENCE)
        if branch.kind == SEQUENCE:
            # Where another branch wants all tokens of the trunk's last layer, the first is still to be taken.
            own = branch.depth < self.trunk.count
            token = state if own else layers.first_token(self.nodes, state, f"{branch.name}/token")
            return self._judged(branch.name, token, head)
        self._logits(branch.name, state, head, output=branch.name)
        return helper.make_tensor_value_info(branch.name, TensorProto.FLOAT, [LENGTH, len(head["out.bias"])])

    def _layer(self, state: str, owner: str, number: int, deltas: Mapping[str, Array], alone: bool) -> str:
        """One layer; the last one for the first token `alone`, where nobody wants the others."""
        layer, name = self.trunk.layer(number, deltas), f"{owner}/{number}"
        if alone and number == self.trunk.count - 1:
            return layers.first(self.nodes, state, layer, name)
        return layers.whole(self.nodes, state, layer, name, self.apart.get(name, ()))

    def _embedded(self) -> str:
        def table(name: str) -> Array:
            return self.trunk.weights[f"embeddings.{name}"].astype(np.float32)

        nodes = self.nodes
        words = nodes.constant(f"{_TRUNK}{WORDS}", table("word_embeddings.weight"))
        word = nodes.node("Gather", [words, "ids"], f"{_TRUNK}/word")
        both = table("position_embeddings.weight") + table("token_type_embeddings.weight")[0]
        places, zero = nodes.constant(f"{_TRUNK}{PLACES}", both), nodes.constant("/0", [0])
        length = nodes.node("Shape", ["ids"], f"{_TRUNK}/length")
        place = nodes.node("Slice", [places, zero, length, zero], f"{_TRUNK}/place")
        summed = nodes.node("Add", [word, place], f"{_TRUNK}/summed")
        norm = table("LayerNorm.weight"), table("LayerNorm.bias")
        return nodes.norm(summed, *norm, self.trunk.epsilon, f"{_TRUNK}/embedded")

    def _judged(self, name: str, token: str, head: Mapping[str, Array]) -> onnx.ValueInfoProto:
        dense = self.nodes.linear(token, head["dense.weight"].T, head["dense.bias"], f"{name}/dense")
        logits = self._logits(name, self.nodes.gelu(dense, f"{name}/bent"), head)
        labels = len(head["out.bias"])
        self.nodes.shaped(logits, (labels,), name)
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [labels])

    def _logits(self, name: str, state: str, head: Mapping[str, Array], output: str = "") -> str:
        own = f"{name}{LOGITS.removesuffix('.weight')}"
        return self.nodes.linear(state, head["out.weight"].T, head["out.bias"], own, output)
