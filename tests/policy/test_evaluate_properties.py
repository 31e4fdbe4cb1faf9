"""evaluate: what must hold for every policy and all verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.policy.evaluate import UNHANDLED, combine, evaluate
from guardproxy.policy.model import (
    Allow,
    Block,
    CheckConfig,
    Escalate,
    FindingMatch,
    Flag,
    Judge,
    Method,
    OutcomeMatch,
    Policy,
    Rewrite,
    Rule,
)
from guardproxy.types import ANSWERS, Action, Decision, Finding, Outcome, Piece, Scope, Segment, Verdict, Window

LENGTH = 40
CHECKS = ("pii", "toxicity")
LABELS = ("A", "B")
SCORES = st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.8, 1.0])
CASES = settings(max_examples=60, deadline=None)

finding_matches = st.builds(
    FindingMatch,
    st.sampled_from(CHECKS),
    st.frozensets(st.sampled_from(LABELS)),
    st.sampled_from([0.3, 0.5, 0.8]),
    st.sampled_from([0.9, 1.01]),
)
outcome_matches = st.builds(
    OutcomeMatch,
    st.frozensets(st.sampled_from([o for o in Outcome if o is not Outcome.OK]), min_size=1),
    st.frozensets(st.sampled_from(CHECKS)),
)
rewrites = st.builds(Rewrite, st.sampled_from(Method), st.just("x"))
escalations = st.builds(Escalate, st.just("j"), st.sampled_from([Action.ALLOW, Action.BLOCK]), st.just("?"))
scopes = st.frozensets(st.sampled_from([Scope.PROMPT, Scope.COMPLETION]), min_size=1)


def rules_of(match: st.SearchStrategy[object], then: st.SearchStrategy[object]) -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule,
        id=st.just("r"),
        where=scopes,
        match=match,  # type: ignore[arg-type]
        then=then,  # type: ignore[arg-type]
        roles=st.sampled_from([frozenset[str](), frozenset({"user"}), frozenset({"system"})]),
        shadow=st.booleans(),
    )


finding_rules = rules_of(finding_matches, st.one_of(rewrites, escalations, st.just(Flag()), st.just(Block())))
outcome_rules = rules_of(outcome_matches, st.one_of(escalations, st.sampled_from([Allow(), Flag(), Block()])))
rule_lists = st.lists(st.one_of(finding_rules, outcome_rules), max_size=5)
findings = st.builds(
    lambda label, start, length, score: Finding(label, start, start + length, score),
    st.sampled_from(LABELS),
    st.integers(-3, LENGTH),
    st.integers(0, 15),
    SCORES,
)
verdicts = st.builds(
    Verdict,
    st.sampled_from(CHECKS),
    st.sampled_from(Outcome),
    st.lists(findings, max_size=4).map(tuple),
    st.dictionaries(st.sampled_from(LABELS), SCORES, max_size=2),
)
verdict_lists = st.lists(verdicts, max_size=4)
roles = st.sampled_from(["user", "system", "", "other"])


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start, end = sorted((draw(st.integers(0, LENGTH - 1)), draw(st.integers(1, LENGTH))))
    end = max(end, start + 1)
    pieces: tuple[Piece, ...] = ()
    if draw(st.booleans()):
        cuts = sorted(draw(st.sets(st.integers(0, LENGTH), min_size=2, max_size=6)))
        pieces = tuple(
            Piece(left, right, ("a", n), draw(st.booleans()))
            for n, (left, right) in enumerate(itertools.pairwise(cuts))
        )
    text = "x" * LENGTH
    segment = Segment("c", ("p",), "user", Scope.PROMPT, text, pieces)
    return Window(segment, 0, start, end, draw(st.integers(start, end)), text[:end])


def policy_of(rules: Sequence[Rule]) -> Policy:
    named = tuple(replace(rule, id=f"r{n}") for n, rule in enumerate(rules))
    return Policy("p", "1", "0" * 64, named, {name: CheckConfig(name) for name in CHECKS}, {"j": Judge("j", "u", "m")})


def judge(policy: Policy, found: Sequence[Verdict], window: Window, role: str = "user") -> Decision:
    return evaluate(policy, Scope.PROMPT, role, found, window)


@CASES
@given(rule_lists, verdict_lists, windows(), roles, st.randoms(use_true_random=False))
def test_the_order_of_verdicts_and_findings_never_matters(rules, found, window, role, random) -> None:  # type: ignore[no-untyped-def]
    policy = policy_of(rules)
    shuffled = [replace(v, findings=tuple(random.sample(v.findings, len(v.findings)))) for v in found]
    random.shuffle(shuffled)
    assert judge(policy, shuffled, window, role) == judge(policy, found, window, role)


@CASES
@given(rule_lists, verdict_lists, verdicts, windows(), roles)
def test_another_verdict_never_makes_it_laxer(rules, found, more, window, role) -> None:  # type: ignore[no-untyped-def]
    policy = policy_of(rules)
    assert judge(policy, [*found, more], window, role).action >= judge(policy, found, window, role).action


@CASES
@given(rule_lists, st.one_of(finding_rules, outcome_rules), verdict_lists, windows(), roles)
def test_another_rule_never_makes_it_laxer(rules, more, found, window, role) -> None:  # type: ignore[no-untyped-def]
    lenient = isinstance(more.match, OutcomeMatch) and not isinstance(more.then, Block)
    if lenient:  # to let failures pass is what such a rule is for
        more = replace(more, then=Block())
    before, after = judge(policy_of(rules), found, window, role), judge(policy_of([*rules, more]), found, window, role)
    assert after.action >= before.action


@CASES
@given(rule_lists, verdict_lists, windows(), roles)
def test_a_failure_that_nothing_speaks_of_always_blocks(rules, found, window, role) -> None:  # type: ignore[no-untyped-def]
    finding_only = [rule for rule in rules if isinstance(rule.match, FindingMatch) or rule.shadow]
    decision = judge(policy_of(finding_only), found, window, role)
    if any(verdict.outcome not in ANSWERS for verdict in found):
        assert decision.action is Action.BLOCK
        assert UNHANDLED in decision.rules
    else:
        assert UNHANDLED not in decision.rules


@CASES
@given(rule_lists, rule_lists, verdict_lists, windows(), roles)
def test_shadow_rules_change_neither_action_nor_edits(rules, more, found, window, role) -> None:  # type: ignore[no-untyped-def]
    enforced = judge(policy_of(rules), found, window, role)
    shadows = [replace(rule, shadow=True) for rule in more]
    both = judge(policy_of([*rules, *shadows]), found, window, role)
    assert replace(both, would=()) == replace(enforced, would=())
    assert both.would[: len(enforced.would)] == enforced.would


@CASES
@given(rule_lists, st.lists(verdict_lists, min_size=1, max_size=3), windows())
def test_edits_never_overlap_and_stay_in_range(rules, several, window) -> None:  # type: ignore[no-untyped-def]
    policy = policy_of(rules)
    combined = combine([judge(policy, found, window) for found in several], policy)
    segment = window.segment
    lengths = {piece.path: piece.end - piece.start for piece in segment.pieces} or {segment.path: len(segment.text)}
    ends: dict[object, int] = {}
    for edit in combined.edits:
        assert 0 <= edit.start < edit.end <= lengths[edit.path]
        assert edit.start >= ends.get(edit.path, 0)
        ends[edit.path] = edit.end
    if not segment.pieces:
        assert all(window.start <= edit.start < window.release and edit.end <= window.end for edit in combined.edits)
    assert combined.action is Action.REWRITE or not combined.edits


@CASES
@given(rule_lists, st.lists(verdict_lists, max_size=4), windows(), st.randoms(use_true_random=False))
def test_combine_is_the_strictest_in_any_order(rules, several, window, random) -> None:  # type: ignore[no-untyped-def]
    policy = policy_of(rules)
    decisions = [judge(policy, found, window) for found in several]
    combined = combine(decisions, policy)
    assert combined.action == max((decision.action for decision in decisions), default=Action.ALLOW)
    shuffled = random.sample(decisions, len(decisions))
    again = combine(shuffled, policy)
    assert replace(again, escalations=()) == replace(combined, escalations=())
    assert set(again.escalations) == set(combined.escalations)


@CASES
@given(st.lists(finding_rules, max_size=5), st.lists(findings, min_size=1, max_size=4), windows())
def test_every_matched_place_is_edited(rules, found, window) -> None:  # type: ignore[no-untyped-def]
    """No character that a rewrite rule matched before the release is left as it was."""
    rules = [replace(rule, where=frozenset({Scope.PROMPT}), roles=frozenset(), shadow=False) for rule in rules]
    rules = [rule for rule in rules if isinstance(rule.then, Rewrite)]
    segment = replace(window.segment, pieces=())
    window = replace(window, segment=segment)
    decision = judge(policy_of(rules), [Verdict("pii", findings=tuple(found))], window)
    covered = {at for edit in decision.edits for at in range(edit.start, edit.end)}
    for rule in rules:
        match = rule.match
        assert isinstance(match, FindingMatch)
        for each in found:
            start = max(each.start, window.start)
            matches = match.check == "pii" and (not match.labels or each.label in match.labels)
            if matches and match.at_least <= each.score < match.below and start < window.release:
                assert covered.issuperset(range(start, min(each.end, window.end)))
