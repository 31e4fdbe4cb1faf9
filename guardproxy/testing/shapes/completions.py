"""Completions, the legacy API: every prompt of a list gets its choices; `echo` repeats the prompt; log-probabilities by
token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guardproxy.testing.delivery import DONE, Event
from guardproxy.testing.replies import Choice, text_of, tokens
from guardproxy.testing.shapes.base import CREATED, Ask, Shape, interleave, openai_failure, openai_usage, wants_usage


def whole(ask: Ask) -> dict[str, Any]:
    """A text_completion."""
    choices = [
        {
            "index": index,
            "text": text,
            "logprobs": _logprobs(ask, tokens(text)),
            "finish_reason": choice.finish or "stop",
        }
        for index, (text, choice) in enumerate(_answers(ask))
    ]
    return {**_head(ask), "choices": choices, "usage": openai_usage(ask)}


def events(ask: Ask) -> list[Event]:
    """text_completion events, the finish, usage where asked for, and [DONE]."""
    usage = wants_usage(ask)
    extra: dict[str, Any] = {"usage": None} if usage else {}
    rows = [list(_deltas(ask, index, *answer)) for index, answer in enumerate(_answers(ask))]
    chunks = [Event({**_head(ask), "choices": [choice], **extra}) for choice in interleave(rows)]
    if usage:
        chunks.append(Event({**_head(ask), "choices": [], "usage": openai_usage(ask)}))
    return [*chunks, Event(DONE)]


def _head(ask: Ask) -> dict[str, Any]:
    return {"id": ask.id("cmpl-"), "object": "text_completion", "created": CREATED, "model": ask.model}


def _answers(ask: Ask) -> Iterator[tuple[str, Choice]]:
    prompt = ask.document.get("prompt")
    prompts = prompt if isinstance(prompt, list) and all(isinstance(item, str) for item in prompt) else [prompt]
    for item in prompts:
        for choice in ask.choices:
            yield (text_of(item) if ask.document.get("echo") is True else "") + choice.text, choice


def _deltas(ask: Ask, index: int, text: str, choice: Choice) -> Iterator[dict[str, Any]]:
    start = 0
    for piece in ask.pieces(text):
        yield {"index": index, "text": piece, "logprobs": _logprobs(ask, [piece], start), "finish_reason": None}
        start += len(piece)
    yield {"index": index, "text": "", "logprobs": None, "finish_reason": choice.finish or "stop"}


def _logprobs(ask: Ask, texts: list[str], start: int = 0) -> dict[str, Any] | None:
    if not isinstance(ask.document.get("logprobs"), int) or ask.document["logprobs"] is False:
        return None
    offsets = []
    for text in texts:
        offsets.append(start)
        start += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [-0.25] * len(texts),
        "top_logprobs": [{text: -0.25} for text in texts],
        "text_offset": offsets,
    }


SHAPE = Shape(whole, events, openai_failure)
