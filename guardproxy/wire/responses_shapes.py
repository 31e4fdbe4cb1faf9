"""How a refusal is worded in the responses API: an incomplete response, for the reason content_filter.

A stream that is cut gets the refusal as a further delta of the text that is open, so that whoever reads deltas sees it.
The events that repeat whole texts, and the final response, carry the refusal in place of what was open: what the model
had written of it is not vouched for. Open tool calls get nothing more and are not in the final response, so that no
client runs a half-written one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guardproxy.wire.base import Json, Refusal
from guardproxy.wire.common import event_bytes

_OPENS = frozenset({"response.output_item.added", "response.content_part.added"})
_KEPT = _OPENS | {"response.created", "response.output_item.done", "response.content_part.done"}


def _usage(refusal: Refusal) -> dict[str, Any]:
    spent, written = refusal.prompt_tokens, refusal.completion_tokens
    return {
        "input_tokens": spent,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent + written,
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(id_: str, text: str | None) -> dict[str, Any]:
    """A message that is still empty (None) or ends with `text`."""
    content, status = ([], "in_progress") if text is None else ([_text_part(text)], "incomplete")
    return {"id": id_, "type": "message", "status": status, "role": "assistant", "content": content}


def _response(refusal: Refusal) -> dict[str, Any]:
    return {
        "id": f"resp_{refusal.decision}",
        "object": "response",
        "created_at": refusal.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": refusal.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _ended(response: dict[str, Any], output: list[Json], refusal: Refusal) -> dict[str, Any]:
    details = {"reason": "content_filter"}
    return {
        **response,
        "status": "incomplete",
        "incomplete_details": details,
        "output": output,
        "usage": _usage(refusal),
    }


def refuse(refusal: Refusal) -> dict[str, Any]:
    """A whole response."""
    return _ended(_response(refusal), [_message(f"msg_{refusal.decision}", refusal.text)], refusal)


class _Writer:
    """Events with a growing sequence number."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.out: list[bytes] = []

    def write(self, kind: str, **members: Any) -> None:
        self.out.append(event_bytes({"type": kind, **members, "sequence_number": self._number}, kind))
        self._number += 1

    def open_message(self, id_: str, output: int) -> None:
        self.write("response.output_item.added", output_index=output, item=_message(id_, None))
        self.open_part(id_, output, 0)

    def open_part(self, id_: str, output: int, index: int) -> None:
        where = {"item_id": id_, "output_index": output, "content_index": index}
        self.write("response.content_part.added", **where, part=_text_part(""))

    def close_message(self, id_: str, output: int, index: int, text: str, before: str = "") -> dict[str, Any]:
        """The text as a delta, and everything that is open of the message closed. Returns the message."""
        where = {"item_id": id_, "output_index": output, "content_index": index}
        self.write("response.output_text.delta", **where, delta=before + text, logprobs=[])
        self.write("response.output_text.done", **where, text=text, logprobs=[])
        self.write("response.content_part.done", **where, part=_text_part(text))
        message = _message(id_, text)
        self.write("response.output_item.done", output_index=output, item=message)
        return message


def refuse_stream(refusal: Refusal) -> bytes:
    """From response.created to response.incomplete."""
    writer, response, id_ = _Writer(0), _response(refusal), f"msg_{refusal.decision}"
    writer.write("response.created", response=response)
    writer.write("response.in_progress", response=response)
    writer.open_message(id_, 0)
    message = writer.close_message(id_, 0, 0, refusal.text)
    writer.write("response.incomplete", response=_ended(response, [message], refusal))
    return b"".join(writer.out)


def cut_stream(refusal: Refusal, seen: Sequence[Json]) -> bytes:
    """The refusal in the message that is open, else in a new one, and response.incomplete."""
    events = [event for event in seen if isinstance(event, dict)]
    if not events:
        return refuse_stream(refusal)
    created = (event["response"] for event in events if isinstance(event.get("response"), dict))
    response = {**_response(refusal), **next(created, {})}
    writer = _Writer(1 + max(_number(event, "sequence_number") for event in events))
    finished, opened, part = _state(events)
    last = max([-1, *finished, *opened])
    output = next((number for number in opened if opened[number].get("type") == "message"), last + 1)
    id_ = str(opened.get(output, {}).get("id", f"msg_{refusal.decision}"))
    if output not in opened:
        writer.open_message(id_, output)
        part = None
    elif part is None or part[0] != output:
        writer.open_part(id_, output, 0)
        part = None
    index = part[1] if part else 0
    finished[output] = writer.close_message(id_, output, index, refusal.text, "\n\n" if part else "")
    items = [finished[number] for number in sorted(finished)]
    writer.write("response.incomplete", response=_ended(response, items, refusal))
    return b"".join(writer.out)


def _state(events: Sequence[dict[str, Any]]) -> tuple[dict[int, Any], dict[int, Any], tuple[int, int] | None]:
    """The items that are finished and those that are open, by output index, and the open text part's indexes."""
    finished: dict[int, Any] = {}
    opened: dict[int, Any] = {}
    part: tuple[int, int] | None = None
    for event in events:
        kind, output, item = event.get("type"), _number(event, "output_index"), event.get("item")
        if kind == "response.output_item.added" and isinstance(item, dict):
            opened[output] = item
        elif kind == "response.output_item.done" and isinstance(item, dict):
            opened.pop(output, None)
            finished[output] = item
        elif kind == "response.content_part.added":
            part = (output, _number(event, "content_index"))
        elif kind == "response.content_part.done":
            part = None
    return finished, opened, part


def _number(event: dict[str, Any], name: str) -> int:
    value = event.get(name)
    return value if type(value) is int else 0


def keep(event: Json) -> bool:
    """Whether the event opens or closes the response, an item or a part of it."""
    return isinstance(event, dict) and isinstance(kind := event.get("type"), str) and kind in _KEPT


def fail_stream(message: str, code: str) -> bytes:
    """The error event that ends a stream. Its place in the sequence is not known here, and clients do not check it."""
    return event_bytes(
        {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}, "error"
    )
