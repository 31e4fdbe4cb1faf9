"""lint: what a policy may say and probably does not mean."""

from __future__ import annotations

from collections.abc import Callable

from guardproxy.policy.lint import lint
from guardproxy.policy.model import Policy

Make = Callable[..., Policy]
FAILED = "  - {id: f, where: everywhere, if: {outcome: [abstained, timeout, error]}, then: block}\n"
MASK = "  - {id: m, where: prompt, if: {check: pii}, then: {rewrite: mask}}\n"


def test_a_sound_policy_has_no_warnings(make: Make) -> None:
    assert lint(make(MASK + FAILED)) == []


def test_failures_that_nothing_handles_are_named_with_the_answer(make: Make) -> None:
    rules = MASK + "  - {id: f, where: everywhere, if: {outcome: timeout}, then: allow}\n"
    rules += "  - {id: g, where: prompt, if: {outcome: error, reasons: x}, then: allow}\n"
    assert lint(make(rules)) == [
        "prompt: no rule says what happens on abstained or error of pii; "
        "such texts are blocked (as `unhandled-outcome`)"
    ]


def test_a_shadow_rule_handles_nothing(make: Make) -> None:
    assert len(lint(make(MASK + FAILED.replace("then: block", "then: block, mode: shadow")))) == 1


def test_checks_and_judges_that_nothing_uses(make: Make) -> None:
    before = "checks: {toxicity: {}}\njudges: {j: {url: http://x/v1, model: m}}"
    assert lint(make(MASK + FAILED, before)) == [
        "the check toxicity never runs: no rule names it",
        "the judge j is never asked: no rule escalates to it",
    ]


def test_a_check_that_runs_only_to_fail(make: Make) -> None:
    rules = MASK + FAILED + "  - {id: x, where: completion, if: {outcome: error, checks: [pii]}, then: block}\n"
    assert lint(make(rules)) == [
        "completion: pii runs there only to see whether it fails; no rule looks at what it finds"
    ]


def test_pseudonyms_that_nothing_restores(make: Make) -> None:
    rules = "  - {id: m, where: [prompt, completion], if: {check: pii}, then: {rewrite: pseudonym}}\n"
    assert lint(make(rules + FAILED))[0].startswith("the rule m makes pseudonyms in completion, where nothing restores")
