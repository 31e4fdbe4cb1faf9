"""`except` stands for all of a check's labels but some, and for nothing that could be misread."""

import pytest

from guardproxy.checks.registry import specs
from guardproxy.errors import PolicyError
from guardproxy.policy.evaluate import evaluate
from guardproxy.policy.load import parse
from guardproxy.policy.model import FindingMatch
from guardproxy.types import Action, Outcome, Scope, Segment, Verdict, Window

HEAD = "name: x\nversion: 1\nrules:\n  - {id: a, where: prompt, then: flag, if: {check: %s}}\n"


def match(condition: str) -> FindingMatch:
    found = parse(HEAD % condition, specs()).rules[0].match
    assert isinstance(found, FindingMatch)
    return found


def test_all_labels_but_those() -> None:
    found = match("pii, except: [LOCATION, ORGANIZATION], score: 0.7")
    assert found.labels == specs()["pii"].labels - {"LOCATION", "ORGANIZATION"}
    assert found.at_least == 0.7


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("pii, except: [LOCATON]", "did you mean `LOCATION`"),
        ("pii, labels: PERSON, except: LOCATION", "cannot stand beside"),
        ("keywords, except: [x]", "labels of the policy's own"),
        ("pii, except: []", "the list is empty"),
    ],
)
def test_what_it_cannot_mean_is_an_error(condition: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        match(condition)


def test_all_reasons_but_those() -> None:
    """What is left over is another rule's business, and blocked where there is none."""
    rules = """rules:
  - {id: other, where: prompt, then: flag, if: {outcome: abstained, except: [unsupported language], checks: any}}
"""
    policy = parse("name: x\nversion: 1\n" + rules, specs())
    segment = Segment("c", ("t",), "user", Scope.PROMPT, "hi")
    window = Window(segment, 0, 0, 2, 2, "hi")

    def decided(reason: str) -> tuple[Action, tuple[str, ...]]:
        verdict = Verdict("toxicity", Outcome.ABSTAINED, reason=reason)
        decision = evaluate(policy, Scope.PROMPT, "user", [verdict], window)
        return decision.action, decision.rules

    assert decided("too long") == (Action.ALLOW, ("other",))
    assert decided("unsupported language") == (Action.BLOCK, ("unhandled-outcome",))


def test_reasons_and_their_opposite_cannot_stand_together() -> None:
    condition = "{outcome: abstained, reasons: [a], except: [b], checks: any}"
    with pytest.raises(PolicyError, match="cannot stand beside"):
        parse(f"name: x\nversion: 1\nrules:\n  - {{id: a, where: prompt, then: flag, if: {condition}}}\n", specs())
