"""Chat completions: reasoning, text, refusal and tool calls of every choice, whole or in pieces, with log-
probabilities.

The choices of a stream take turns, as they do with a batching server. A request that offers `functions` and no `tools`
gets the first call in the legacy member.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guardproxy.testing.delivery import DONE, Event
from guardproxy.testing.replies import Choice, tokens
from guardproxy.testing.shapes.base import CREATED, Ask, Shape, interleave, openai_failure, openai_usage, wants_usage


def whole(ask: Ask) -> dict[str, Any]:
    """A chat.completion."""
    choices = [
        {
            "index": index,
            "message": _message(ask, choice),
            "logprobs": _logprobs(ask, tokens(choice.text)),
            "finish_reason": _finish(ask, choice),
        }
        for index, choice in enumerate(ask.choices)
    ]
    return {**_head(ask, "chat.completion"), "choices": choices, "usage": openai_usage(ask)}


def events(ask: Ask) -> list[Event]:
    """chat.completion.chunk events: the role, the pieces, the finish; then usage where asked for, and [DONE]."""
    head, usage = _head(ask, "chat.completion.chunk"), wants_usage(ask)
    rows = [list(_deltas(ask, index, choice)) for index, choice in enumerate(ask.choices)]
    extra: dict[str, Any] = {"usage": None} if usage else {}
    chunks = [Event({**head, "choices": [choice], **extra}) for choice in interleave(rows)]
    if usage:
        chunks.append(Event({**head, "choices": [], "usage": openai_usage(ask)}))
    return [*chunks, Event(DONE)]


def _head(ask: Ask, kind: str) -> dict[str, Any]:
    return {
        "id": ask.id("chatcmpl-"),
        "object": kind,
        "created": CREATED,
        "model": ask.model,
        "system_fingerprint": "fp_pretend",
    }


def _legacy(ask: Ask) -> bool:
    return bool(ask.document.get("functions")) and not ask.document.get("tools")


def _finish(ask: Ask, choice: Choice) -> str:
    if choice.finish or not choice.tool_calls:
        return choice.finish or "stop"
    return "function_call" if _legacy(ask) else "tool_calls"


def _message(ask: Ask, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text or None, "refusal": choice.refusal or None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls and _legacy(ask):
        call = choice.tool_calls[0]
        message["function_call"] = {"name": call.name, "arguments": call.arguments}
    elif choice.tool_calls:
        message["tool_calls"] = [
            {
                "id": ask.call_id(call, index),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(choice.tool_calls)
        ]
    elif not (choice.text or choice.refusal):
        message["content"] = ""
    return message


def _logprobs(ask: Ask, texts: list[str]) -> dict[str, Any] | None:
    if ask.document.get("logprobs") is not True:
        return None
    top = ask.document.get("top_logprobs")
    return {"content": [_logprob(text, isinstance(top, int) and top > 0) for text in texts], "refusal": None}


def _logprob(text: str, top: bool) -> dict[str, Any]:
    entry = {"token": text, "logprob": -0.25, "bytes": list(text.encode("utf-8", "surrogatepass"))}
    return {**entry, "top_logprobs": [dict(entry)] if top else []}


def _deltas(ask: Ask, index: int, choice: Choice) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in ask.pieces(choice.reasoning):
        yield chunk({"reasoning_content": piece})
    for piece in ask.pieces(choice.text):
        yield chunk({"content": piece}, _logprobs(ask, [piece]))
    for piece in ask.pieces(choice.refusal):
        yield chunk({"refusal": piece})
    for delta in _call_deltas(ask, choice):
        yield chunk(delta)
    yield chunk({}, finish=_finish(ask, choice))


def _call_deltas(ask: Ask, choice: Choice) -> Iterator[dict[str, Any]]:
    if choice.tool_calls and _legacy(ask):
        call = choice.tool_calls[0]
        yield {"function_call": {"name": call.name, "arguments": ""}}
        yield from ({"function_call": {"arguments": piece}} for piece in ask.pieces(call.arguments))
        return
    for index, call in enumerate(choice.tool_calls):
        function = {"name": call.name, "arguments": ""}
        opening = {"index": index, "id": ask.call_id(call, index), "type": "function", "function": function}
        yield {"tool_calls": [opening]}
        for piece in ask.pieces(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


SHAPE = Shape(whole, events, openai_failure)
