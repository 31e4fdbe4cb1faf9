"""evaluate: what a policy says of verdicts, by example."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from guardproxy.policy.evaluate import UNHANDLED, combine, evaluate, needed
from guardproxy.policy.model import Policy
from guardproxy.types import (
    Action,
    Decision,
    Edit,
    Escalation,
    Finding,
    Mark,
    Outcome,
    Piece,
    Scope,
    Segment,
    Verdict,
    Window,
)

Make = Callable[..., Policy]
TEXT = "mail a@b.example or call 555-0100 now, and then some more words"
EMAIL, PHONE = (5, 16), (25, 33)
JUDGE = "judges: {large: {url: https://judge.example/v1, model: m}}"


def window(
    text: str = TEXT, *, start: int = 0, end: int | None = None, release: int | None = None, **segment: object
) -> Window:
    fields: dict[str, object] = {"role": "user", "scope": Scope.PROMPT, "pieces": ()} | segment
    seg = Segment("c", ("messages", 0, "content"), text=text, **fields)  # type: ignore[arg-type]
    stop = len(text) if end is None else end
    return Window(seg, 0, start, stop, stop if release is None else release, text[:stop])


def verdict(
    check: str = "pii", *findings: Finding, outcome: Outcome = Outcome.OK, reason: str = "", **scores: float
) -> Verdict:
    return Verdict(check, outcome, findings, scores, reason)


def email(score: float = 0.9, span: tuple[int, int] = EMAIL) -> Finding:
    return Finding("EMAIL_ADDRESS", *span, score)


def judge(policy: Policy, *verdicts: Verdict, at: Window | None = None, role: str = "user") -> Decision:
    at = at or window()
    return evaluate(policy, at.segment.scope, role, verdicts, at)


MASK = "  - {id: mask, where: prompt, if: {check: pii, score: 0.6}, then: {rewrite: mask}}\n"
BLOCK = "  - {id: block, where: prompt, if: {check: toxicity, labels: toxic, score: 0.8}, then: block}\n"
FLAG = "  - {id: flag, where: prompt, if: {check: toxicity, score: {at_least: 0.5, below: 0.8}}, then: flag}\n"


def test_nothing_found_is_one_shared_decision(make: Make) -> None:
    policy = make(MASK + BLOCK)
    assert judge(policy, verdict("pii"), verdict("toxicity", outcome=Outcome.DEGRADED)) is policy.allow
    assert judge(policy) is policy.allow
    assert policy.allow == Decision(Action.ALLOW, policy.ref)
    assert judge(policy, verdict("pii", email(0.5)), verdict("toxicity", toxic=0.79)) is policy.allow


def test_a_finding_is_masked_where_it_stands(make: Make) -> None:
    decision = judge(make(MASK), verdict("pii", email()))
    path = ("messages", 0, "content")
    assert decision.action is Action.REWRITE
    assert decision.rules == ("mask",)
    assert decision.edits == (Edit(path, *EMAIL, "[EMAIL_ADDRESS]", "mask", "EMAIL_ADDRESS"),)


def test_thresholds_include_their_lower_end_and_not_their_upper(make: Make) -> None:
    policy = make(BLOCK + FLAG)
    rules = {score: judge(policy, verdict("toxicity", toxic=score)).rules for score in (0.49, 0.5, 0.79, 0.8, 1.0)}
    assert rules == {0.49: (), 0.5: ("flag",), 0.79: ("flag",), 0.8: ("block",), 1.0: ("block",)}


def test_the_strictest_action_wins_and_a_block_leaves_nothing_to_edit(make: Make) -> None:
    decision = judge(make(MASK + BLOCK), verdict("pii", email()), verdict("toxicity", toxic=0.9))
    assert (decision.action, decision.rules, decision.edits) == (Action.BLOCK, ("mask", "block"), ())


def test_a_flag_is_recorded_and_allows(make: Make) -> None:
    decision = judge(make(FLAG), verdict("toxicity", insult=0.6))
    assert (decision.action, decision.rules) == (Action.ALLOW, ("flag",))


@pytest.mark.parametrize("outcome", [Outcome.ABSTAINED, Outcome.TIMEOUT, Outcome.ERROR])
def test_an_unhandled_failure_blocks(make: Make, outcome: Outcome) -> None:
    decision = judge(make(MASK), verdict("pii", outcome=outcome))
    assert (decision.action, decision.rules) == (Action.BLOCK, (UNHANDLED,))


@pytest.mark.parametrize(
    ("rule", "action"),
    [
        ("if: {outcome: timeout, checks: any}, then: allow", Action.ALLOW),
        ("if: {outcome: timeout}, then: flag", Action.ALLOW),
        ("if: {outcome: timeout, checks: [toxicity]}, then: allow", Action.BLOCK),
        ("if: {outcome: error}, then: allow", Action.BLOCK),
        ("if: {outcome: timeout}, then: allow, mode: shadow", Action.BLOCK),
        ("if: {outcome: timeout, reasons: [queue full]}, then: allow", Action.BLOCK),
        ("if: {outcome: timeout, reasons: [too slow]}, then: allow", Action.ALLOW),
        ("if: {outcome: timeout}, then: allow, roles: [assistant]", Action.BLOCK),
    ],
)
def test_only_a_rule_that_really_speaks_of_a_failure_lets_it_pass(make: Make, rule: str, action: Action) -> None:
    policy = make(f"  - {{id: r, where: prompt, {rule}}}\n")
    assert judge(policy, verdict("pii", outcome=Outcome.TIMEOUT, reason="too slow")).action is action


def test_one_handled_failure_does_not_cover_another(make: Make) -> None:
    policy = make("  - {id: r, where: prompt, if: {outcome: timeout, checks: [pii]}, then: allow}\n")
    slow = [verdict(check, outcome=Outcome.TIMEOUT) for check in ("pii", "toxicity")]
    assert judge(policy, *slow).rules == ("r", UNHANDLED)
    assert judge(policy, *slow).action is Action.BLOCK


def test_the_strictest_of_several_outcome_rules_wins(make: Make) -> None:
    rules = "  - {id: a, where: prompt, if: {outcome: timeout}, then: allow}\n"
    rules += "  - {id: b, where: prompt, if: {outcome: [timeout, error]}, then: block}\n"
    decision = judge(make(rules), verdict("pii", outcome=Outcome.TIMEOUT))
    assert (decision.action, decision.rules) == (Action.BLOCK, ("a", "b"))


def test_a_degraded_answer_is_an_answer_that_a_rule_may_name(make: Make) -> None:
    rules = "  - {id: d, where: prompt, if: {outcome: degraded}, then: flag}\n"
    assert judge(make(MASK + rules), verdict("pii", outcome=Outcome.DEGRADED)).rules == ("d",)
    assert judge(make(MASK), verdict("pii", email(), outcome=Outcome.DEGRADED)).action is Action.REWRITE


def test_what_a_failed_check_had_found_still_counts(make: Make) -> None:
    rules = MASK + "  - {id: t, where: prompt, if: {outcome: timeout}, then: flag}\n"
    decision = judge(make(rules), verdict("pii", email(), outcome=Outcome.TIMEOUT))
    assert (decision.action, decision.rules) == (Action.REWRITE, ("mask", "t"))


def test_scope_decides_which_rules_are_asked(make: Make) -> None:
    policy = make(MASK)
    at = window(scope=Scope.COMPLETION, role="assistant")
    assert judge(policy, verdict("pii", email()), at=at, role="assistant") is policy.allow


@pytest.mark.parametrize(("role", "action"), [("user", 2), ("system", 0), ("", 2), ("usr", 2), ("User", 2)])
def test_an_unknown_role_escapes_no_rule(make: Make, role: str, action: int) -> None:
    policy = make("  - {id: r, where: prompt, roles: [user], if: {check: toxicity}, then: block}\n")
    assert judge(policy, verdict("toxicity", toxic=0.9), role=role).action == action


def test_an_unknown_role_gains_no_exception(make: Make) -> None:
    policy = make("  - {id: r, where: prompt, roles: [system], if: {outcome: error}, then: allow}\n")
    failed = verdict("pii", outcome=Outcome.ERROR)
    assert judge(policy, failed, role="system").action is Action.ALLOW
    assert judge(policy, failed, role="").action is Action.BLOCK


def test_a_shadow_rule_is_recorded_and_changes_nothing(make: Make) -> None:
    rules = BLOCK.replace("then: block", "then: block, mode: shadow")
    rules += MASK.replace("id: mask", "id: quiet").replace("mask}}", "mask}, mode: shadow}")
    decision = judge(make(rules), verdict("pii", email()), verdict("toxicity", toxic=0.9))
    assert decision == Decision(Action.ALLOW, decision.policy, would=("block:block", "quiet:rewrite"))


def test_an_escalation_asks_and_allows_meanwhile(make: Make) -> None:
    rules = '  - {id: ask, where: prompt, if: {check: toxicity}, then: {escalate: large, question: "Is it?"}}\n'
    decision = judge(make(rules + BLOCK, JUDGE), verdict("toxicity", toxic=0.6))
    assert decision.action is Action.ALLOW
    assert decision.escalations == (Escalation("ask", "large", Action.BLOCK, "Is it?", TEXT),)
    blocked = judge(make(rules + BLOCK, JUDGE), verdict("toxicity", toxic=0.9))
    assert (blocked.action, blocked.rules, blocked.escalations) == (Action.BLOCK, ("ask", "block"), ())


def test_a_score_without_a_finding_edits_the_whole_window(make: Make) -> None:
    rules = "  - {id: r, where: prompt, if: {check: toxicity}, then: {rewrite: replace, with: gone}}\n"
    decision = judge(make(rules), verdict("toxicity", toxic=0.9), at=window(start=10, end=40, release=30))
    assert [(edit.start, edit.end, edit.replacement) for edit in decision.edits] == [(10, 40, "gone")]


def test_a_score_beside_its_finding_edits_only_the_finding(make: Make) -> None:
    rules = "  - {id: r, where: prompt, if: {check: toxicity}, then: {rewrite: mask}}\n"
    found = verdict("toxicity", Finding("toxic", 3, 8, 0.9), toxic=0.95)
    assert [(edit.start, edit.end) for edit in judge(make(rules), found).edits] == [(3, 8)]


def test_a_score_that_is_no_number_matches(make: Make) -> None:
    assert judge(make(BLOCK), verdict("toxicity", toxic=float("nan"))).action is Action.BLOCK


def test_only_edits_that_begin_before_the_release_count(make: Make) -> None:
    policy = make(MASK)
    phone = Finding("PHONE_NUMBER", *PHONE, 0.9)
    decision = judge(policy, verdict("pii", email(), phone), at=window(end=40, release=20))
    assert [edit.label for edit in decision.edits] == ["EMAIL_ADDRESS"]
    assert judge(policy, verdict("pii", phone), at=window(end=40, release=20)) is policy.allow


def test_a_finding_that_reaches_in_from_the_context_is_cut_to_the_window(make: Make) -> None:
    policy = make(MASK)
    decision = judge(policy, verdict("pii", email()), at=window(start=10))
    assert [(edit.start, edit.end) for edit in decision.edits] == [(10, 16)]
    assert judge(policy, verdict("pii", email()), at=window(start=16)) is policy.allow


def test_a_finding_over_several_pieces_is_edited_in_each(make: Make) -> None:
    pieces = (
        Piece(0, 10, ("a", Mark.JSON, "x")),
        Piece(11, 14, ("a", Mark.JSON, "n"), literal=True),
        Piece(15, 30, ("a", Mark.JSON, "y", Mark.KEY)),
    )
    at = window("0123456789 123 abcdefghijklmno", pieces=pieces)
    decision = judge(make(MASK), verdict("pii", email(span=(8, 17))), at=at)
    assert decision.edits == (
        Edit(("a", Mark.JSON, "n"), 0, 3, "", "replace", "EMAIL_ADDRESS", literal=True),
        Edit(("a", Mark.JSON, "x"), 8, 10, "[EMAIL_ADDRESS]", "mask", "EMAIL_ADDRESS"),
        Edit(("a", Mark.JSON, "y", Mark.KEY), 0, 2, "", "replace", "EMAIL_ADDRESS"),
    )


def test_what_lies_between_pieces_is_nowhere(make: Make) -> None:
    at = window("ab cd", pieces=(Piece(0, 2, ("x",)), Piece(3, 5, ("y",))))
    decision = judge(make(MASK), verdict("pii", email(span=(2, 3))), at=at)
    assert (decision.rules, decision.edits) == (("mask",), ())


@pytest.mark.parametrize(("method", "replacement"), [("hash", ""), ("pseudonym", ""), ("mask", "[EMAIL_ADDRESS]")])
def test_methods_that_need_a_secret_are_left_for_later(make: Make, method: str, replacement: str) -> None:
    edit = judge(make(MASK.replace("rewrite: mask", f"rewrite: {method}")), verdict("pii", email())).edits[0]
    assert (edit.method, edit.replacement, edit.label) == (method, replacement, "EMAIL_ADDRESS")


def test_overlapping_edits_become_one_by_the_stricter_method(make: Make) -> None:
    rules = "  - {id: p, where: prompt, if: {check: pii, labels: EMAIL_ADDRESS}, then: {rewrite: pseudonym}}\n"
    rules += "  - {id: m, where: prompt, if: {check: pii, labels: PHONE_NUMBER}, then: {rewrite: mask}}\n"
    found = verdict("pii", email(0.99, (5, 20)), Finding("PHONE_NUMBER", 15, 25, 0.6), email(0.9, (25, 30)))
    edits = judge(make(rules), found).edits
    assert [(edit.start, edit.end, edit.method) for edit in edits] == [(5, 25, "mask"), (25, 30, "pseudonym")]


def test_of_two_equal_methods_the_higher_score_names_the_edit(make: Make) -> None:
    found = verdict("pii", email(0.7, (0, 20)), Finding("CREDIT_CARD", 5, 9, 0.9))
    assert [edit.replacement for edit in judge(make(MASK), found).edits] == ["[CREDIT_CARD]"]


def test_combine_is_the_strictest_with_everything_recorded(make: Make) -> None:
    policy = make(MASK + FLAG + BLOCK)
    first = judge(policy, verdict("toxicity", insult=0.6))
    second = judge(policy, verdict("pii", email()), at=window(end=30, release=12))
    third = judge(policy, verdict("pii", email()), at=window(start=12))
    both = combine([first, policy.allow, third, second], policy)
    assert (both.action, both.rules) == (Action.REWRITE, ("mask", "flag"))
    assert [(edit.start, edit.end) for edit in both.edits] == [EMAIL]  # the two windows' edits meet in one
    blocked = combine([both, judge(policy, verdict("toxicity", toxic=0.9))], policy)
    assert (blocked.action, blocked.rules, blocked.edits) == (Action.BLOCK, ("mask", "flag", "block"), ())


def test_combine_of_nothing_is_the_shared_decision(make: Make) -> None:
    policy = make(MASK)
    assert combine([], policy) is policy.allow
    assert combine([policy.allow, policy.allow], policy) is policy.allow


def test_needed_names_what_rules_name(make: Make) -> None:
    rules = (
        "  - {id: a, where: [prompt, tool_call], if: {check: pii}, then: flag, mode: shadow}\n"
        "  - {id: b, where: prompt, if: {check: toxicity}, then: block}\n"
        "  - {id: c, where: everywhere, if: {outcome: error, checks: any}, then: block}\n"
        "  - {id: d, where: completion, if: {outcome: error, checks: [toxicity]}, then: flag}\n"
    )
    checks: Mapping[Scope, tuple[str, ...]] = needed(make(rules))
    assert checks == {
        Scope.PROMPT: ("pii", "toxicity"),
        Scope.COMPLETION: ("toxicity",),
        Scope.TOOL_CALL: ("pii",),
        Scope.TOOL_RESULT: (),
        Scope.TOOL_DEFINITION: (),
    }
