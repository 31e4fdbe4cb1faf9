"""A loaded policy: frozen, complete and checked. load.py makes it from YAML, evaluate.py asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from guardproxy.types import Action, Decision, Outcome, Scope

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
AT_LEAST = 0.5  # the score from which on a rule matches that does not say
UNBOUNDED = 1.01  # above every score
DEADLINE = 2.0  # seconds, all checks together
CHECK_DEADLINE = 1.0
JUDGE_DEADLINE = 5.0
JUDGE_THRESHOLD = 0.5
PART_KINDS = ("image", "audio", "video", "file", "tokens", "encrypted", "other")


class CheckInfo(Protocol):
    """What the loader needs to know of a check. checks.base.CheckSpec is one, without this layer knowing it."""

    @property
    def labels(self) -> frozenset[str]: ...

    @property
    def open_labels(self) -> bool: ...

    @property
    def ladder(self) -> tuple[str, ...]: ...

    @property
    def build(self) -> Callable[[Mapping[str, Any]], Any]:
        """Makes the check from its options; raises PolicyError where they are wrong. What it makes has `labels`."""
        ...


class Method(StrEnum):
    """How a rewrite replaces what was found."""

    MASK = "mask"  # [EMAIL_ADDRESS]
    REPLACE = "replace"  # the rule's own text
    HASH = "hash"  # [EMAIL_ADDRESS:3f9a1c04], keyed, the same for the same value
    PSEUDONYM = "pseudonym"  # [EMAIL_ADDRESS_1_k3f9], restored in the completion of the same request


@dataclass(frozen=True, slots=True)
class FindingMatch:
    """Matches a verdict's findings, and scores without a finding: at_least <= score < below.

    `least` has the labels that must reach more than `at_least`: the thresholds of an operating point, of which
    `at_least` is then the lowest.
    """

    check: str
    labels: frozenset[str] = frozenset()  # empty: any label of the check
    at_least: float = AT_LEAST
    below: float = UNBOUNDED
    least: Mapping[str, float] = field(default_factory=dict, hash=False)  # a mapping has no hash; it is compared


@dataclass(frozen=True, slots=True)
class OutcomeMatch:
    """Matches a verdict's outcome. `checks` empty: any check. `reasons` empty: any reason but those of `other_than`."""

    outcomes: frozenset[Outcome]
    checks: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    other_than: frozenset[str] = frozenset()


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
class ScopeRules:
    """The rules of one scope as evaluate() asks for them, each with its place in the policy's order."""

    findings: Mapping[str, tuple[tuple[int, Rule], ...]]  # by check
    outcomes: tuple[tuple[int, Rule], ...]
    degraded: bool  # whether some rule matches answers from a lower rung


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """How one check is run. `ladder` None: the check's default, or the --backend given at start."""

    name: str
    ladder: tuple[str, ...] | None = None
    deadline: float = CHECK_DEADLINE  # seconds
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judge:
    """A second OpenAI-compatible endpoint. Its key is in the environment variable `key_env`, never in the policy."""

    name: str
    url: str
    model: str
    key_env: str = ""
    deadline: float = JUDGE_DEADLINE  # seconds
    threshold: float = JUDGE_THRESHOLD  # a violation from this probability on


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
    """A whole policy. `ref` is name@version+hash, as decisions carry it.

    `allow`, `by_scope` and `order` follow from the rest: the one decision that most texts get, and the rules sorted so
    that evaluate() looks only at those that can match.
    """

    name: str
    version: str
    sha256: str
    rules: tuple[Rule, ...]
    checks: Mapping[str, CheckConfig]
    judges: Mapping[str, Judge] = field(default_factory=dict)
    unguarded: Action = Action.BLOCK  # routes that the proxy does not understand: ALLOW or BLOCK
    parts: Mapping[str, Action] = field(
        default_factory=dict
    )  # by kind: image, audio, video, file, tokens, encrypted, other
    refusal: RefusalStyle = RefusalStyle()
    deadline: float = DEADLINE  # seconds, for all checks of one request or window together
    description: str = ""
    allow: Decision = field(init=False, repr=False, compare=False)
    by_scope: Mapping[Scope, ScopeRules] = field(init=False, repr=False, compare=False)
    order: Mapping[str, int] = field(init=False, repr=False, compare=False)  # of rule ids

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow", Decision(Action.ALLOW, self.ref))
        object.__setattr__(self, "by_scope", {scope: _scope_rules(self.rules, scope) for scope in Scope})
        object.__setattr__(self, "order", {rule.id: index for index, rule in enumerate(self.rules)})

    @property
    def ref(self) -> str:
        """What decisions call this policy."""
        return f"{self.name}@{self.version}+{self.sha256[:12]}"


def _scope_rules(rules: tuple[Rule, ...], scope: Scope) -> ScopeRules:
    findings: dict[str, tuple[tuple[int, Rule], ...]] = {}
    outcomes: list[tuple[int, Rule]] = []
    degraded = False
    for index, rule in enumerate(rules):
        if scope not in rule.where:
            continue
        if isinstance(rule.match, FindingMatch):
            findings[rule.match.check] = (*findings.get(rule.match.check, ()), (index, rule))
        else:
            outcomes.append((index, rule))
            degraded = degraded or Outcome.DEGRADED in rule.match.outcomes
    return ScopeRules(findings, tuple(outcomes), degraded)
