"""Responses: an item for the reasoning, one for the message and one for each tool call, whole or event by event.

Every text comes three times in a stream, as the real API's do: in pieces, whole when its part is done, and again in the
item and in the final response. Streams end with response.completed; there is no [DONE].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guardproxy.testing.delivery import Event
from guardproxy.testing.replies import Choice, ToolCall
from guardproxy.testing.shapes.base import CREATED, Ask, Shape

_Item = tuple[dict[str, Any], dict[str, Any], list[tuple[str, dict[str, Any]]]]
"""An item as it is added, as it is done, and the events between."""


def whole(ask: Ask) -> dict[str, Any]:
    """A response."""
    return _response(ask, "completed", [done for _, done, _ in _items(ask)])


def events(ask: Ask) -> list[Event]:
    """The events of a response, numbered."""
    numbered = []
    for number, (kind, members) in enumerate(_sequence(ask)):
        numbered.append(Event({"type": kind, **members, "sequence_number": number}, kind))
    return numbered


def failure(message: str) -> list[Event]:
    """An error event."""
    data = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 0}
    return [Event(data, "error")]


def _sequence(ask: Ask) -> Iterator[tuple[str, dict[str, Any]]]:
    started = _response(ask, "in_progress", [])
    yield "response.created", {"response": started}
    yield "response.in_progress", {"response": started}
    output = []
    for index, (added, done, between) in enumerate(_items(ask)):
        yield "response.output_item.added", {"output_index": index, "item": added}
        for kind, members in between:
            yield kind, {"item_id": done["id"], "output_index": index, **members}
        yield "response.output_item.done", {"output_index": index, "item": done}
        output.append(done)
    end = _response(ask, "completed", output)
    yield f"response.{end['status']}", {"response": end}


def _response(ask: Ask, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    asked, answered = ask.usage
    usage = {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + answered,
    }
    short = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(ask.choices[0].finish)
    if status == "completed" and short:
        status = "incomplete"
    return {
        "id": ask.id("resp_"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": short} if status == "incomplete" else None,
        "instructions": ask.document.get("instructions"),
        "metadata": ask.document.get("metadata") or {},
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": ask.document.get("tool_choice") or "auto",
        "tools": ask.document.get("tools") or [],
        "top_p": 1.0,
        "usage": None if status == "in_progress" else usage,
    }


def _items(ask: Ask) -> list[_Item]:
    choice = ask.choices[0]
    items = [_reasoning(ask, choice.reasoning)] if choice.reasoning else []
    if choice.text or choice.refusal or not choice.tool_calls:
        items.append(_message(ask, choice))
    return items + [_call(ask, call, index) for index, call in enumerate(choice.tool_calls)]


def _reasoning(ask: Ask, text: str) -> _Item:
    item = {"id": ask.id("rs_"), "type": "reasoning", "summary": []}
    part = {"type": "summary_text", "text": text}
    place = {"summary_index": 0}
    kind = "response.reasoning_summary"
    between = [
        (f"{kind}_part.added", {**place, "part": {**part, "text": ""}}),
        *((f"{kind}_text.delta", {**place, "delta": piece}) for piece in ask.pieces(text)),
        (f"{kind}_text.done", {**place, "text": text}),
        (f"{kind}_part.done", {**place, "part": part}),
    ]
    return item, {**item, "summary": [part]}, between


def _message(ask: Ask, choice: Choice) -> _Item:
    item = {"id": ask.id("msg_"), "type": "message", "role": "assistant"}
    content: list[dict[str, Any]] = []
    between: list[tuple[str, dict[str, Any]]] = []
    for name, text in (("text", choice.text), ("refusal", choice.refusal)):
        if text or (name == "text" and not choice.refusal):
            part, steps = _part(ask, name, text, len(content))
            content.append(part)
            between += steps
    added = {**item, "status": "in_progress", "content": []}
    return added, {**item, "status": "completed", "content": content}, between


def _part(ask: Ask, name: str, text: str, index: int) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    if name == "text":
        kind, part = "response.output_text", {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    else:
        kind, part = "response.refusal", {"type": "refusal", "refusal": text}
    place = {"content_index": index}
    extra: dict[str, Any] = {"logprobs": []} if name == "text" else {}
    between = [
        ("response.content_part.added", {**place, "part": {**part, name: ""}}),
        *((f"{kind}.delta", {**place, "delta": piece, **extra}) for piece in ask.pieces(text)),
        (f"{kind}.done", {**place, name: text, **extra}),
        ("response.content_part.done", {**place, "part": part}),
    ]
    return part, between


def _call(ask: Ask, call: ToolCall, index: int) -> _Item:
    item = {
        "id": ask.id("fc_", index + 1),
        "type": "function_call",
        "call_id": ask.call_id(call, index),
        "name": call.name,
    }
    kind = "response.function_call_arguments"
    between = [
        *((f"{kind}.delta", {"delta": piece}) for piece in ask.pieces(call.arguments)),
        (f"{kind}.done", {"name": call.name, "arguments": call.arguments}),
    ]
    added = {**item, "status": "in_progress", "arguments": ""}
    return added, {**item, "status": "completed", "arguments": call.arguments}, between


SHAPE = Shape(whole, events, failure)
