"""load: what a policy's text means, and every mistake in it by its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.errors import PolicyError
from guardproxy.policy.load import load, locate, parse, shipped
from guardproxy.policy.model import (
    PART_KINDS,
    Allow,
    Block,
    CheckConfig,
    CheckInfo,
    Escalate,
    FindingMatch,
    Judge,
    Method,
    OutcomeMatch,
    Policy,
    RefusalShape,
    Rewrite,
)
from guardproxy.types import Action, Outcome, Scope

HEAD = 'name: p\nversion: "1"\n'
Specs = Mapping[str, CheckInfo]
Make = Callable[..., Policy]
Complaints = Callable[[str], list[str]]
WHOLE = """\
name: acme
version: 1.10
description: all there is
deadline: 3s
unguarded: allow
parts: {image: allow, file: deny}
refusal: {message: "No.", prompt: completion, completion: error}
checks:
  pii: {deadline: 250ms, ladder: [rules], countries: [no, de]}
  toxicity:
judges:
  large: {url: https://judge.example/v1/, model: m, key_env: JUDGE_KEY, deadline: 4s, threshold: 0.7}
rules:
  - id: mask
    description: why
    where: [prompt, tool_result]
    roles: [user, tool]
    if: {check: pii, labels: [EMAIL_ADDRESS, PHONE_NUMBER], score: 0.6}
    then: {rewrite: replace, with: "(gone)"}
  - id: ask
    where: everywhere
    if: {check: toxicity, labels: toxic, score: {at_least: .4, below: .8}}
    then: {escalate: large, meanwhile: allow, question: "Toxic?"}
    mode: shadow
  - id: failed
    where: prompt
    if: {outcome: [timeout, error], checks: any, reasons: queue full}
    then: allow
"""


def test_a_whole_policy(tmp_path: Path, specs: Specs) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(WHOLE)
    policy = load(file, specs)
    assert (policy.name, policy.version, policy.description, policy.deadline) == ("acme", "1.10", "all there is", 3.0)
    assert policy.sha256 == sha256(WHOLE.encode()).hexdigest()
    assert policy.ref == f"acme@1.10+{policy.sha256[:12]}"
    assert policy.unguarded is Action.ALLOW
    assert {kind for kind, action in policy.parts.items() if action is Action.ALLOW} == {"image"}
    assert (policy.refusal.prompt, policy.refusal.completion) == (RefusalShape.COMPLETION, RefusalShape.ERROR)
    assert policy.checks == {
        "pii": CheckConfig("pii", ("rules",), 0.25, {"countries": ["no", "de"]}),
        "toxicity": CheckConfig("toxicity"),
    }
    assert policy.judges == {"large": Judge("large", "https://judge.example/v1", "m", "JUDGE_KEY", 4.0, 0.7)}
    mask, ask, failed = policy.rules
    assert (mask.where, mask.roles) == ({Scope.PROMPT, Scope.TOOL_RESULT}, {"user", "tool"})
    assert mask.match == FindingMatch("pii", frozenset({"EMAIL_ADDRESS", "PHONE_NUMBER"}), 0.6)
    assert mask.then == Rewrite(Method.REPLACE, "(gone)")
    assert (ask.where, ask.shadow) == (frozenset(Scope), True)
    assert ask.match == FindingMatch("toxicity", frozenset({"toxic"}), 0.4, 0.8)
    assert ask.then == Escalate("large", Action.ALLOW, "Toxic?")
    assert failed.match == OutcomeMatch(
        frozenset({Outcome.TIMEOUT, Outcome.ERROR}), frozenset(), frozenset({"queue full"})
    )
    assert failed.then == Allow()


def test_what_is_not_written_is_denied_and_safe(make: Make) -> None:
    policy = make("  - {id: r, where: prompt, if: {check: pii}, then: block}\n")
    assert policy.unguarded is Action.BLOCK
    assert policy.parts == dict.fromkeys(PART_KINDS, Action.BLOCK)
    assert policy.refusal.prompt is RefusalShape.ERROR
    assert policy.rules[0].match == FindingMatch("pii", frozenset(), 0.5, 1.01)
    assert policy.rules[0].then == Block()


def test_a_check_that_only_a_rule_names_is_configured_within_the_deadline(make: Make) -> None:
    policy = make("  - {id: r, where: prompt, if: {check: pii}, then: block}\n", "deadline: 300ms")
    assert policy.checks == {"pii": CheckConfig("pii", None, 0.3)}
    assert policy.name == "p"


def test_a_check_that_cannot_be_without_options_is_complained_of_where_only_a_rule_names_it() -> None:
    class Needy:
        labels: frozenset[str] = frozenset()
        open_labels = False
        ladder: tuple[str, ...] = ()

        def build(self, options: Mapping[str, Any]) -> object:
            raise PolicyError("checks.pii: write max_tokens")

    text = f"{HEAD}rules:\n  - {{id: r, where: prompt, if: {{check: pii}}, then: block}}\n"
    with pytest.raises(PolicyError, match=r"^p\.yaml:3:1: checks\.pii: write max_tokens$"):
        parse(text, {"pii": Needy()}, name="p.yaml")


def test_meanwhile_is_block_unless_it_says_otherwise(make: Make) -> None:
    judges = "judges: {large: {url: https://judge.example/v1, model: m}}"
    policy = make("  - {id: r, where: prompt, if: {check: pii}, then: {escalate: large}}\n", judges)
    then = policy.rules[0].then
    assert isinstance(then, Escalate)
    assert then.meanwhile is Action.BLOCK
    assert then.question


def test_every_mistake_is_named_at_once_in_the_order_of_the_file(complaints: Complaints) -> None:
    found = complaints(
        "name: p\n"
        "unguard: deny\n"
        "checks:\n"
        "  pi: {}\n"
        "  toxicity: {ladder: onx, deadline: 5s}\n"
        "rules:\n"
        "  - id: a\n"
        "    where: [promt, completions]\n"
        "    if: {check: pii, labels: [EMAIL, PHONE_NUMBER]}\n"
        "    then: {rewrite: maks}\n"
        "  - id: a\n"
        "    where: prompt\n"
        "    if: {outcome: eror}\n"
        "    then: block\n"
        "    modes: shadow\n"
    )
    starts = [
        ("1:1", "a policy needs `version`"),
        ("2:1", "unknown key `unguard` in a policy; did you mean `unguarded`?"),
        ("4:3", "there is no check `pi`; did you mean `pii`?"),
        ("5:22", "`ladder`: expected one of rules, onnx, not `onx`; did you mean `onnx`?"),
        ("5:27", "longer than the deadline of all checks together (2s"),
        ("8:13", "`where`: expected one of prompt,"),
        ("8:20", "`where`: expected one of prompt,"),
        ("9:31", "the check pii has no label `EMAIL`; did you mean `EMAIL_ADDRESS`?"),
        ("10:21", "`rewrite`: expected one of mask, replace, hash, pseudonym, not `maks`; did you mean `mask`?"),
        ("11:9", "the rule id `a` is used twice (first at p.yaml:7:9)"),
        ("13:19", "`outcome`: expected one of degraded, abstained, timeout, error, not `eror`; did you mean `error`?"),
        ("15:5", "unknown key `modes` in a rule; did you mean `mode`?"),
    ]
    assert [
        line.startswith(f"p.yaml:{place}: {words}") for line, (place, words) in zip(found, starts, strict=True)
    ] == [True] * len(starts), "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("if: {outcome: error, ^check: pii}, then: block", "`check` is about findings and cannot stand beside"),
        ("if: {outcome: error, ^score: 0.5}, then: block", "`score` is about findings"),
        ("if: {check: pii, ^checks: [pii]}, then: block", "unknown key `checks` in `if`; did you mean `check`?"),
        ("if: {check: pii}, ^then: allow", "`allow` goes only with an outcome"),
        ("if: {outcome: error}, ^then: {rewrite: mask}", "`rewrite` goes only with findings"),
        (
            "if: {check: pii, score: ^'fpr: 1%'}, then: block",
            "`score`: an operating point needs the check's calibration",
        ),
        (
            "if: {check: pii, score: {^fpr: 1%}}, then: block",
            "`score`: an operating point needs the check's calibration",
        ),
        ("if: {check: pii, ^fpr: 1%}, then: block", "an operating point needs the check's calibration"),
        ("if: {check: pii, score: ^{at_least: 0.8, below: 0.8}}, then: block", "`score`: the band is empty"),
        ("if: {check: pii, score: {^atleast: 0.8}}, then: block", "`score`: unknown key `atleast` in a band of scores"),
        ("if: {check: pii, score: ^60}, then: block", "`score`: expected a score from 0 to 1"),
        ("if: {check: pii, score: ^.nan}, then: block", "`score`: expected a score from 0 to 1"),
        ("if: {check: ^pi}, then: block", "`check`: expected one of pii, toxicity, keywords, not `pi`; did you mean"),
        ("if: ^{labels: [toxic]}, then: block", "`if` needs `check`"),
        ("if: {check: pii, labels: ^[]}, then: block", "`labels`: the list is empty"),
        ("if: {check: pii}, then: {^rewrite: replace}", '`rewrite: replace` needs `with: "..."`'),
        ("if: {check: pii}, then: {rewrite: mask, ^with: x}", "`with` goes only with `rewrite: replace`"),
        ("if: {check: pii}, then: ^{rewrite: mask, escalate: x}", "`then` needs exactly one of"),
        ("if: {check: pii}, then: ^rewrite", "`rewrite` says how: write `then: {rewrite: mask}`"),
        ("if: {check: pii}, then: {escalate: ^large}", "`escalate`: this policy has no judges"),
        ("if: {check: pii}, then: ^blok", "`then`: expected one of allow, flag, block, rewrite, escalate, not `blok`"),
        ("if: {check: pii}, then: block, roles: [^usr]", "`roles`: expected one of system, developer, user"),
        ("if: ^pii, then: block", "expected `if` with its keys, not text"),
    ],
)
def test_what_a_rule_may_not_say(complaints: Complaints, rule: str, complaint: str) -> None:
    line = f"  - {{id: r, where: prompt, {rule}}}"
    found = complaints(f"{HEAD}rules:\n{line.replace('^', '')}\n")
    assert len(found) == 1, found
    assert found[0].startswith(f"p.yaml:4:{line.index('^') + 1}: {complaint}"), found


@pytest.mark.parametrize("missing", ["id", "where", "if", "then"])
def test_what_a_rule_needs(complaints: Complaints, missing: str) -> None:
    members = {"id": "r", "where": "prompt", "if": "{check: pii}", "then": "block"}
    rule = ", ".join(f"{key}: {value}" for key, value in members.items() if key != missing)
    assert complaints(f"{HEAD}rules:\n  - {{{rule}}}\n") == [f"p.yaml:4:5: a rule needs `{missing}`"]


@pytest.mark.parametrize(
    ("before", "complaint"),
    [
        ("deadline: ^2", "`deadline`: expected a duration"),
        ("unguarded: ^false", "`unguarded`: expected one of allow, deny"),
        ("parts: {^imge: allow}", "unknown key `imge` in `parts`; did you mean `image`?"),
        ("^name: q", "the key `name` is written twice (first at 1:1)"),
        ("refusal: ^no", "expected `refusal` with its keys, not text"),
        ("judges: {j: {url: ^'https://u:p@x/v1', model: m}}", "`url`: a URL here holds no user, key or query"),
        ("judges: {j: {url: ^'https://x/v1?key=a', model: m}}", "`url`: a URL here holds no user, key or query"),
        ("judges: {j: {url: ^'file:///etc', model: m}}", "`url`: expected the base URL"),
        ("judges: {j: {url: 'http://x/v1', model: m, key_env: ^a-b}}", "`key_env`: expected the name of an env"),
        ("checks: {^pii: {countrys: [de]}}", "checks.x.countrys: unknown option"),
        ("checks: ^[pii]", "`checks`: expected names with their settings, not a list"),
    ],
)
def test_what_a_policy_may_not_say(complaints: Complaints, before: str, complaint: str) -> None:
    rule = "rules:\n  - {id: r, where: prompt, if: {check: pii}, then: block}\n"
    found = complaints(f"{HEAD}{before.replace('^', '')}\n{rule}")
    assert len(found) == 1, found
    assert found[0].startswith(f"p.yaml:3:{before.index('^') + 1}: {complaint}"), found


@pytest.mark.parametrize("text", ["", "[]", "just words", f"{HEAD}rules: []\n", f"{HEAD}rules:\n", HEAD, "name: ["])
def test_what_is_no_policy(complaints: Complaints, text: str) -> None:
    assert complaints(text)


def test_a_key_in_the_wrong_place_is_never_repeated_in_full(complaints: Complaints) -> None:
    secret = "-".join(["sk", "x" * 60])
    found = complaints(f"{HEAD}judges: {{j: {{url: 'http://x/v1', model: m, key_env: {secret}}}}}\nrules: []\n")
    assert secret not in "\n".join(found)


def test_labels_that_the_policy_defines_are_checked_against_it(complaints: Complaints) -> None:
    rule = "rules:\n  - {id: r, where: prompt, if: {check: keywords, labels: projcts}, then: block}\n"
    found = complaints(f"{HEAD}checks: {{keywords: {{lists: {{projects: [x]}}}}}}\n{rule}")
    assert found == ["p.yaml:5:58: the check keywords has no label `projcts`; did you mean `projects`?"]


def test_an_option_is_placed_by_the_path_in_the_message() -> None:
    class Strict:
        labels: frozenset[str] = frozenset()
        open_labels = False
        ladder: tuple[str, ...] = ()

        def build(self, options: object) -> object:
            raise PolicyError("checks.url.lists.deny: expected a list")

    text = f"{HEAD}checks:\n  url:\n    lists:\n      deny: x\nrules: []\n"
    with pytest.raises(PolicyError) as raised:
        parse(text, {"url": Strict()}, name="p.yaml")
    assert raised.value.place == "p.yaml:6:7"


def test_a_file_that_is_not_there(tmp_path: Path, specs: Specs) -> None:
    with pytest.raises(PolicyError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml", specs)


def test_shipped_policies_by_name() -> None:
    assert locate("") == shipped("default")
    assert locate("strict") == shipped("strict")
    assert locate("./strict.yaml") == Path("strict.yaml")
    with pytest.raises(PolicyError, match=r"no policy `nonesuch` comes with the package; there are default, "):
        shipped("nonesuch")


words = st.sampled_from(
    [
        "name",
        "rules",
        "checks",
        "pii",
        "if",
        "then",
        "block",
        "prompt",
        "id",
        "where",
        "score",
        "outcome",
        "judges",
        "1",
    ]
)
values = st.recursive(
    st.one_of(words, st.none(), st.integers(0, 2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(top=st.dictionaries(words, values, max_size=6), rule=values)
def test_whatever_is_written_is_a_policy_or_a_policy_error(specs: Specs, top: dict[str, object], rule: object) -> None:
    text = json.dumps({"name": "p", "version": "1", "rules": [rule], **top})
    try:
        assert isinstance(parse(text, specs), Policy)
    except PolicyError as error:
        assert error.place  # noqa: PT017
