"""Operating points: rates of false positives that become thresholds, or a complaint in the right place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardproxy.errors import PolicyError
from guardproxy.policy.evaluate import evaluate
from guardproxy.policy.lint import lint
from guardproxy.policy.load import parse
from guardproxy.policy.model import CheckInfo, FindingMatch, Policy
from guardproxy.policy.points import Points
from guardproxy.types import Action, Decision, Finding, Scope, Segment, Verdict, Window

HEAD = 'name: p\nversion: "1"\n'
Make = Callable[..., Policy]
Complaints = Callable[..., list[str]]
# The rows had too few texts without insults for the low rates, and none without a card.
POINTS: Points = {
    "toxicity": {"toxic": {"0.5%": 0.97, "1%": 0.9, "5%": 0.2}, "insult": {"1%": 0.7, "5%": 0.1}},
    "pii": {"PHONE_NUMBER": {"5%": 0.4}, "CREDIT_CARD": {}},
}
FAILED = "  - {id: f, where: everywhere, if: {outcome: [abstained, timeout, error]}, then: block}\n"


def rule(match: str, then: str = "block", name: str = "r") -> str:
    return f"  - {{id: {name}, where: prompt, if: {{{match}}}, then: {then}}}\n"


def judge(policy: Policy, *, findings: tuple[Finding, ...] = (), **scores: float) -> Decision:
    segment = Segment("c", ("p",), "user", Scope.PROMPT, "some text")
    verdict = Verdict("toxicity", findings=findings, scores=scores)
    return evaluate(policy, Scope.PROMPT, "user", [verdict], Window(segment, 0, 0, 9, 9, "some text"))


class Untouchable(Mapping[str, Any]):
    """Points that nobody may look at."""

    def __getitem__(self, key: str) -> Any:
        raise AssertionError(key)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


@pytest.mark.parametrize(
    "spelling",
    ["fpr: 1%", "fpr: '1 %'", "score: {fpr: 1%}", "score: 'fpr: 1%'", "score: fpr:1%", 'score: "fpr :1%"'],
)
def test_all_spellings_are_the_threshold_of_the_label(make: Make, spelling: str) -> None:
    policy = make(rule(f"check: toxicity, labels: toxic, {spelling}"), points=POINTS)
    assert policy.rules[0].match == FindingMatch("toxicity", frozenset({"toxic"}), 0.9, least={"toxic": 0.9})


def test_a_match_with_thresholds_is_compared_and_hashed_like_another(make: Make) -> None:
    one, other = (
        make(rule("check: toxicity, labels: [toxic, insult], fpr: 1%"), points=points).rules[0].match
        for points in (POINTS, {"toxicity": {"toxic": {"1%": 0.9}, "insult": {"1%": 0.71}}})
    )
    assert isinstance(one, FindingMatch)
    assert one != other
    again = FindingMatch("toxicity", frozenset({"insult", "toxic"}), 0.7, least={"insult": 0.7, "toxic": 0.9})
    assert (one, hash(one)) == (again, hash(again))
    assert len({one, other, again}) == 2


def test_each_label_has_its_own_threshold(make: Make) -> None:
    policy = make(rule("check: toxicity, labels: [toxic, insult], fpr: 1%"), points=POINTS)
    assert judge(policy, toxic=0.8999, insult=0.6999) is policy.allow
    assert judge(policy, toxic=0.9, insult=0.0).action is Action.BLOCK
    assert judge(policy, toxic=0.0, insult=0.7).action is Action.BLOCK
    assert judge(policy, findings=(Finding("toxic", 0, 4, 0.8),)) is policy.allow
    assert judge(policy, findings=(Finding("insult", 0, 4, 0.8),)).action is Action.BLOCK


def test_what_is_no_number_matches(make: Make) -> None:
    policy = make(rule("check: toxicity, labels: toxic, fpr: 0.5%"), points=POINTS)
    assert judge(policy, toxic=float("nan")).action is Action.BLOCK
    assert judge(policy, findings=(Finding("toxic", 0, 4, float("nan")),)).action is Action.BLOCK


def test_the_points_do_not_change_what_the_policy_is_called(make: Make) -> None:
    text = rule("check: toxicity, labels: toxic, fpr: 1%")
    one, other = make(text, points=POINTS), make(text, points={"toxicity": {"toxic": {"1%": 0.2}}})
    assert one.ref == other.ref
    assert one.rules != other.rules


def test_points_are_looked_at_only_where_a_rule_names_a_rate(make: Make) -> None:
    assert make("  # fpr: 1% would be too few\n" + rule("check: toxicity, score: 0.8"), points=Untouchable())
    with pytest.raises(AssertionError, match="toxicity"):
        make(rule("check: toxicity, labels: toxic, fpr: 1%"), points=Untouchable())


_NEEDS = "an operating point needs the check's calibration, and "


@pytest.mark.parametrize(
    ("match", "complaint"),
    [
        ("check: keywords, ^fpr: 1%", _NEEDS + "this release has none of keywords, only of toxicity, pii; write a"),
        ("check: keywords, score: {^fpr: 1%}", "`score`: " + _NEEDS + "this release has none of keywords"),
        ("check: toxicity, ^fpr: 1%", "a rate needs `labels`: each label has a threshold of its own"),
        ("check: toxicity, score: {^fpr: 1%}", "`score`: a rate needs `labels`"),
        ("check: toxicity, labels: toxic, ^fpr: 3%", "toxicity has no operating point `3%`; it has 0.5%, 1%, 5%"),
        ("check: toxicity, labels: toxic, ^fpr: 0.01", "toxicity has no operating point `0.01`; it has 0.5%, 1%, 5%"),
        ("check: toxicity, labels: toxic, ^fpr: ''", "toxicity has no operating point ``; it has 0.5%"),
        ("check: toxicity, labels: toxic, score: ^'fpr:'", "`score`: toxicity has no operating point ``; it has"),
        ("check: toxicity, labels: toxic, fpr: ^", "`fpr`: expected text, not nothing"),
        ("check: toxicity, labels: toxic, fpr: ^[1%]", "`fpr`: expected text, not a list"),
        ("check: toxicity, labels: toxic, score: {fpr: ^[1%]}", "`fpr`: expected text, not a list"),
        (
            "check: toxicity, labels: [toxic, ^insult], fpr: 0.5%",
            "the label insult has no operating point `0.5%`: too few texts without it; it has 1%, 5%",
        ),
        ("check: pii, labels: ^CREDIT_CARD, fpr: 5%", "the label CREDIT_CARD has no operating point `5%`: too few"),
        (
            "check: pii, labels: [PHONE_NUMBER, ^EMAIL_ADDRESS], fpr: 5%",
            "the label EMAIL_ADDRESS has no operating points: no calibrated model gives its scores",
        ),
        ("check: toxicity, labels: [toxic, ^tocix], fpr: 1%", "the check toxicity has no label `tocix`; did you mean"),
        ("check: ^toxic, labels: toxic, fpr: 1%", "`check`: expected one of"),
        ("check: toxicity, labels: ^[], fpr: 1%", "`labels`: the list is empty"),
        ("check: toxicity, labels: toxic, score: 0.8, ^fpr: 1%", "`fpr` takes the place of `score`; write one of them"),
        ("check: toxicity, score: {fpr: 1%}, labels: toxic, ^fpr: 1%", "`fpr` takes the place of `score`"),
        (
            "check: toxicity, labels: toxic, score: {fpr: 1%, ^below: 0.9}",
            "unknown key `below` in an operating point; known here: fpr",
        ),
        ("outcome: error, ^fpr: 1%", "`fpr` is about findings and cannot stand beside `outcome`"),
    ],
)
def test_what_is_no_operating_point(complaints: Complaints, match: str, complaint: str) -> None:
    line = rule(match)
    found = complaints(f"{HEAD}rules:\n{line.replace('^', '')}", POINTS)
    assert len(found) == 1, found
    assert found[0].startswith(f"p.yaml:4:{line.index('^') + 1}: {complaint}"), found


@pytest.mark.parametrize("points", [None, {}, {"toxicity": {}}])
def test_without_a_release_it_says_so(complaints: Complaints, points: Points | None) -> None:
    found = complaints(f"{HEAD}rules:\n{rule('check: toxicity, labels: toxic, fpr: 1%')}", points)
    assert found == [
        f"p.yaml:4:65: {_NEEDS}no release of adapters here has one; write a score instead, e.g. `score: 0.8`"
    ]


scores = st.one_of(st.floats(0, 1), st.sampled_from([0.1, 0.2, 0.7, 0.9, 0.97, 0.0, 1.0, 0.5, float("nan")]))
thens = st.sampled_from(["block", "flag", "{rewrite: mask}"])


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["0.5%", "1%", "5%"]), st.floats(0, 1), scores, scores, st.integers(0, 3), thens)
@example("1%", 0.0, 0.0, 0.0, 1, "block")
@example("1%", 1.0, 1.0, 1.0, 1, "block")
def test_a_rate_decides_as_its_threshold_written_as_a_score(
    make: Make, rate: str, threshold: float, score: float, other: float, count: int, then: str
) -> None:
    points = {"toxicity": {"toxic": {rate: threshold}}}
    one = make(rule(f"check: toxicity, labels: toxic, fpr: {rate}", then), points=points)
    same = make(rule(f"check: toxicity, labels: toxic, score: {threshold!r}", then))
    findings = (*(Finding("toxic", at, at + 2, score) for at in range(count)), Finding("insult", 0, 9, other))
    by_rate, by_score = (judge(policy, findings=findings, toxic=other, insult=score) for policy in (one, same))
    assert replace(by_rate, policy="") == replace(by_score, policy="")


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), scores, scores)
def test_several_labels_decide_as_a_rule_for_each(
    make: Make, toxic: float, insult: float, score: float, other: float
) -> None:
    points = {"toxicity": {"toxic": {"1%": toxic}, "insult": {"1%": insult}}}
    one = make(rule("check: toxicity, labels: [toxic, insult], fpr: 1%"), points=points)
    single = [
        rule(f"check: toxicity, labels: {label}, score: {threshold!r}", name=label)
        for label, threshold in (("toxic", toxic), ("insult", insult))
    ]
    two = make("".join(single))
    assert judge(one, toxic=score, insult=other).action is judge(two, toxic=score, insult=other).action


words = st.sampled_from(["toxic", "insult", "1%", "5%", "fpr:1%", "", "fpr", "EMAIL_ADDRESS"])
values = st.recursive(
    st.one_of(words, st.none(), st.integers(0, 2)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["fpr", "below"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(match=st.fixed_dictionaries({"check": st.just("toxicity")}, optional=dict.fromkeys(("labels", "score"), values)))
@example({"check": "toxicity", "labels": {"fpr": "1%"}, "score": {"fpr": "1%"}})
def test_a_rule_that_loads_has_a_threshold_for_each_label_or_a_score(
    specs: Mapping[str, CheckInfo], match: dict[str, object]
) -> None:
    """Whatever is written: a rate never loads as the default score."""
    rules = [{"id": "r", "where": "prompt", "if": match, "then": "block"}]
    try:
        policy = parse(json.dumps({"name": "p", "version": "1", "rules": rules}), specs, points=POINTS)
    except PolicyError as error:
        assert error.place  # noqa: PT017
        return
    loaded = policy.rules[0].match
    assert isinstance(loaded, FindingMatch)
    assert ("fpr" in str(match.get("score", ""))) == bool(loaded.least)
    assert loaded.least.keys() == (loaded.labels if loaded.least else set())


RATE = rule("check: toxicity, labels: toxic, fpr: 1%", name="rate") + FAILED
WARNING = (
    "the rule rate names a rate of false positives, which only the scores of onnx keep, and toxicity does not begin "
    "with it: write `ladder: [onnx, rules]` under checks.toxicity, or start with --backend onnx"
)


@pytest.mark.parametrize(
    ("checks", "backend", "warnings"),
    [
        ("", "", [WARNING]),
        ("", "rules", [WARNING]),
        ("", "onnx", []),
        ("checks: {toxicity: {ladder: [onnx, rules]}}", "rules", []),
        ("checks: {toxicity: {ladder: [rules, onnx]}}", "onnx", [WARNING]),
        ("checks: {toxicity: {ladder: rules}}", "onnx", [WARNING]),
    ],
)
def test_a_rate_on_scores_that_nobody_calibrated_is_warned_of(
    make: Make, checks: str, backend: str, warnings: list[str]
) -> None:
    assert lint(make(RATE, checks, POINTS), backend) == warnings


def test_a_score_is_not_warned_of(make: Make) -> None:
    assert lint(make(RATE.replace("fpr: 1%", "score: 0.9")), "rules") == []
