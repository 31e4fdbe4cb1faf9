"""How a refusal is worded in chat completions: what the official client reads as a normal end, with content_filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from guardproxy.wire.base import Json, Refusal
from guardproxy.wire.common import DONE, error_body, event_bytes


def usage(refusal: Refusal) -> dict[str, int]:
    """The token counts, as chat and completions name them."""
    spent, written = refusal.prompt_tokens, refusal.completion_tokens
    return {"prompt_tokens": spent, "completion_tokens": written, "total_tokens": spent + written}


def refuse(refusal: Refusal) -> dict[str, Any]:
    """A whole chat completion with one choice."""
    message = {"role": "assistant", "content": refusal.text, "refusal": None}
    return {
        "id": f"chatcmpl-{refusal.decision}",
        "object": "chat.completion",
        "created": refusal.created,
        "model": refusal.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "content_filter"}],
        "usage": usage(refusal),
    }


def _head(refusal: Refusal, event: Json = None) -> dict[str, Any]:
    return head_of(refusal, event, prefix="chatcmpl", object_="chat.completion.chunk")


def head_of(refusal: Refusal, event: Json, *, prefix: str, object_: str) -> dict[str, Any]:
    """What all chunks of one stream share: that of `event`, or what we make up."""
    head: dict[str, Any] = {
        "id": f"{prefix}-{refusal.decision}",
        "object": object_,
        "created": refusal.created,
        "model": refusal.model,
    }
    if isinstance(event, dict):
        head |= {key: event[key] for key, own in head.items() if type(event.get(key)) is type(own)}
    return head


def _chunk(head: dict[str, Any], refusal: Refusal, index: int, delta: Json, finish: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk: dict[str, Any] = {**head, "choices": [choice]}
    if refusal.include_usage:
        chunk["usage"] = None
    return event_bytes(chunk)


def _end(head: dict[str, Any], refusal: Refusal) -> bytes:
    if not refusal.include_usage:
        return DONE
    return event_bytes({**head, "choices": [], "usage": usage(refusal)}) + DONE


def refuse_stream(refusal: Refusal) -> bytes:
    """Role, content, finish, usage if it was asked for, [DONE]."""
    head = _head(refusal)
    return b"".join(
        (
            _chunk(head, refusal, 0, {"role": "assistant", "content": "", "refusal": None}),
            _chunk(head, refusal, 0, {"content": refusal.text}),
            _chunk(head, refusal, 0, {}, "content_filter"),
            _end(head, refusal),
        )
    )


def cut_stream(refusal: Refusal, seen: Sequence[Json]) -> bytes:
    """The refusal as the last content of every choice that was begun and has not ended, then the stream's end.

    Tool calls that are open get nothing more. A choice of which text was delivered gets a blank line first.
    """
    events = [event for event in seen if isinstance(event, dict)]
    if not events and not refusal.delivered:
        return refuse_stream(refusal)
    head = _head(refusal, events[-1] if events else None)
    begun, ended, spoken = choices_of(events, refusal.delivered)
    out: list[bytes] = []
    for index in sorted(begun - ended) if begun else [0]:
        text = f"\n\n{refusal.text}" if index in spoken else refusal.text
        out += (_chunk(head, refusal, index, {"content": text}), _chunk(head, refusal, index, {}, "content_filter"))
    return b"".join((*out, _end(head, refusal)))


def choices_of(events: Sequence[Json], delivered: Sequence[str] | None) -> tuple[set[int], set[int], set[int]]:
    """The choices that were begun, that ended, and of which content was delivered."""
    begun, ended, spoken = set(), set(), set()
    for position, choice in (each for event in events for each in each_choice(event)):
        index = choice.get("index")
        number = index if type(index) is int else position
        begun.add(number)
        if choice.get("finish_reason") is not None:
            ended.add(number)
        delta = choice.get("delta")
        if isinstance(delta, dict) and delta.get("content"):
            spoken.add(number)
    if delivered is None:
        return begun, ended, begun  # take it that each has said something
    for channel in delivered:
        steps = channel.split(".")
        if steps[0] == "choices" and len(steps) > 1 and steps[1].isdecimal():
            begun.add(int(steps[1]))
            if steps[2:3] in (["content"], ["text"]):
                spoken.add(int(steps[1]))
    return begun, ended, spoken


def each_choice(event: Json) -> Iterator[tuple[int, dict[str, Any]]]:
    """The choices of a chunk, with their positions."""
    choices = event.get("choices") if isinstance(event, dict) else None
    if isinstance(choices, list):
        yield from ((position, choice) for position, choice in enumerate(choices) if isinstance(choice, dict))


def keep(event: Json) -> bool:
    """Whether the event opens a choice (a role, no text yet) or ends one."""
    for _, choice in each_choice(event):
        if choice.get("finish_reason") is not None:
            return True
        delta = choice.get("delta")
        if isinstance(delta, dict) and "role" in delta and not delta.get("content"):
            return True
    return False


def fail_stream(message: str, code: str) -> bytes:
    """An error as the official client raises it, then [DONE]."""
    return event_bytes(error_body(message, code, type_="server_error")) + DONE
