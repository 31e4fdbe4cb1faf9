"""Anthropic messages: a block for the thinking, one for the text, one for each tool call, whole or event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guardproxy.testing.delivery import Event
from guardproxy.testing.replies import Choice
from guardproxy.testing.shapes.base import Ask, Shape

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_SIGNATURE = "pretend-signature"


def whole(ask: Ask) -> dict[str, Any]:
    """A message."""
    choice = ask.choices[0]
    asked, answered = ask.usage
    usage = {"input_tokens": asked, "output_tokens": answered}
    content = [block for _, block, _ in _blocks(ask, choice)]
    return {**_head(ask), "content": content, "stop_reason": _stop(choice), "stop_sequence": None, "usage": usage}


def events(ask: Ask) -> list[Event]:
    """message_start, the blocks with their deltas and a ping, message_delta with usage, message_stop."""
    return [Event(data, data["type"]) for data in _sequence(ask)]


def failure(message: str) -> list[Event]:
    """An error event."""
    return [Event({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")]


def _head(ask: Ask) -> dict[str, Any]:
    return {"id": ask.id("msg_"), "type": "message", "role": "assistant", "model": ask.model}


def _stop(choice: Choice) -> str:
    if choice.refusal and not choice.finish:
        return "refusal"
    finish = choice.finish or ("tool_calls" if choice.tool_calls else "stop")
    return _STOPS.get(finish, finish)


def _sequence(ask: Ask) -> Iterator[dict[str, Any]]:
    choice = ask.choices[0]
    asked, answered = ask.usage
    usage = {"input_tokens": asked, "output_tokens": 1}
    start = {**_head(ask), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield {"type": "message_start", "message": start}
    for index, (opening, _, deltas) in enumerate(_blocks(ask, choice)):
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": _stop(choice), "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": answered}}
    yield {"type": "message_stop"}


def _blocks(ask: Ask, choice: Choice) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]]:
    """Each block as it opens, as it is whole, and its deltas."""
    if choice.reasoning:
        block = {"type": "thinking", "thinking": choice.reasoning, "signature": _SIGNATURE}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in ask.pieces(choice.reasoning)]
        deltas.append({"type": "signature_delta", "signature": _SIGNATURE})
        yield {**block, "thinking": "", "signature": ""}, block, deltas
    text = choice.text or choice.refusal
    if text:
        deltas = [{"type": "text_delta", "text": piece} for piece in ask.pieces(text)]
        yield {"type": "text", "text": ""}, {"type": "text", "text": text}, deltas
    for index, call in enumerate(choice.tool_calls):
        head = {"type": "tool_use", "id": ask.call_id(call, index).replace("call_", "toolu_"), "name": call.name}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ask.pieces(call.arguments)]
        yield {**head, "input": {}}, {**head, "input": _parsed(call.arguments)}, deltas


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return {"unparsed": arguments}


SHAPE = Shape(whole, events, failure)
