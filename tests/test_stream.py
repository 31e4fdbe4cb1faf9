"""Streams: whatever the split, the text delivered is the unary result, nothing forbidden leaves, nothing of the
protocol is lost.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.audit import DecisionLog
from guardproxy.checks.keywords import SPEC as KEYWORDS
from guardproxy.checks.runner import ConfiguredCheck, Runner
from guardproxy.enforce import rewrite
from guardproxy.errors import WireError
from guardproxy.pipeline import Guard
from guardproxy.policy.load import parse
from guardproxy.stream import StreamGuard
from guardproxy.telemetry import ExchangeSpan
from guardproxy.types import Action, Exchange, Side
from guardproxy.wire.chat import ChatDialect

FORBIDDEN = re.compile(r"forbidden [a-zé]{1,20} word|K-[a-z]{3,40}|\b4111(?: ?\d{4}){3}\b")
BLOCKED = re.compile(r"stop the (?:whole )?stream")
POLICY = r"""
name: test
version: "1"
checks:
  keywords:
    lists:
      BAD: {expressions: ['forbidden [a-zé]{1,20} word', 'K-[a-z]{3,40}', '\b4111(?: ?\d{4}){3}\b'], whole_words: false}
      STOP: {expressions: ['stop the (?:whole )?stream'], whole_words: false}
rules:
  - {id: mask, where: everywhere, if: {check: keywords, labels: [BAD]}, then: {rewrite: mask}}
  - {id: stop, where: everywhere, if: {check: keywords, labels: [STOP]}, then: block}
  - {id: failed, where: everywhere, if: {outcome: [abstained, timeout, error], checks: any}, then: block}
"""
DIALECT = ChatDialect()
_policy = parse(POLICY, {"keywords": KEYWORDS})
_runner = Runner({"keywords": ConfiguredCheck(KEYWORDS.build(_policy.checks["keywords"].options))})
GUARD = Guard(_policy, _runner, {}, DecisionLog.open(""), b"key")

WORDS = st.one_of(
    st.sampled_from(
        ["forbidden new word", "forbidden é word", "K-abcdefgh", "4111 1111 1111 1111", "4111111111111111"]
    ),
    st.sampled_from(
        ["forbidden", "word", "K-", "4111", "ok.", "well", "\n", "é€😀", "漢字。", "\\u0041", '"}', "data: [DONE]\n\n"]
    ),
    st.text(st.sampled_from("ab é漢"), max_size=6),
)
SEPARATORS = st.sampled_from([" ", " ", " ", ". ", "\n"])
TEXTS = st.lists(st.tuples(WORDS, SEPARATORS), max_size=120).map(lambda pairs: "".join(w + s for w, s in pairs))


def pieces_of(text: str, cuts: Sequence[int]) -> list[str]:
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    document = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(document, ensure_ascii=index % 2 == 0).encode() + b"\n\n"


def stream_of(pieces: Sequence[str]) -> bytes:
    usage = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [],
        "usage": {"total_tokens": 3},
    }
    return b"".join(
        (
            chunk({"role": "assistant", "content": ""}),
            *(chunk({"content": piece}) for piece in pieces),
            chunk({}, finish="stop"),
            b": a comment\n\n",
            b"data: " + json.dumps(usage).encode() + b"\n\n",
            b"data: [DONE]\n\n",
        )
    )


async def drive(raw: bytes, cuts: Sequence[int]) -> tuple[bytes, bool, StreamGuard]:
    """What is delivered of a stream that arrives in these pieces, and whether it was blocked."""
    inspection = GUARD.inspection(Exchange("gp-test", "chat"), ExchangeSpan())
    guard = StreamGuard(DIALECT, 1 << 22)
    out = b""
    edges = [0, *sorted({min(cut, len(raw)) for cut in cuts}), len(raw)]
    for start, end in [*pairwise(edges), (-1, -1)]:
        if start < 0:
            guard.close()
        else:
            guard.feed(raw[start:end])
        for task in guard.tasks():
            decision = await inspection.inspect(Side.RESPONSE, (task.subject,))
            if decision.action is Action.BLOCK:
                return out + guard.take(), True, guard
            guard.settle(task, decision.edits)
        out += guard.take()
    return out, False, guard


def events(raw: bytes) -> list[Any]:
    return [json.loads(e[6:]) for e in raw.split(b"\n\n") if e.startswith(b"data: {")]


def text_of(raw: bytes, index: int = 0, member: str = "content") -> str:
    return "".join(
        choice["delta"].get(member) or "" for e in events(raw) for choice in e["choices"] if choice["index"] == index
    )


async def unary(text: str) -> tuple[str, bool]:
    document = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    located = DIALECT.response(document)
    inspection = GUARD.inspection(Exchange("gp-test", "chat"), ExchangeSpan())
    decision = await inspection.document(Side.RESPONSE, located)
    body = rewrite(json.dumps(document).encode(), decision.edits, located.segments)
    return json.loads(body)["choices"][0]["message"]["content"], decision.action is Action.BLOCK


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 900), max_size=60), st.lists(st.integers(0, 60_000), max_size=60))
def test_delivered_text_is_the_unary_result_and_holds_nothing_forbidden(
    text: str, cuts: list[int], byte_cuts: list[int]
) -> None:
    raw = stream_of(pieces_of(text, cuts))
    delivered, blocked, _ = asyncio.run(drive(raw, byte_cuts))
    expected = FORBIDDEN.sub("[BAD]", text)
    assert not blocked
    assert text_of(delivered) == expected
    assert asyncio.run(unary(text)) == (expected, False)
    if expected == text:
        assert delivered == raw


@settings(max_examples=25, deadline=None)
@given(TEXTS.map(lambda text: text[:400]))
def test_a_stream_that_comes_byte_by_byte_and_character_by_character(text: str) -> None:
    raw = stream_of(list(text))
    delivered, _, _ = asyncio.run(drive(raw, range(len(raw))))
    assert text_of(delivered) == FORBIDDEN.sub("[BAD]", text)


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS, st.lists(st.integers(0, 900), max_size=40), st.booleans())
def test_a_block_lets_nothing_undecided_out(before: str, after: str, cuts: list[int], longer: bool) -> None:
    text = before + (" stop the whole stream " if longer else " stop the stream ") + after
    delivered, blocked, guard = asyncio.run(drive(stream_of(pieces_of(text, cuts)), range(0, 100_000, 37)))
    shown = text_of(delivered)
    assert blocked
    assert FORBIDDEN.search(shown) is None
    assert BLOCKED.search(shown) is None
    assert len(shown) <= len(FORBIDDEN.sub("[BAD]", before)) + 1  # nothing of the blocked phrase has left
    assert asyncio.run(unary(text))[1]
    cut = DIALECT.cut_stream(_refusal(), guard.delivered())
    assert cut.endswith(b"data: [DONE]\n\n")
    assert any(c["finish_reason"] == "content_filter" for e in events(cut) for c in e["choices"])


def _refusal() -> Any:
    from guardproxy.wire.base import Refusal

    return Refusal("No.", "gp-test", "m", 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), WORDS), max_size=80))
def test_choices_are_told_apart(parts: list[tuple[int, str]]) -> None:
    raw = b"".join(chunk({"content": word + " "}, index) for index, word in parts)
    raw += b"".join(chunk({}, index, "stop") for index in range(3)) + b"data: [DONE]\n\n"
    delivered, _, _ = asyncio.run(drive(raw, range(0, len(raw), 61)))
    for index in range(3):
        whole = "".join(word + " " for number, word in parts if number == index)
        assert text_of(delivered, index) == FORBIDDEN.sub("[BAD]", whole)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["to", "note", "4111 1111 1111 1111"]), TEXTS.map(lambda t: t[:200]), max_size=3),
    st.lists(st.integers(0, 900), max_size=40),
    st.booleans(),
)
def test_tool_arguments_in_pieces(arguments: dict[str, str], cuts: list[int], ascii_only: bool) -> None:
    text = json.dumps(arguments, ensure_ascii=ascii_only)
    raw = chunk({"role": "assistant", "content": None})
    for number, piece in enumerate(pieces_of(text, cuts)):
        call: dict[str, Any] = {"index": 0, "function": {"arguments": piece}}
        if number == 0:
            call |= {"id": "call_1", "type": "function"}
            call["function"]["name"] = "send"
        raw += chunk({"tool_calls": [call]})
    raw += chunk({}, finish="tool_calls") + b"data: [DONE]\n\n"
    delivered, blocked, _ = asyncio.run(drive(raw, range(0, len(raw), 53)))
    joined = "".join(
        call["function"].get("arguments", "")
        for e in events(delivered)
        for choice in e["choices"]
        for call in choice["delta"].get("tool_calls", ())
    )
    assert not blocked
    masked = {FORBIDDEN.sub("[BAD]", k): FORBIDDEN.sub("[BAD]", v) for k, v in arguments.items()}
    assert json.loads(joined) == masked


def test_token_probabilities_do_not_repeat_what_was_removed() -> None:
    pieces = ["It is K-", "abcdefgh", " indeed."]
    raw = b"".join(chunk({"content": p}, logprobs={"content": [{"token": p, "logprob": -1.0}]}) for p in pieces)
    raw += chunk({}, finish="stop") + b"data: [DONE]\n\n"
    delivered, _, _ = asyncio.run(drive(raw, []))
    assert text_of(delivered) == "It is [BAD] indeed."
    assert b"abcdefgh" not in delivered
    assert [e["choices"][0].get("logprobs") is None for e in events(delivered)] == [True, True, False, True]


def test_arguments_that_only_nearly_are_json_leave_no_tail() -> None:
    text = r'{"to": "K-\u0061bcdefgh, K-\u0061bcdefgh, secret tail'
    raw = chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": text[:20]}}]})
    raw += chunk({"tool_calls": [{"index": 0, "function": {"arguments": text[20:]}}]})
    raw += chunk({}, finish="tool_calls") + b"data: [DONE]\n\n"
    delivered, _, _ = asyncio.run(drive(raw, []))
    assert b"u0061" not in delivered
    assert b"tail" not in delivered


def test_text_after_the_end_of_its_choice_is_judged_too() -> None:
    raw = (
        chunk({"content": "fine."}) + chunk({}, finish="stop") + chunk({"content": "K-abcdefgh"}) + b"data: [DONE]\n\n"
    )
    delivered, _, _ = asyncio.run(drive(raw, []))
    assert text_of(delivered) == "fine.[BAD]"


@pytest.mark.parametrize(
    "bad", [b"data: {half\n\n", b'data: {"a":1,"a":2}\n\n', b'data: {"a":NaN}\n\n', b'data: "\\ud800"\n\n']
)
def test_an_event_that_cannot_be_read_is_an_error_and_not_delivered(bad: bytes) -> None:
    with pytest.raises(WireError) as raised:
        asyncio.run(drive(chunk({"content": "x"}) + bad, []))
    assert raised.value.status == 502


def test_no_more_than_the_limit_is_held() -> None:
    guard = StreamGuard(DIALECT, 10_000)
    with pytest.raises(WireError):
        for _ in range(1000):
            guard.feed(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x" * 50}}]}))


@pytest.mark.parametrize("size", [1, 3])
def test_cost_for_an_event_does_not_grow_with_the_stream(size: int) -> None:
    import time

    def seconds(count: int) -> float:
        raw = stream_of(["word " * size] * count)
        started = time.thread_time()
        asyncio.run(drive(raw, range(0, len(raw), 8192)))
        return (time.thread_time() - started) / count

    few = min(seconds(300) for _ in range(3))
    many = min(seconds(6000) for _ in range(3))
    assert many < few * 3
