"""Checks that exist only here, so that the policy's tests depend on no real check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from guardproxy.errors import PolicyError
from guardproxy.policy.load import parse
from guardproxy.policy.model import Policy
from guardproxy.policy.points import Points


@dataclass
class Built:
    """What building a check gives."""

    labels: frozenset[str]


@dataclass(frozen=True)
class Info:
    """A CheckInfo."""

    labels: frozenset[str] = frozenset()
    open_labels: bool = False
    ladder: tuple[str, ...] = ()

    def build(self, options: Mapping[str, Any]) -> Built:
        """Takes `lists` if the labels are open, `countries` always."""
        for key in options:
            if key not in ("lists", "countries"):
                raise PolicyError(f"checks.x.{key}: unknown option")
        return Built(frozenset(options.get("lists", {})) if self.open_labels else self.labels)


SPECS: Mapping[str, Info] = {
    "pii": Info(frozenset({"EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD"})),
    "toxicity": Info(frozenset({"toxic", "insult"}), ladder=("rules",)),
    "keywords": Info(open_labels=True),
}
HEAD = 'name: p\nversion: "1"\n'


@pytest.fixture(scope="session")
def specs() -> Mapping[str, Info]:
    """The checks that exist here."""
    return SPECS


@pytest.fixture(scope="session")
def make() -> Callable[..., Policy]:
    """Makes a policy of rules in YAML, and of what is put before them."""

    def policy(rules: str, before: str = "", points: Points | None = None) -> Policy:
        return parse(f"{HEAD}{before}\nrules:\n{rules}", SPECS, name="p.yaml", points=points)

    return policy


@pytest.fixture(scope="session")
def complaints() -> Callable[..., list[str]]:
    """The complaints about a whole policy's text."""

    def of(text: str, points: Points | None = None) -> list[str]:
        with pytest.raises(PolicyError) as raised:
            parse(text, SPECS, name="p.yaml", backends=("rules", "onnx"), points=points)
        assert str(raised.value).startswith(raised.value.place + ": ")
        return str(raised.value).split("\n")

    return of
