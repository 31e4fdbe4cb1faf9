"""A loaded policy: frozen, complete and checked. load.py makes it from YAML, evaluate.py asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from guardproxy.types import Action, Outcome, Scope


class Method(StrEnum):
    """How a rewrite replaces what was found."""

    MASK = "mask"  # [EMAIL_ADDRESS]
    REPLACE = "replace"  # the rule's own text
    HASH = "hash"  # [EMAIL_ADDRESS:3f9a1c04], keyed, the same for the same value
    PSEUDONYM = "pseudonym"  # [EMAIL_ADDRESS_1_k3f9], restored in the completion of the same request


@dataclass(frozen=True, slots=True)
class FindingMatch:
    """Matches a verdict's findings, and scores without a finding: at_least <= score < below."""

    check: str
    labels: frozenset[str] = frozenset()  # empty: any label of the check
    at_least: float = 0.5
    below: float = 1.01


@dataclass(frozen=True, slots=True)
class OutcomeMatch:
    """Matches a verdict's outcome. `checks` empty: any check. `reasons` empty: any reason."""

    outcomes: frozenset[Outcome]
    checks: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Allow:
    """Lets a text pass although a check gave no answer. Only with an OutcomeMatch."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Lets pass, and records."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Edits what was found. Only with a FindingMatch."""

    method: Method
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class Escalate:
    """Asks the policy's judge `judge`; `meanwhile` (ALLOW or BLOCK) holds until it has answered."""

    judge: str
    meanwhile: Action
    question: str


@dataclass(frozen=True, slots=True)
class Block:
    """Refuses."""


Then = Allow | Flag | Rewrite | Escalate | Block


@dataclass(frozen=True, slots=True)
class Rule:
    """`where`: scopes; `roles`: message roles, empty for any."""

    id: str
    where: frozenset[Scope]
    match: FindingMatch | OutcomeMatch
    then: Then
    roles: frozenset[str] = frozenset()
    shadow: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """How one check is run. `ladder` None: the check's default, or the --backend given at start."""

    name: str
    ladder: tuple[str, ...] | None = None
    deadline: float = 1.0  # seconds
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judge:
    """A second OpenAI-compatible endpoint. The key is read from the environment variable named, never from the policy."""

    name: str
    url: str
    model: str
    key_env: str = ""
    deadline: float = 5.0  # seconds
    threshold: float = 0.5  # a violation from this probability on


class RefusalShape(StrEnum):
    """How a block looks to the caller."""

    ERROR = "error"  # HTTP 400, an OpenAI error object with code content_filter
    COMPLETION = "completion"  # a normal completion with the refusal text and finish_reason content_filter


@dataclass(frozen=True, slots=True)
class RefusalStyle:
    """The wording and the shape of refusals, for prompts and for completions."""

    message: str = "This request was declined by the content policy."
    prompt: RefusalShape = RefusalShape.ERROR
    completion: RefusalShape = RefusalShape.COMPLETION


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy. `ref` is name@version+hash, as decisions carry it."""

    name: str
    version: str
    sha256: str
    rules: tuple[Rule, ...]
    checks: Mapping[str, CheckConfig]
    judges: Mapping[str, Judge] = field(default_factory=dict)
    unguarded: Action = Action.BLOCK  # routes that the proxy does not understand: ALLOW or BLOCK
    parts: Mapping[str, Action] = field(default_factory=dict)  # by kind: image, audio, video, file, tokens, encrypted, other
    refusal: RefusalStyle = RefusalStyle()
    deadline: float = 2.0  # seconds, for all checks of one request or window together
    description: str = ""

    @property
    def ref(self) -> str:
        """What decisions call this policy."""
        return f"{self.name}@{self.version}+{self.sha256[:12]}"
