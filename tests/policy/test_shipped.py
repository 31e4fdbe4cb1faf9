"""The policies that come along: they load against the real checks and do as their cases say."""

from __future__ import annotations

from pathlib import Path

import pytest

import guardproxy
from guardproxy.checks.registry import specs
from guardproxy.policy.evaluate import evaluate, needed
from guardproxy.policy.lint import lint
from guardproxy.policy.load import load, shipped
from guardproxy.policy.model import Policy
from guardproxy.policy.verify import decide, differences, read_cases
from guardproxy.types import Action, Outcome, Scope, Segment, Verdict, Window

NAMES = ("default", "strict", "observe", "finance")


@pytest.fixture(scope="module", params=NAMES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return load(shipped(request.param), specs())


def test_it_is_called_as_its_file_and_lint_finds_nothing(policy: Policy) -> None:
    assert shipped(policy.name).stem == policy.name
    assert lint(policy) == []


def test_every_rule_that_is_no_copy_explains_itself(policy: Policy) -> None:
    unexplained = [rule.id for rule in policy.rules if not rule.description and not rule.shadow]
    assert unexplained == []


def test_its_cases_come_out_as_written(policy: Policy) -> None:
    file = shipped(policy.name)
    cases = read_cases(file.with_name(f"{policy.name}_test.yaml"))
    given = [case for case in cases if case.verdicts is not None]
    assert len(given) >= 3
    assert {case.name: differences(case, decide(policy, case)) for case in given} == {case.name: [] for case in given}


@pytest.mark.parametrize("outcome", [Outcome.ABSTAINED, Outcome.TIMEOUT, Outcome.ERROR])
@pytest.mark.parametrize("scope", Scope)
def test_a_failed_check_blocks_unless_the_policy_only_observes(policy: Policy, scope: Scope, outcome: Outcome) -> None:
    segment = Segment("c", ("p",), "", scope, "text")
    window = Window(segment, 0, 0, 4, 4, "text")
    decision = evaluate(policy, scope, "", [Verdict("pii", outcome)], window)
    assert decision.action is (Action.ALLOW if policy.name == "observe" else Action.BLOCK)
    assert decision.rules


def test_observe_would_do_what_default_does() -> None:
    default, observe = (load(shipped(name), specs()) for name in ("default", "observe"))
    shadows = {rule.id: rule for rule in observe.rules if rule.shadow and rule.id != "unchecked-would-block"}
    enforced = {rule.id: rule for rule in default.rules if not rule.id.startswith("unchecked-")}
    assert shadows.keys() == enforced.keys()
    for name, rule in enforced.items():
        shadow = shadows[name]
        assert (shadow.where, shadow.roles, shadow.match, shadow.then) == (
            rule.where,
            rule.roles,
            rule.match,
            rule.then,
        )
    assert needed(default) == needed(observe)


def test_the_package_finds_them_in_a_checkout() -> None:
    assert shipped().parent.parent == Path(guardproxy.__file__).parent.parent
