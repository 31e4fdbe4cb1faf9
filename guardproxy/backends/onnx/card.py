"""What is known of an adapter: what it was trained on and for, and which texts it may judge.

A card is data that people read and programs obey: a text outside it (language, template, readable characters) makes
the check abstain with that reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from guardproxy.errors import ConfigError

SEQUENCE, TOKENS = "sequence", "tokens"


@dataclass(frozen=True, slots=True)
class Card:
    """An adapter's card.

    `labels` in the order of the model's outputs: for `sequence`, one logit each; for `tokens`, the model's outputs are
    O and then B and I of each label. `depth` is the first layer that is this adapter's own.
    """

    check: str
    version: str
    kind: str
    labels: tuple[str, ...]
    base: str  # SHA-256 of the base weights
    shared: str = ""  # SHA-256 of the adapter that is merged into the trunk, "" for none
    depth: int = 5
    max_tokens: int = 128
    overlap: int = 32
    roles: Mapping[str, str] = field(default_factory=dict)  # the template
    languages: tuple[str, ...] = ("en",)
    unknown: float = 0.3  # share of unknown tokens from which on it abstains
    uncertain: tuple[float, float] = (0.5, 0.5)  # probabilities strictly between these are no answer
    about: Mapping[str, Any] = field(default_factory=dict)  # for people: summary, data, limits, licence

    @property
    def outputs(self) -> int:
        """How many numbers the model gives: for a text, or for a token."""
        return len(self.labels) if self.kind == SEQUENCE else 1 + 2 * len(self.labels)


def load(path: Path) -> Card:
    """The card at `path`. Raises ConfigError, naming what is wrong with it."""
    data = yaml.safe_load(path.read_text("utf-8"))
    try:
        card = Card(
            **{
                **data,
                "labels": tuple(data["labels"]),
                "languages": tuple(data["languages"]),
                "uncertain": tuple(data.get("uncertain", (0.5, 0.5))),
            }
        )
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{path.name} of {path.parent.parent.name}: {error}") from None
    if card.kind not in (SEQUENCE, TOKENS):
        raise ConfigError(f"{path.name} of {card.check}: kind must be {SEQUENCE} or {TOKENS}")
    return card


def dump(card: Card, path: Path) -> None:
    """Writes the card, fields in their order."""
    data = {name: getattr(card, name) for name in Card.__dataclass_fields__}
    data |= {name: list(data[name]) for name in ("labels", "languages", "uncertain")}
    data |= {"roles": dict(card.roles), "about": dict(card.about)}
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=118), "utf-8")
