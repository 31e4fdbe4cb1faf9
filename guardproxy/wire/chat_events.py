"""The chat completions stream: what each member of a delta continues.

Text flows on channels named by a choice's own index and the member's name; tool calls are judged whole, since half a
JSON document says little. What a delta holds besides flows on channels named by its members, so that a text split over
events is read as one.
"""

from __future__ import annotations

from collections.abc import Callable

from guardproxy.types import Path
from guardproxy.wire.base import Delta, Json
from guardproxy.wire.content import content
from guardproxy.wire.finder import ANSWER, CALL, LABELS, DeltaFinder, Finder, error_member

ReadChoice = Callable[[DeltaFinder, Json, int, list[str]], None]

ENVELOPE = frozenset(
    {"id", "object", "created", "model", "system_fingerprint", "service_tier", "usage", "choices", "obfuscation"}
)
"""Written by the server, never by the model, in every event alike: passed over unseen."""
_RESPONSE = LABELS | {"content_filter_results", "moderation", "prompt_filter_results", "provider"}
CHOICE = LABELS | {"content_filter_results", "finish_reason", "native_finish_reason", "matched_stop"}


def read_event(event: Json, kind: str, read_choice: ReadChoice) -> Delta:
    """The texts of one event, whatever it holds. `read_choice` notes in its last argument what a choice closes."""
    found = DeltaFinder()
    found.failed = kind == "error"
    if not isinstance(event, dict):
        found.unknown(event, (), "", ANSWER)
        return found.delta()
    closes: list[str] = []
    for key, value in event.items():
        if key == "choices" and isinstance(value, list):
            for position, choice in enumerate(value):
                read_choice(found, choice, position, closes)
        elif key == "choices" or key not in ENVELOPE:
            found.failed = found.failed or (key == "error" and bool(value))
            beside(found, key, value)
    found.closes = tuple(closes)
    return found.delta()


def read_delta(found: DeltaFinder, choice: Json, position: int, closes: list[str]) -> None:
    """One choice of a chat chunk."""
    path: Path = ("choices", position)
    channel = f"choices.{number_of(choice, position)}"
    if not isinstance(choice, dict):
        found.unknown(choice, path, channel, ANSWER)
        return
    before = len(found.stretches)
    found.echo = (*path, "logprobs") if choice.get("logprobs") else None
    delta = choice.get("delta")
    if isinstance(delta, dict):
        for key, value in delta.items():
            _delta_member(found, key, value, (*path, "delta"), channel)
    repeated = len(found.stretches) > before
    found.echo = None
    for key, value in choice.items():
        if key == "logprobs":
            if not repeated:
                found.flowing(value, (*path, key), f"{channel}.{key}", ANSWER)
        elif not (key == "delta" and isinstance(value, dict)):
            found.member(key, value, path, channel, ANSWER, CHOICE)
    if choice.get("finish_reason") is not None:
        closes.append(f"{channel}.")


def _delta_member(found: DeltaFinder, key: str, value: Json, path: Path, channel: str) -> None:
    here, name = (*path, key), f"{channel}.{key}"
    if key == "tool_calls" and isinstance(value, list):
        for position, call in enumerate(value):
            _delta_call(found, call, (*here, position), f"{name}.{number_of(call, position)}")
    elif key == "function_call" and isinstance(value, dict):
        _delta_function(found, value, here, name)
    elif key == "content" and isinstance(value, list):
        for index, part in enumerate(value):
            _delta_part(found, part, (*here, index), name)
    elif key == "audio" and isinstance(value, dict):
        if value.get("data"):
            found.part("audio", (*here, "data"))
        for inner, member in value.items():
            if inner != "data":
                found.flowing_member(inner, member, here, name, ANSWER)
    else:
        found.flowing_member(key, value, path, channel, ANSWER)


def _delta_part(found: DeltaFinder, part: Json, path: Path, channel: str) -> None:
    """One part of a content that is streamed as parts: its text continues the content."""
    if not isinstance(part, dict):
        found.flowing(part, path, channel, ANSWER)
        return
    text = part.get("text")
    if isinstance(text, str):
        found.stretch(text, (*path, "text"), channel, ANSWER)
    rest = {key: member for key, member in part.items() if not (key == "text" and isinstance(text, str))}
    aside = Finder()
    content(aside, rest, path, channel, ANSWER)
    found.parts += [each for each in aside.parts if each.kind != "other"]
    if not any(each.kind != "other" for each in aside.parts):
        found.flowing(rest, path, channel, ANSWER)
    else:
        found.segments += aside.segments


def _delta_call(found: DeltaFinder, call: Json, path: Path, channel: str) -> None:
    if not isinstance(call, dict):
        found.flowing(call, path, channel, CALL, whole=True)
        return
    for key, value in call.items():
        if key in ("function", "custom") and isinstance(value, dict):
            _delta_function(found, value, (*path, key), channel)
        else:
            found.flowing_member(key, value, path, channel, CALL, whole=True)


def _delta_function(found: DeltaFinder, function: dict[str, Json], path: Path, channel: str) -> None:
    for key, value in function.items():
        found.flowing_member(key, value, path, channel, CALL, whole=key != "name")


def beside(found: Finder, key: str, value: Json) -> None:
    """A member of a response or an event beside its choices."""
    if key == "error":
        error_member(found, value, (key,), key)
    else:
        found.member(key, value, (), "", ANSWER, _RESPONSE)


def number_of(thing: Json, position: int) -> int:
    """A choice's or a call's own index, or its position if it has none."""
    index = thing.get("index") if isinstance(thing, dict) else None
    return index if type(index) is int else position
