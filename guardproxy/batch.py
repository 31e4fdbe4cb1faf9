"""Judges rows of text with the checks and the policy that guard live traffic, and writes down what they say.

The output's form is a promise: one row out for each row in, in the same order, with the scores of every label of a
check that classifies, and findings whose offsets are code points of the text as it was given. A check that gave no
answer says so in `outcome`; its scores are then what it would have said, if anything, and no judgement.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardproxy.checks.registry import specs
from guardproxy.checks.runner import Judged, Runner
from guardproxy.errors import ConfigError
from guardproxy.pipeline import decided
from guardproxy.policy.model import Policy
from guardproxy.types import ANSWERS, Decision, Outcome, Scope, Segment, Verdict

DEADLINE = 60.0  # seconds a text may take: nobody waits for it, so nothing is shed
DEFAULT_CHECKS = ("pii", "secrets", "toxicity", "injection", "compliance")
CLASSIFIERS = frozenset({"toxicity", "injection", "compliance"})
_ROLES: Mapping[str, tuple[Scope, str]] = {
    "prompt": (Scope.PROMPT, "user"),
    "completion": (Scope.COMPLETION, "assistant"),
    "tool_result": (Scope.TOOL_RESULT, "tool"),
    "document": (Scope.TOOL_RESULT, "tool"),
}
_SEVERITY = (Outcome.OK, Outcome.DEGRADED, Outcome.ABSTAINED, Outcome.TIMEOUT, Outcome.ERROR)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row to judge."""

    id: Any
    text: str = field(repr=False)
    role: str = "prompt"


def read(path: Path) -> Iterator[Entry]:
    """The rows of a JSON-lines file. Raises ConfigError with the number of the line that is no row; never its text."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
                entry = Entry(data.get("id", number), data["text"], data.get("role", "prompt"))
            except (ValueError, KeyError, AttributeError):
                raise ConfigError(f"{path.name}:{number}: not a JSON object with `text`") from None
            if not isinstance(entry.text, str) or entry.role not in _ROLES:
                raise ConfigError(f"{path.name}:{number}: `text` must be text, `role` one of {', '.join(_ROLES)}")
            yield entry


async def scan(
    entries: Iterable[Entry], runner: Runner, policy: Policy, checks: Sequence[str], parallel: int
) -> AsyncIterator[Mapping[str, Any]]:
    """What the checks and the policy say of each row, in order; up to `parallel` rows are being judged at a time."""
    waiting: list[asyncio.Task[Mapping[str, Any]]] = []
    try:
        for entry in entries:
            waiting.append(asyncio.create_task(_judged(entry, runner, policy, checks)))
            if len(waiting) >= parallel:
                yield await waiting.pop(0)
        while waiting:
            yield await waiting.pop(0)
    finally:
        for task in waiting:
            task.cancel()


async def _judged(entry: Entry, runner: Runner, policy: Policy, checks: Sequence[str]) -> Mapping[str, Any]:
    scope, role = _ROLES[entry.role]
    segment = Segment("row", ("text",), role, scope, entry.text)
    judged = await runner.run(checks, segment, DEADLINE) if entry.text else []
    decision = decided(policy, segment, judged)
    return {
        "id": entry.id,
        "verdicts": [_verdict(check, judged, runner) for check in checks],
        "decision": _decision(decision),
    }


def _verdict(check: str, judged: Sequence[Judged], runner: Runner) -> Mapping[str, Any]:
    """One check's verdicts on all windows as one: the worst outcome, each label's highest score, all findings."""
    verdicts = [v for each in judged for v in each.verdicts if v.check == check] or [runner.clean(check)]
    worst = max(verdicts, key=lambda v: _SEVERITY.index(v.outcome))
    scores = dict.fromkeys(sorted(specs()[check].labels), 0.0) if _classifies(check, worst) else {}
    for verdict in verdicts:
        for label, score in verdict.scores.items():
            scores[label] = max(score, scores.get(label, 0.0))
    findings = sorted({f for v in verdicts for f in v.findings}, key=lambda f: (f.start, f.end, f.label))
    if check in CLASSIFIERS:
        for finding in findings:
            scores[finding.label] = max(finding.score, scores.get(finding.label, 0.0))
    if check == "secrets" and worst.outcome in ANSWERS:
        scores["secret"] = max((finding.score for finding in findings), default=0.0)
    found: dict[str, Any] = {
        "check": check,
        "outcome": worst.outcome.value,
        "backend": _backend(verdicts, worst),
        "scores": {label: round(float(score), 6) for label, score in scores.items()},
        "findings": [
            {"label": f.label, "start": f.start, "end": f.end, "score": round(float(f.score), 6)} for f in findings
        ],
    }
    if worst.reason:
        found["reason"] = worst.reason
    return found


def _classifies(check: str, worst: Verdict) -> bool:
    return check in CLASSIFIERS and worst.outcome in ANSWERS


def _backend(verdicts: Collection[Verdict], worst: Verdict) -> str:
    return worst.backend or next((verdict.backend for verdict in verdicts if verdict.backend), "")


def _decision(decision: Decision) -> Mapping[str, Any]:
    shown: dict[str, Any] = {"action": decision.action.name.lower(), "policy": decision.policy}
    if decision.rules:
        shown["rules"] = list(decision.rules)
    if decision.would:
        shown["would"] = list(decision.would)
    return shown
