"""The encoder with the heads of the checks on it, as it is trained.

The forward pass is written out over a BERT's own modules, because the branches of the serving graph are what is
trained: a tagger's shapes come in at its depth, and a classifier needs the last layer for its first token alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from guardproxy.backends.onnx.encode import SHAPES
from guardproxy.evaluation.datasets import LABELS


class SequenceHead(nn.Module):
    """Logits of a text from its first token. [batch, hidden] to [batch, labels]"""

    def __init__(self, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, labels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, first: Tensor) -> Tensor:
        return self.out(self.dropout(gelu(self.dense(self.dropout(first)))))  # type: ignore[no-any-return]


class TokenHead(nn.Module):
    """Logits of each token's tag, and what a token's shape adds on the way in. [batch, tokens, hidden]"""

    def __init__(self, hidden: int, tags: int, dropout: float) -> None:
        super().__init__()
        self.shape = nn.Embedding(SHAPES, hidden)
        nn.init.normal_(self.shape.weight, std=0.02)
        self.out = nn.Linear(hidden, tags)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        return self.out(self.dropout(states))  # type: ignore[no-any-return]


class Judges(nn.Module):
    """An encoder and a head for each task. `depths`: the layer at which a task's own part begins."""

    def __init__(self, bert: Any, tasks: Sequence[str], depths: Mapping[str, int], dropout: float = 0.1) -> None:
        super().__init__()
        self.bert = bert
        self.depths = dict(depths)
        hidden = bert.config.hidden_size
        self.heads = nn.ModuleDict(
            {
                task: TokenHead(hidden, 1 + 2 * len(LABELS[task]), dropout)
                if task == "pii"
                else SequenceHead(hidden, len(LABELS[task]), dropout)
                for task in tasks
            }
        )

    def embed(self, ids: Tensor) -> Tensor:
        """[batch, tokens] to [batch, tokens, hidden]"""
        parts = self.bert.embeddings
        positions = torch.arange(ids.shape[1], device=ids.device)
        states = (
            parts.word_embeddings(ids) + parts.position_embeddings(positions) + parts.token_type_embeddings.weight[0]
        )
        return parts.LayerNorm(states)  # type: ignore[no-any-return]

    def layers(self, states: Tensor, mask: Tensor, start: int, end: int) -> Tensor:
        """Through the layers [start, end). `mask` [batch, 1, 1, tokens] is true for what is read."""
        for layer in self.bert.encoder.layer[start:end]:
            states = block(layer, states, states, mask)
        return states

    def first(self, states: Tensor, mask: Tensor, start: int) -> Tensor:
        """Through the layers from `start` on, the last one for the first token alone. [batch, hidden]"""
        last = len(self.bert.encoder.layer) - 1
        states = self.layers(states, mask, start, last)
        return block(self.bert.encoder.layer[last], states[:, :1], states, mask)[:, 0]

    def tag(self, states: Tensor, shapes: Tensor, mask: Tensor) -> Tensor:
        """Tag logits from the states that enter the tagger's depth. [batch, tokens, tags]"""
        head = self.heads["pii"]
        states = states + head.shape(shapes)  # type: ignore[operator]
        return head(self.layers(states, mask, self.depths["pii"], len(self.bert.encoder.layer)))  # type: ignore[no-any-return]


def block(layer: Any, queries: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """One BERT layer (Devlin et al. 2018) for the tokens `queries` of `states`."""
    attention = layer.attention
    heads = attention.self.num_attention_heads

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], heads, -1).transpose(1, 2)

    mixed = scaled_dot_product_attention(
        split(attention.self.query(queries)),
        split(attention.self.key(states)),
        split(attention.self.value(states)),
        attn_mask=mask,
    )
    mixed = attention.output.dense(mixed.transpose(1, 2).flatten(2))
    seen = attention.output.LayerNorm(mixed + queries)
    grown = layer.output.dense(gelu(layer.intermediate.dense(seen)))
    return layer.output.LayerNorm(grown + seen)  # type: ignore[no-any-return]


def save_head(head: nn.Module, path: Path) -> None:
    """The head's weights, under the names that the export reads."""
    save_file({name: value.detach().contiguous().cpu() for name, value in head.state_dict().items()}, path)


def load_head(head: nn.Module, path: Path) -> None:
    """Puts saved weights into a head of the same form."""
    head.load_state_dict(load_file(path))
