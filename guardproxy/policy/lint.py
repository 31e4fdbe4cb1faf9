"""Says what a policy may say and probably does not mean: warnings for `guardproxy policy check`, never errors."""

from __future__ import annotations

from collections.abc import Iterator

from guardproxy.policy.evaluate import UNHANDLED, needed
from guardproxy.policy.model import FindingMatch, Method, OutcomeMatch, Policy, Rewrite
from guardproxy.types import Outcome, Scope

_FAILURES = (Outcome.ABSTAINED, Outcome.TIMEOUT, Outcome.ERROR)
_CALIBRATED = "onnx"
_REPLIES = (Scope.COMPLETION, Scope.TOOL_CALL)


def lint(policy: Policy, backend: str = "") -> list[str]:
    """Warnings, one line each. `backend`: what answers for checks for which the policy names no ladder."""
    return [
        *_unused(policy),
        *_unhandled(policy),
        *_blind(policy),
        *_one_way(policy),
        *_uncalibrated(policy, backend),
    ]


def _unused(policy: Policy) -> Iterator[str]:
    named = {name for names in needed(policy).values() for name in names}
    for name in policy.checks:
        if name not in named:
            yield f"the check {name} never runs: no rule names it"
    judged = {getattr(rule.then, "judge", "") for rule in policy.rules}
    for judge in policy.judges:
        if judge not in judged:
            yield f"the judge {judge} is never asked: no rule escalates to it"


def _unhandled(policy: Policy) -> Iterator[str]:
    """Failures for which only the built-in answer is left."""
    for scope, names in needed(policy).items():
        by_outcomes: dict[str, list[str]] = {}
        for name in names:
            open_outcomes = [str(outcome) for outcome in _FAILURES if not _handled(policy, scope, name, outcome)]
            if open_outcomes:
                by_outcomes.setdefault(" or ".join(open_outcomes), []).append(name)
        for outcomes, checks in by_outcomes.items():
            yield (
                f"{scope}: no rule says what happens on {outcomes} of {', '.join(checks)}; "
                f"such texts are blocked (as `{UNHANDLED}`)"
            )


def _handled(policy: Policy, scope: Scope, check: str, outcome: Outcome) -> bool:
    return any(
        isinstance(rule.match, OutcomeMatch)
        and not rule.shadow
        and not rule.roles
        and not rule.match.reasons
        and outcome in rule.match.outcomes
        and (not rule.match.checks or check in rule.match.checks)
        for _, rule in policy.by_scope[scope].outcomes
    )


def _blind(policy: Policy) -> Iterator[str]:
    """Checks that run for nothing but to see whether they fail."""
    for scope, names in needed(policy).items():
        for name in names:
            if name not in policy.by_scope[scope].findings:
                yield f"{scope}: {name} runs there only to see whether it fails; no rule looks at what it finds"


def _one_way(policy: Policy) -> Iterator[str]:
    """Pseudonyms that nothing will ever restore."""
    for rule in policy.rules:
        if isinstance(rule.match, FindingMatch) and isinstance(rule.then, Rewrite):
            places = [str(scope) for scope in _REPLIES if scope in rule.where]
            if rule.then.method is Method.PSEUDONYM and places:
                yield (
                    f"the rule {rule.id} makes pseudonyms in {' and '.join(places)}, where nothing restores them; "
                    "`mask` says the same more plainly"
                )


def _uncalibrated(policy: Policy, backend: str) -> Iterator[str]:
    """Rates of false positives asked of scores that nobody has calibrated."""
    for rule in policy.rules:
        if not isinstance(rule.match, FindingMatch) or not rule.match.least:
            continue
        check = rule.match.check
        ladder = policy.checks[check].ladder
        if (ladder[0] if ladder else backend) != _CALIBRATED:
            yield (
                f"the rule {rule.id} names a rate of false positives, which only the scores of {_CALIBRATED} keep, and "
                f"{check} does not begin with it: write `ladder: [{_CALIBRATED}, rules]` under checks.{check}, "
                f"or start with --backend {_CALIBRATED}"
            )
