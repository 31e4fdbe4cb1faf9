"""How a refusal is worded in completions. The stream's choices are the chat's with `text` in place of a delta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guardproxy.wire.base import Json, Refusal
from guardproxy.wire.chat_shapes import choices_of, each_choice, fail_stream, head_of, usage
from guardproxy.wire.common import DONE, event_bytes

__all__ = ["cut_stream", "fail_stream", "keep", "refuse", "refuse_stream"]


def _head(refusal: Refusal, event: Json = None) -> dict[str, Any]:
    return head_of(refusal, event, prefix="cmpl", object_="text_completion")


def _choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def refuse(refusal: Refusal) -> dict[str, Any]:
    """A whole completion with one choice."""
    return {**_head(refusal), "choices": [_choice(0, refusal.text, "content_filter")], "usage": usage(refusal)}


def _end(head: dict[str, Any], refusal: Refusal) -> bytes:
    if not refusal.include_usage:
        return DONE
    return event_bytes({**head, "choices": [], "usage": usage(refusal)}) + DONE


def _refused(head: dict[str, Any], index: int, text: str) -> bytes:
    texts = event_bytes({**head, "choices": [_choice(index, text)]})
    return texts + event_bytes({**head, "choices": [_choice(index, "", "content_filter")]})


def refuse_stream(refusal: Refusal) -> bytes:
    """Text, finish, usage if it was asked for, [DONE]."""
    head = _head(refusal)
    return _refused(head, 0, refusal.text) + _end(head, refusal)


def cut_stream(refusal: Refusal, seen: Sequence[Json]) -> bytes:
    """The refusal as the last text of every choice that was begun and has not ended, then the stream's end."""
    events = [event for event in seen if isinstance(event, dict)]
    head = _head(refusal, events[-1] if events else None)
    begun, ended, spoken = choices_of(events, refusal.delivered)
    out = [
        _refused(head, index, f"\n\n{refusal.text}" if index in spoken else refusal.text)
        for index in (sorted(begun - ended) if begun else [0])
    ]
    return b"".join((*out, _end(head, refusal)))


def keep(event: Json) -> bool:
    """Whether the event ends a choice."""
    return any(choice.get("finish_reason") is not None for _, choice in each_choice(event))
