"""Runs the cases that stand beside a policy, in NAME_test.yaml, through the same evaluate() that traffic goes through.

A case gives a text and says what must come of it: the action, and if it likes the rules, the shadow rules, the judges
asked and the words replaced. What it does not say is not compared. A case may also give the verdicts on its text, so
that a policy can be tested without any model; without them, the caller asks the checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from guardproxy.errors import PolicyError
from guardproxy.policy.evaluate import evaluate
from guardproxy.policy.model import ROLES, Policy
from guardproxy.policy.rules import SCOPES
from guardproxy.source import read_yaml
from guardproxy.strict import Placed, Problems, Reader, Unfit, number, one_of, several, text
from guardproxy.types import Decision, Finding, Outcome, Scope, Segment, Verdict, Window

_ACTIONS = ("allow", "rewrite", "block")
_WORDS = several(text)


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of a case. None: not compared. All but the action are compared as sets."""

    action: str
    rules: frozenset[str] | None = None
    would: frozenset[str] | None = None
    asks: frozenset[str] | None = None  # the judges
    replaced: frozenset[str] | None = None  # the words that edits replace


@dataclass(frozen=True, slots=True)
class Case:
    """One text, the verdicts on it, and what must come of it."""

    name: str
    place: str
    scope: Scope
    role: str
    expected: Expected
    text: str = field(repr=False)
    verdicts: tuple[Verdict, ...] | None = field(default=None, repr=False)  # None: the checks are to be asked

    @property
    def segment(self) -> Segment:
        """The text as the checks are given it."""
        return Segment("test", ("text",), self.role, self.scope, self.text)


def read_cases(path: str | PathLike[str]) -> list[Case]:
    """The cases in the file at `path`. Raises PolicyError with all mistakes, one a line."""
    problems = Problems()
    try:
        root = read_yaml(Path(path).read_bytes(), str(path), problems)
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror or type(error).__name__}", place=str(path)) from None
    cases: list[Case] = []
    if root is not None:
        reader = Reader(root, problems, "a file of cases")
        node = reader.node("cases")
        reader.finish()
        if node is None or not isinstance(node.value, list) or not node.value:
            problems.add(root.place, "expected `cases:`, a list with at least one case")
        else:
            cases = [_case(item, problems) for item in node.value]
    if problems:
        problems.sort()
        (place, message), *_ = problems.found
        raise PolicyError("\n".join([message, *list(problems)[1:]]), place=place)
    return cases


def decide(policy: Policy, case: Case) -> Decision:
    """The policy's decision on the verdicts that the case gives; without any, on a text in which nothing is found."""
    end = len(case.text)
    window = Window(case.segment, 0, 0, end, end, case.text)
    return evaluate(policy, case.scope, case.role, case.verdicts or (), window)


def differences(case: Case, decision: Decision) -> list[str]:
    """How the decision differs from what the case expects; nothing if it does not."""
    return _compare(case.expected, decision, case.text)


def _compare(expected: Expected, decision: Decision, text: str) -> list[str]:
    found: list[str] = []
    action = decision.action.name.lower()
    if action != expected.action:
        by = f" (by {', '.join(decision.rules)})" if decision.rules else ""
        found.append(f"action: expected {expected.action}, got {action}{by}")
    got: Mapping[str, frozenset[str]] = {
        "rules": frozenset(decision.rules),
        "would": frozenset(decision.would),
        "asks": frozenset(wish.judge for wish in decision.escalations),
        "replaced": frozenset(text[edit.start : edit.end] for edit in decision.edits),
    }
    for name, words in got.items():
        wanted: frozenset[str] | None = getattr(expected, name)
        if wanted is not None and wanted != words:
            found.append(f"{name}: expected {_listed(wanted)}, got {_listed(words)}")
    return found


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words)) or "none"


def _case(node: Placed, problems: Problems) -> Case:
    reader = Reader(node, problems, "a case")
    name = reader.take("name", text, "", required=True)
    scope = Scope(reader.take("scope", one_of(SCOPES), str(Scope.PROMPT), required=True))
    role = reader.take("role", one_of(ROLES), "")
    content = reader.take("text", text, "", required=True)
    verdicts, expect = reader.node("verdicts"), reader.node("expect")
    if expect is None:
        problems.add(node.place, "a case needs `expect`")
    reader.finish()
    expected = _expected(expect, problems) if expect else Expected("allow")
    items = verdicts.value if verdicts is not None and isinstance(verdicts.value, list) else []
    read = None if verdicts is None else tuple(_verdict(item, content, problems) for item in items)
    return Case(name, node.place, scope, role, expected, content, read)


def _expected(node: Placed, problems: Problems) -> Expected:
    reader = Reader(node, problems, "`expect`")
    action = reader.take("action", one_of(_ACTIONS), "allow", required=True)
    words = {
        key: frozenset(reader.take(key, _any_words, ())) if reader.has(key) else None
        for key in ("rules", "would", "asks", "replaced")
    }
    reader.take("rules", _any_words, ())
    reader.finish()
    return Expected(action, **words)


def _any_words(node: Placed) -> tuple[str, ...]:
    return () if node.value == [] else _WORDS(node)


def _verdict(node: Placed, content: str, problems: Problems) -> Verdict:
    reader = Reader(node, problems, "a verdict")
    check = reader.take("check", text, "", required=True)
    outcome = Outcome(reader.take("outcome", one_of([str(each) for each in Outcome]), "ok"))
    reason = reader.take("reason", text, "")
    findings, scores = reader.node("findings"), reader.node("scores")
    reader.finish()
    items = findings.value if findings is not None and isinstance(findings.value, list) else []
    found = tuple(finding for item in items for finding in _findings(item, content, problems))
    return Verdict(check, outcome, found, _scores(scores, problems), reason)


def _findings(node: Placed, content: str, problems: Problems) -> list[Finding]:
    """One finding for each time that the words given stand in the text."""
    reader = Reader(node, problems, "a finding")
    label = reader.take("label", text, "", required=True)
    words = reader.take("text", text, "", required=True)
    score = reader.take("score", number(0.0, 1.0), 1.0)
    reader.finish()
    starts: list[int] = []
    start = content.find(words) if words else -1
    while start >= 0:
        starts.append(start)
        start = content.find(words, start + len(words))
    if words and not starts:
        problems.add(reader.place("text"), "these words do not stand in the case's text")
    return [Finding(label, start, start + len(words), score) for start in starts]


def _scores(node: Placed | None, problems: Problems) -> dict[str, float]:
    scores: dict[str, float] = {}
    if node is not None and isinstance(node.value, dict):
        for label, value in node.value.items():
            try:
                scores[label] = number(0.0, 1.0)(value)
            except Unfit as error:
                problems.add(value.place, str(error))
    return scores
