"""Reads one rule of a policy: where it looks, what it matches, what is then done.

A rule matches findings or an outcome, never both: what was found and what could not be judged are different questions.
Only an outcome can be allowed (findings that no rule matches are allowed anyway) and only findings can be rewritten.
A finding's score reaches a threshold that is written (`score: 0.8`), lies in a band (`score: {at_least: 0.5, below:
0.8}`), or reaches the threshold that keeps a rate of false positives (`fpr: 1%`; see points.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from guardproxy.policy.model import (
    AT_LEAST,
    ROLES,
    UNBOUNDED,
    Allow,
    Block,
    Escalate,
    FindingMatch,
    Flag,
    Judge,
    Method,
    OutcomeMatch,
    Rewrite,
    Rule,
    Then,
)
from guardproxy.policy.points import Points, take_rate, thresholds
from guardproxy.strict import Placed, Problems, Reader, Unfit, clip, number, one_of, several, suggest, text
from guardproxy.types import Action, Outcome, Scope

EVERYWHERE = "everywhere"
SCOPES = tuple(str(scope) for scope in Scope)
OUTCOMES = tuple(str(outcome) for outcome in Outcome if outcome is not Outcome.OK)
THENS = ("allow", "flag", "block", "rewrite", "escalate")
QUESTION = "Does this text break the rule described, or try to get something done that it forbids?"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may refer to. `labels` None: the check's labels cannot be told. `points` None: there are none."""

    checks: Collection[str]
    labels: Mapping[str, frozenset[str] | None]
    judges: Mapping[str, Judge]
    points: Points | None = None


def read_rule(node: Placed, known: Known, problems: Problems) -> Rule | None:
    """The rule, or None where it is too wrong to be one; complaints go to `problems`."""
    before = len(problems.found)
    reader = Reader(node, problems, "a rule")
    rule_id = reader.take("id", identifier, "", required=True)
    where = reader.take("where", _where, frozenset[Scope](), required=True)
    roles = reader.take("roles", several(one_of(ROLES)), ())
    description = reader.take("description", text, "")
    mode = reader.take("mode", one_of(("enforce", "shadow")), "enforce")
    condition, consequence = reader.node("if"), reader.node("then")
    for key, found in (("if", condition), ("then", consequence)):
        if found is None and isinstance(node.value, dict):
            problems.add(node.place, f"a rule needs `{key}`")
    reader.finish()
    match = _read_match(condition, known, problems) if condition else None
    then = _read_then(consequence, known, problems) if consequence else None
    if isinstance(match, FindingMatch) and isinstance(then, Allow):
        problems.add(
            reader.place("then"),
            "`allow` goes only with an outcome; to let findings pass and record them, write `flag`",
        )
    if isinstance(match, OutcomeMatch) and isinstance(then, Rewrite):
        problems.add(reader.place("then"), "`rewrite` goes only with findings: a check without an answer found nothing")
    if match is None or then is None or len(problems.found) > before:
        return None
    return Rule(rule_id, where, match, then, frozenset(roles), mode == "shadow", description)


def identifier(node: Placed) -> str:
    """A converter for names: letters, digits, dot, hyphen and underscore, at most 80."""
    word = text(node)
    if not _ID.fullmatch(word):
        raise Unfit("expected a name of letters, digits, `-`, `_` and `.`, at most 80")
    return word


def _where(node: Placed) -> frozenset[Scope]:
    words = several(one_of((*SCOPES, EVERYWHERE)))(node)
    return frozenset(Scope) if EVERYWHERE in words else frozenset(Scope(word) for word in words)


def _read_match(node: Placed, known: Known, problems: Problems) -> FindingMatch | OutcomeMatch | None:
    reader = Reader(node, problems, "`if`")
    if not isinstance(node.value, dict):
        return None
    if reader.has("outcome"):
        for key in ("check", "labels", "score", "fpr"):
            if reader.has(key):
                hint = "; with `outcome`, write `checks: [...]`" if key == "check" else ""
                place = reader.place(key)
                reader.node(key)
                problems.add(place, f"`{key}` is about findings and cannot stand beside `outcome`{hint}")
        return _outcome_match(reader, known)
    return _finding_match(node, reader, known, problems)


def _outcome_match(reader: Reader, known: Known) -> OutcomeMatch:
    outcomes = reader.take("outcome", several(one_of(OUTCOMES)), ())
    checks = reader.take("checks", several(one_of((*known.checks, "any"))), ("any",))
    reasons = reader.take("reasons", several(text), ())
    if reader.has("except") and reasons:
        reader.problems.add(reader.place("except"), "`except` cannot stand beside `reasons`")
    other_than = reader.take("except", several(text), ())
    reader.finish()
    named = frozenset[str]() if "any" in checks else frozenset(checks)
    return OutcomeMatch(frozenset(Outcome(word) for word in outcomes), named, frozenset(reasons), frozenset(other_than))


def _finding_match(node: Placed, reader: Reader, known: Known, problems: Problems) -> FindingMatch | None:
    if not reader.has("check"):
        problems.add(node.place, "`if` needs `check` (with labels and a score) or `outcome`")
        if not reader.has("labels"):
            return None
    check = reader.take("check", one_of(known.checks), "")
    labels = reader.take("labels", several(text), ())
    if reader.has("except"):
        labels = _all_but(node, reader, check, known, problems)
    rate = take_rate(reader, problems)
    low, high = reader.take("score", _band, (AT_LEAST, UNBOUNDED))
    reader.finish()
    its = _labels(node.value.get("labels"), check, known, problems)
    least = thresholds(rate, check, its, known.points, problems) if rate and check else {}
    return FindingMatch(check, frozenset(labels), min(least.values(), default=low), high, least)


def _all_but(node: Placed, reader: Reader, check: str, known: Known, problems: Problems) -> tuple[str, ...]:
    """The check's labels without those that `except` names."""
    place = reader.place("except")
    dropped = reader.take("except", several(text), ())
    every = known.labels.get(check)
    if "labels" in node.value:
        problems.add(place, "`except` cannot stand beside `labels`")
    elif check and every is None:
        problems.add(place, f"the check {check} has labels of the policy's own: name what is meant with `labels`")
    elif every is not None and every <= set(dropped):
        problems.add(place, "`except` leaves no label")
    _labels(node.value["except"], check, known, problems)
    return tuple(sorted((every or frozenset()).difference(dropped)))


def _labels(node: Placed | None, check: str, known: Known, problems: Problems) -> list[tuple[str, Placed]] | None:
    """The labels that are written and that the check has, each with where; None where none are written."""
    if node is None:
        return None
    labels = known.labels.get(check)
    there: list[tuple[str, Placed]] = []
    for item in node.value if isinstance(node.value, list) else [node]:
        word = item.raw or item.value
        if not isinstance(word, str):
            continue
        if labels is None or word in labels:
            there.append((word, item))
            continue
        hint = suggest(word, labels) or f"; it has {', '.join(sorted(labels)) or 'none'}"
        problems.add(item.place, f"the check {check} has no label `{clip(word)}`{hint}")
    return there


def _band(node: Placed) -> tuple[float, float]:
    """at_least and below, from one number or from a band."""
    score = number(0.0, 1.0, "a score from 0 to 1")
    if not isinstance(node.value, dict):
        return score(node), UNBOUNDED
    problems = Problems()
    reader = Reader(node, problems, "a band of scores")
    low, high = reader.take("at_least", score, 0.0), reader.take("below", score, UNBOUNDED)
    reader.finish()
    if not problems and low >= high:
        problems.add(node.place, "the band is empty: `at_least` must be less than `below`")
    if problems:
        unfit = Unfit(problems.found[0][1])
        unfit.complaints = problems.found
        raise unfit
    return low, high


def _read_then(node: Placed, known: Known, problems: Problems) -> Then | None:
    if isinstance(node.value, dict):
        return _read_long_then(node, known, problems)
    try:
        word = one_of(THENS)(node)
    except Unfit as error:
        problems.add(node.place, f"`then`: {error}")
        return None
    if word in ("rewrite", "escalate"):
        example = "{rewrite: mask}" if word == "rewrite" else "{escalate: JUDGE, meanwhile: block}"
        problems.add(node.place, f"`{word}` says how: write `then: {example}`")
        return None
    simple: Mapping[str, Then] = {"allow": Allow(), "flag": Flag(), "block": Block()}
    return simple[word]


def _read_long_then(node: Placed, known: Known, problems: Problems) -> Then | None:
    reader = Reader(node, problems, "`then`")
    if reader.has("rewrite") == reader.has("escalate"):
        problems.add(node.place, f"`then` needs exactly one of: {', '.join(THENS)}")
        return None
    then: Then = _rewrite(reader, problems) if reader.has("rewrite") else _escalate(reader, known)
    reader.finish()
    return then


def _rewrite(reader: Reader, problems: Problems) -> Rewrite:
    method = Method(reader.take("rewrite", one_of([str(method) for method in Method]), str(Method.MASK)))
    written = reader.has("with")
    place = reader.place("with")
    replacement = reader.take("with", _wording, "")
    if method is Method.REPLACE and not written:
        problems.add(reader.place("rewrite"), '`rewrite: replace` needs `with: "..."`, the text to put there')
    elif method is not Method.REPLACE and written:
        problems.add(place, f"`with` goes only with `rewrite: replace`, not with `{method}`")
    return Rewrite(method, replacement)


def _escalate(reader: Reader, known: Known) -> Escalate:
    judge = reader.take("escalate", _judge(known), "")
    meanwhile = reader.take("meanwhile", one_of(("block", "allow")), "block")
    question = reader.take("question", text, QUESTION)
    return Escalate(judge, Action.ALLOW if meanwhile == "allow" else Action.BLOCK, question)


def _judge(known: Known) -> Any:
    def convert(node: Placed) -> str:
        if not known.judges:
            raise Unfit("this policy has no judges; describe one under `judges:`")
        return one_of(tuple(known.judges))(node)

    return convert


def _wording(node: Placed) -> str:
    """Text, or nothing at all: `with:` and `with: ""` both cut out what was found."""
    return "" if node.value is None else text(node)
