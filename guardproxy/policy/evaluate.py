"""What a policy says of verdicts: a pure function, so that a decision can be replayed, tested and explained.

- The order of the verdicts never matters, and the strictest action of all rules wins.
- A check that gave no answer, and of which no enforced outcome rule speaks, blocks, as the rule `unhandled-outcome`.
  Nothing passes because nobody thought of a failure.
- Shadow rules are recorded and change nothing.
- Edits never overlap: what overlaps is replaced as one, by the stricter method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from guardproxy.policy.model import (
    ROLES,
    Allow,
    Block,
    Escalate,
    FindingMatch,
    Flag,
    Method,
    OutcomeMatch,
    Policy,
    Rewrite,
    Rule,
    ScopeRules,
    Then,
)
from guardproxy.types import (
    ANSWERS,
    Action,
    Decision,
    Edit,
    Escalation,
    Outcome,
    Path,
    Scope,
    Segment,
    Verdict,
    Window,
)

UNHANDLED = "unhandled-outcome"
"""The rule that decisions name where a check failed and the policy says nothing of it."""


class _Stretch(NamedTuple):
    """Something that a rule matched, in the segment's offsets."""

    label: str
    start: int
    end: int
    score: float


class _Ranked(NamedTuple):
    """An edit, and the score that speaks for it."""

    edit: Edit
    score: float


_Hits = dict[int, tuple[Rule, list[_Stretch]]]


def evaluate(policy: Policy, segment_scope: Scope, role: str, verdicts: Sequence[Verdict], window: Window) -> Decision:
    """What is done with one window of a text of this scope and role, given all checks' verdicts on it.

    Where nothing was found and all checks answered, this is `policy.allow` itself.
    """
    rules = policy.by_scope[segment_scope]
    for verdict in verdicts:
        if verdict.findings or verdict.scores or not _plain_answer(verdict, rules):
            break
    else:
        return policy.allow
    hits: _Hits = {}
    unhandled = False
    for verdict in verdicts:
        if not _plain_answer(verdict, rules):
            handled = _match_outcome(rules, role, verdict, hits)
            unhandled = unhandled or not (handled or verdict.outcome in ANSWERS)
        if verdict.findings or verdict.scores:
            _match_findings(rules, role, verdict, window, hits)
    return _decide(policy, hits, unhandled, window) if hits or unhandled else policy.allow


def combine(decisions: Iterable[Decision], policy: Policy) -> Decision:
    """One decision for several windows or segments: the strictest action, and everything that any of them recorded."""
    telling = [decision for decision in decisions if decision is not policy.allow]
    if len(telling) <= 1:
        return telling[0] if telling else policy.allow
    action = max(decision.action for decision in telling)
    rules = {rule for decision in telling for rule in decision.rules}
    would = {entry for decision in telling for entry in decision.would}
    if action is Action.BLOCK:
        edits: tuple[Edit, ...] = ()
        escalations: tuple[Escalation, ...] = ()
    else:
        edits = _merged(_Ranked(edit, 0.0) for decision in telling for edit in decision.edits)
        escalations = tuple(dict.fromkeys(wish for decision in telling for wish in decision.escalations))
    return Decision(
        action, policy.ref, _ordered(rules, policy.order), edits, escalations, _ordered(would, policy.order)
    )


def needed(policy: Policy) -> Mapping[Scope, tuple[str, ...]]:
    """The checks that each scope needs: those that some rule for it names, enforced or shadow, in the policy's order.

    An outcome rule for any check names none.
    """
    wanted: dict[Scope, tuple[str, ...]] = {}
    for scope in Scope:
        rules = policy.by_scope[scope]
        named = set(rules.findings)
        for _, rule in rules.outcomes:
            if isinstance(rule.match, OutcomeMatch):
                named |= rule.match.checks
        known = [name for name in policy.checks if name in named]
        wanted[scope] = (*known, *sorted(named.difference(known)))
    return wanted


def _plain_answer(verdict: Verdict, rules: ScopeRules) -> bool:
    """Whether the outcome alone can make no difference."""
    return verdict.outcome is Outcome.OK or (verdict.outcome is Outcome.DEGRADED and not rules.degraded)


def _speaks_of(rule: Rule, role: str) -> bool:
    """Whether the rule is for this role.

    A role that we do not know could be any, so every rule applies, except one that would let the text pass.
    """
    if not rule.roles or role in rule.roles:
        return True
    return role not in ROLES and not isinstance(rule.then, Allow | Flag)


def _match_outcome(rules: ScopeRules, role: str, verdict: Verdict, hits: _Hits) -> bool:
    """Notes the outcome rules that match; true if an enforced one does."""
    handled = False
    for index, rule in rules.outcomes:
        match = rule.match
        if (
            isinstance(match, OutcomeMatch)
            and verdict.outcome in match.outcomes
            and (not match.checks or verdict.check in match.checks)
            and (not match.reasons or verdict.reason in match.reasons)
            and verdict.reason not in match.other_than
            and _speaks_of(rule, role)
        ):
            hits.setdefault(index, (rule, []))
            handled = handled or not rule.shadow
    return handled


def _match_findings(rules: ScopeRules, role: str, verdict: Verdict, window: Window, hits: _Hits) -> None:
    """Notes the finding rules that match, with what they matched."""
    for index, rule in rules.findings.get(verdict.check, ()):
        match = rule.match
        if isinstance(match, FindingMatch) and _speaks_of(rule, role):
            stretches = _stretches(match, verdict, window)
            if isinstance(rule.then, Rewrite):
                # What begins in the held tail is judged again in the next window, with what follows it.
                stretches = [stretch for stretch in stretches if stretch.start < window.release]
            if stretches:
                hits.setdefault(index, (rule, []))[1].extend(stretches)


def _stretches(match: FindingMatch, verdict: Verdict, window: Window) -> list[_Stretch]:
    """The findings that match, and the whole window for a score that matches and has no such finding."""
    matched: list[_Stretch] = []
    located: set[str] = set()
    for finding in verdict.findings:
        if (not match.labels or finding.label in match.labels) and _within(match, finding.label, finding.score):
            located.add(finding.label)
            if finding.end > window.start:  # else it lies in the context, which the window before answered for
                start, end = max(finding.start, window.start), min(finding.end, window.end)
                matched.append(_Stretch(finding.label, start, end, finding.score))
    for label, score in verdict.scores.items():
        if label not in located and (not match.labels or label in match.labels) and _within(match, label, score):
            matched.append(_Stretch(label, window.start, window.end, score))
    return matched


def _within(match: FindingMatch, label: str, score: float) -> bool:
    # Written so that a score which is no number matches: nonsense must not pass for "nothing found".
    return not (score < match.at_least or score >= match.below or (match.least and score < match.least.get(label, 0.0)))


def _decide(policy: Policy, hits: _Hits, unhandled: bool, window: Window) -> Decision:
    action = Action.BLOCK if unhandled else Action.ALLOW
    applied: list[str] = []
    would: list[str] = []
    edits: list[_Ranked] = []
    escalations: list[Escalation] = []
    for _, (rule, stretches) in sorted(hits.items()):
        if rule.shadow:
            would.append(f"{rule.id}:{action_word(rule.then)}")
            continue
        applied.append(rule.id)
        if isinstance(rule.then, Block):
            action = Action.BLOCK
        elif isinstance(rule.then, Rewrite):
            action = max(action, Action.REWRITE)
            edits.extend(edit for stretch in stretches for edit in _edits(window.segment, stretch, rule.then))
        elif isinstance(rule.then, Escalate):
            then = rule.then
            escalations.append(Escalation(rule.id, then.judge, then.meanwhile, then.question, window.text))
    if unhandled:
        applied.append(UNHANDLED)
    if action is Action.BLOCK:  # nothing is left to edit or to ask about
        return Decision(action, policy.ref, tuple(applied), would=tuple(would))
    return Decision(action, policy.ref, tuple(applied), _merged(edits), tuple(escalations), tuple(would))


def action_word(then: Then) -> str:
    """What a rule does, as the word that stands for it in a policy."""
    return type(then).__name__.lower()


def _edits(segment: Segment, stretch: _Stretch, rewrite: Rewrite) -> Iterator[_Ranked]:
    """The edits for one stretch: one, or one for each piece that it touches.

    The first piece gets the replacement and the others are emptied.
    """
    if stretch.start >= stretch.end:
        return
    method, replacement = str(rewrite.method), _replacement(rewrite, stretch.label)
    if not segment.pieces:
        edit = Edit(segment.path, stretch.start, stretch.end, replacement, method, stretch.label)
        yield _Ranked(edit, stretch.score)
        return
    for piece in segment.pieces:
        start, end = max(stretch.start, piece.start), min(stretch.end, piece.end)
        if start >= end:
            continue
        if piece.literal:
            start, end = piece.start, piece.end
        start, end = start - piece.start, end - piece.start
        edit = Edit(piece.path, start, end, replacement, method, stretch.label, piece.literal)
        yield _Ranked(edit, stretch.score)
        method, replacement = str(Method.REPLACE), ""


def _replacement(rewrite: Rewrite, label: str) -> str:
    if rewrite.method is Method.MASK:
        return f"[{label}]"
    return rewrite.replacement if rewrite.method is Method.REPLACE else ""


def _merged(edits: Iterable[_Ranked]) -> tuple[Edit, ...]:
    """The edits sorted by place, each group of overlapping ones as a single edit of all that they cover."""
    by_path: dict[Path, list[_Ranked]] = {}
    for ranked in edits:
        by_path.setdefault(ranked.edit.path, []).append(ranked)
    merged: list[Edit] = []
    for path in sorted(by_path, key=_path_key):
        group: list[_Ranked] = []
        end = -1
        for ranked in sorted(by_path[path], key=lambda each: (each.edit.start, each.edit.end)):
            if group and ranked.edit.start >= end:
                merged.append(_union(group))
                group = []
            end = max(end, ranked.edit.end) if group else ranked.edit.end
            group.append(ranked)
        merged.append(_union(group))
    return tuple(merged)


def _union(group: Sequence[_Ranked]) -> Edit:
    if len(group) == 1:
        return group[0].edit
    best = max(group, key=_rank).edit
    start, end = min(each.edit.start for each in group), max(each.edit.end for each in group)
    literal = any(each.edit.literal for each in group)
    return Edit(best.path, start, end, best.replacement, best.method, best.label, literal)


def _rank(ranked: _Ranked) -> tuple[bool, float, int, str, str, str]:
    """What decides between overlapping edits; the last three only make the choice independent of the order."""
    edit, score = ranked
    known = score if score == score else 1.0  # NaN differs from itself, and would make the order unsteady
    irreversible = edit.method != Method.PSEUDONYM
    return irreversible, known, edit.end - edit.start, edit.label, edit.method, edit.replacement


def _path_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, step, "") if isinstance(step, int) else (1, 0, str(step)) for step in path)


def _ordered(entries: Iterable[str], order: Mapping[str, int]) -> tuple[str, ...]:
    """Rule ids, alone or as "id:action", in the policy's order; what the policy does not know comes last."""
    return tuple(sorted(entries, key=lambda entry: (order.get(entry.partition(":")[0], len(order)), entry)))
