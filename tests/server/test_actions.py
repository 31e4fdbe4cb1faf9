"""What a policy can do, seen from outside: each rewrite, flags and shadow rules, judges, the log and the traces."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from guardproxy.testing import Delivery, Upstream, faults

MAIL = "ann@" + "example.org"


def rules(*lines: str, more: str = "") -> str:
    body = "\n".join(f"  - {line}" for line in lines)
    return f"""
name: actions
version: "2"
{more}
checks:
  keywords: {{lists: {{WORD: {{words: [zanzibar]}}, OTHER: {{words: [timbuktu]}}}}}}
rules:
{body}
  - {{id: failed, where: everywhere, if: {{outcome: [abstained, timeout, error], checks: any}}, then: block}}
"""


async def said(setup: Any, text: str) -> Any:
    return await setup.client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


def sent(setup: Any) -> str:
    return str(setup.upstream.last.document["messages"][0]["content"])


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("{rewrite: mask}", "to [WORD], now"),
        ("{rewrite: replace, with: 'a place'}", "to a place, now"),
        ("flag", "to zanzibar, now"),
    ],
)
async def test_rewrites_and_flags(start: Any, then: str, expected: str) -> None:
    rule = f"{{id: word, where: prompt, if: {{check: keywords, labels: [WORD]}}, then: {then}}}"
    setup = await start(rules(rule))
    await said(setup, "to zanzibar, now")
    assert sent(setup) == expected


async def test_a_hash_is_the_same_for_the_same_value_and_key(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = "{id: word, where: prompt, if: {check: keywords}, then: {rewrite: hash}}"
    seen = []
    for key in ("one", "one", "two"):
        monkeypatch.setenv("SOME_HASH_KEY", key)
        setup = await start(rules(rule), hash_key_env="SOME_HASH_KEY")
        await said(setup, "zanzibar or timbuktu or zanzibar")
        seen.append(sent(setup).split(" or "))
    assert seen[0][0] == seen[0][2] != seen[0][1]
    assert seen[0] == seen[1] != seen[2]
    assert seen[0][0].startswith("[WORD:")


async def test_pseudonyms_are_put_back_wherever_the_answer_repeats_them(start: Any) -> None:
    rule = "{id: mail, where: prompt, if: {check: pii, labels: [EMAIL_ADDRESS]}, then: {rewrite: pseudonym}}"
    setup = await start(rules(rule))
    answer = await said(setup, f"{MAIL} and b{MAIL} and {MAIL}")
    assert answer.choices[0].message.content == f"You said: {MAIL} and b{MAIL} and {MAIL}"
    first, second, third = sent(setup).split(" and ")
    assert first == third != second
    again = await said(setup, MAIL)
    assert again.choices[0].message.content == f"You said: {MAIL}"
    assert sent(setup) != first  # another exchange, another name


async def test_a_name_that_a_document_guesses_is_not_filled_in(start: Any) -> None:
    rule = "{id: mail, where: prompt, if: {check: pii, labels: [EMAIL_ADDRESS]}, then: {rewrite: pseudonym}}"
    setup = await start(rules(rule))
    setup.upstream.reply("Send it to [EMAIL_ADDRESS_1] or [EMAIL_ADDRESS_1_000000] or EMAIL_ADDRESS_1_")
    answer = await said(setup, f"I am {MAIL}")
    assert MAIL not in answer.choices[0].message.content


async def test_shadow_rules_change_nothing_and_are_written_down(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rule = "{id: word, where: prompt, if: {check: keywords, labels: [WORD]}, then: block, mode: shadow}"
    setup = await start(rules(rule), decision_log=log)
    await said(setup, "to zanzibar")
    assert sent(setup) == "to zanzibar"
    (record,) = map(json.loads, log.read_text().splitlines())
    assert (record["action"], record["would"], record["rules"]) == ("allow", ["word:block"], [])


async def test_what_is_written_down_names_the_rule_and_never_the_text(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rule = "{id: word, where: everywhere, if: {check: keywords, labels: [WORD]}, then: block}"
    setup = await start(rules(rule), decision_log=log)
    with pytest.raises(openai.BadRequestError) as raised:
        await said(setup, "to zanzibar")
    await said(setup, "to paris")
    (record,) = map(json.loads, log.read_text().splitlines())  # what passed unchanged is not written down
    assert record["id"] == raised.value.response.headers["x-guardproxy-decision"]
    assert (record["action"], record["side"], record["rules"]) == ("block", "request", ["word"])
    assert record["route"] == "/v1/chat/completions"
    assert record["policy"].startswith("actions@2+")
    assert "zanzibar" not in log.read_text().lower()


class Judged:
    """A judge that says what it is told to say, played by another pretend upstream."""

    def __init__(self, judge: Upstream, meanwhile: str) -> None:
        self.judge = judge
        more = f"judges: {{big: {{url: '{judge.url}', model: big, deadline: 500ms}}}}"
        then = f"{{escalate: big, meanwhile: {meanwhile}, question: Is it about Zanzibar?}}"
        rule = f"{{id: ask, where: everywhere, if: {{check: keywords, labels: [WORD]}}, then: {then}}}"
        self.policy = rules(rule, more=more)

    def answers(self, violates: bool, confidence: float = 0.95) -> None:
        self.judge.reply(json.dumps({"violates": violates, "confidence": confidence}))


@pytest.mark.parametrize(("violates", "blocked"), [(True, True), (False, False)])
async def test_a_judge_decides_while_the_text_waits(start: Any, violates: bool, blocked: bool) -> None:
    async with Upstream() as judge:
        judged = Judged(judge, "block")
        judged.answers(violates)
        setup = await start(judged.policy)
        if blocked:
            with pytest.raises(openai.BadRequestError):
                await said(setup, "to zanzibar")
            assert setup.upstream.requests == []
        else:
            await said(setup, "to zanzibar")
            assert "zanzibar" in sent(setup)
        assert judge.requests
        await said(setup, "to paris")
        assert all("paris" not in json.dumps(request.document) for request in judge.requests)


@pytest.mark.parametrize("fault", [faults.Hang(), faults.garbage(), faults.status(500), faults.status(401), "no json"])
async def test_a_judge_that_fails_lets_nothing_pass_that_waits_for_it(start: Any, fault: Any) -> None:
    async with Upstream() as judge:
        judged = Judged(judge, "block")
        judge.reply(fault)
        setup = await start(judged.policy)
        with pytest.raises(openai.BadRequestError):
            await said(setup, "to zanzibar")
        assert setup.upstream.requests == []


async def test_a_judge_in_a_stream(start: Any) -> None:
    async with Upstream() as judge:
        judged = Judged(judge, "block")
        judged.answers(violates=True)
        setup = await start(judged.policy)
        setup.upstream.reply("All is well here. " * 20 + "Off to Zanzibar. " * 3, delivery=Delivery(split=4))
        stream = await setup.client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        events = [event async for event in stream]
        text = "".join(choice.delta.content or "" for event in events for choice in event.choices)
        assert text.startswith("All is well here.")
        assert "Zanzibar" not in text
        assert events[-1].choices[0].finish_reason == "content_filter"


async def test_a_judge_may_be_asked_while_the_text_passes(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Upstream() as judge:
        judged = Judged(judge, "allow")
        judged.answers(violates=True)
        setup = await start(judged.policy, decision_log=log)
        setup.upstream.reply("fine")
        answer = await said(setup, "to zanzibar")
        assert answer.choices[0].message.content == "fine"
        await judge.wait_for(lambda upstream: len(upstream.requests) == 1)
        for _ in range(100):
            if "late" in log.read_text():
                break
            await asyncio.sleep(0.02)
        late = json.loads(log.read_text().splitlines()[-1])
        assert late["escalations"][0]["answer"] == "violates"


async def test_trace_context_goes_on_to_the_upstream(start: Any) -> None:
    setup = await start(rules("{id: word, where: prompt, if: {check: keywords}, then: flag}"))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await setup.client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "hi"}],
        extra_headers={"traceparent": parent, "Connection": "X-Private", "X-Private": "1", "x-guardproxy-x": "1"},
    )
    headers = setup.upstream.last.headers
    assert headers["traceparent"] == parent  # telemetry is off: the caller's own is passed on
    assert "X-Private" not in headers
    assert not any(name.lower().startswith("x-guardproxy") for name in headers)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_upstream_that_compresses_unasked_is_read_all_the_same(start: Any, encoding: Any) -> None:
    setup = await start(rules("{id: word, where: completion, if: {check: keywords}, then: {rewrite: mask}}"))
    setup.upstream.reply("Off to Zanzibar. " * 20, delivery=Delivery(split=5, encoding=encoding))
    answer = await said(setup, "hi")
    assert answer.choices[0].message.content == "Off to [WORD]. " * 20
    stream = await setup.client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    text = "".join([choice.delta.content or "" async for event in stream for choice in event.choices])
    assert text == "Off to [WORD]. " * 20


@pytest.mark.parametrize(
    "delivery",
    [
        Delivery(split=3, newline="\r\n", writes=[1, 2, 7]),
        Delivery(split=3, newline="\r", writes=[5]),
        Delivery(split=3, comments=2, bom=True, escape=True),
        Delivery(split=3, multiline=True, tight=True),
    ],
    ids=["crlf", "cr", "comments and escapes", "several data lines"],
)
async def test_every_way_to_write_a_stream_is_read(start: Any, delivery: Delivery) -> None:
    setup = await start(rules("{id: word, where: completion, if: {check: keywords}, then: {rewrite: mask}}"))
    setup.upstream.reply("Well, é漢😀 off to Zanzibar. " * 9, delivery=delivery)
    stream = await setup.client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    text = "".join([choice.delta.content or "" async for event in stream for choice in event.choices])
    assert text == "Well, é漢😀 off to [WORD]. " * 9


async def test_length_counts_in_a_stream_as_in_a_whole_answer(start: Any) -> None:
    policy = rules("{id: long, where: completion, if: {check: length}, then: {rewrite: mask}}").replace(
        "checks:\n", "checks:\n  length: {max_characters: 300}\n"
    )
    setup = await start(policy)
    setup.upstream.reply("word " * 200, delivery=Delivery(split=7))
    whole = (await said(setup, "hi")).choices[0].message.content
    stream = await setup.client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    text = "".join([choice.delta.content or "" async for event in stream for choice in event.choices])
    assert whole == "word " * 60 + "[too_long]"
    assert text.startswith("word " * 55)
    assert len(text) <= 330
