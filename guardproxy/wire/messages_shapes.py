"""How a refusal is worded in Anthropic's messages API: a text block, and stop_reason refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guardproxy.wire.base import Json, Refusal
from guardproxy.wire.common import event_bytes, messages_error_body

_KEPT = frozenset({"message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"})


def _message(refusal: Refusal) -> dict[str, Any]:
    return {
        "id": f"msg_{refusal.decision}",
        "type": "message",
        "role": "assistant",
        "model": refusal.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": refusal.prompt_tokens, "output_tokens": refusal.completion_tokens},
    }


def refuse(refusal: Refusal) -> dict[str, Any]:
    """A whole message."""
    return {**_message(refusal), "content": [{"type": "text", "text": refusal.text}], "stop_reason": "refusal"}


def _event(kind: str, **members: Any) -> bytes:
    return event_bytes({"type": kind, **members}, kind)


def _block(refusal: Refusal, index: int) -> bytes:
    """The refusal as a block of its own."""
    start = _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
    delta = _event("content_block_delta", index=index, delta={"type": "text_delta", "text": refusal.text})
    return start + delta + _event("content_block_stop", index=index)


def _end(refusal: Refusal) -> bytes:
    delta = {"stop_reason": "refusal", "stop_sequence": None}
    usage = {"output_tokens": refusal.completion_tokens}
    return _event("message_delta", delta=delta, usage=usage) + _event("message_stop")


def refuse_stream(refusal: Refusal) -> bytes:
    """From message_start to message_stop."""
    return _event("message_start", message=_message(refusal)) + _block(refusal, 0) + _end(refusal)


def cut_stream(refusal: Refusal, seen: Sequence[Json]) -> bytes:
    """Open blocks closed, the refusal as the last block, the stream's end. Open tool calls get nothing more."""
    kinds = [event.get("type") for event in seen if isinstance(event, dict)]
    if "message_start" not in kinds:
        return refuse_stream(refusal)
    if "message_stop" in kinds:
        return b""
    if "message_delta" in kinds:
        return _event("message_stop")
    opened: dict[int, bool] = {}  # by index: still open
    for event in seen:
        index = event.get("index") if isinstance(event, dict) else None
        if type(index) is int:
            opened[index] = event.get("type") != "content_block_stop"
    closing = b"".join(_event("content_block_stop", index=index) for index, still in opened.items() if still)
    return closing + _block(refusal, max([-1, *opened]) + 1) + _end(refusal)


def keep(event: Json) -> bool:
    """Whether the event opens or closes the message or a block."""
    return isinstance(event, dict) and isinstance(kind := event.get("type"), str) and kind in _KEPT


def fail_stream(message: str, code: str) -> bytes:
    """The error event that ends a stream."""
    return event_bytes(messages_error_body(message, code, type_="api_error"), "error")
