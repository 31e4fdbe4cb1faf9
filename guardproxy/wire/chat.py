"""POST /v1/chat/completions: every message, every choice, every delta.

Messages of the request are prompts, whoever speaks them, but for tool results and tool calls, which have scopes of
their own; what the model writes is a completion, but for its tool calls. Log-probabilities repeat a choice's text, so
they are its echo, and are located themselves only where there is no text that they could repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

from guardproxy.types import Path, Scope
from guardproxy.wire import chat_shapes as shapes
from guardproxy.wire.base import Delta, Json, Located, Refusal, Stretch
from guardproxy.wire.content import content, definitions, encoded
from guardproxy.wire.finder import (
    ANSWER,
    CALL,
    DEFINITION,
    LABELS,
    USER,
    DeltaFinder,
    Finder,
    Voice,
    error_member,
    role_of,
)

_REQUEST = LABELS | {
    "audio",
    "function_call",
    "modalities",
    "model",
    "prompt_cache_retention",
    "reasoning_effort",
    "service_tier",
    "stream_options",
    "tool_choice",
    "truncation",
    "verbosity",
}
_ENVELOPE = frozenset(
    {"id", "object", "created", "model", "system_fingerprint", "service_tier", "usage", "choices", "obfuscation"}
)
"""Written by the server, never by the model, in every event alike: passed over unseen."""
_RESPONSE = LABELS | {"content_filter_results", "moderation", "prompt_filter_results", "provider"}
_CHOICE = LABELS | {"content_filter_results", "finish_reason", "native_finish_reason", "matched_stop"}
_PLAIN_CHOICE = frozenset({"index", "delta", "logprobs", "finish_reason", "token_ids"})
_PLAIN_MESSAGE = frozenset({"role", "content", "refusal"})
_FIRST: Path = ("choices", 0, "delta", "content")
_FIRST_LOGPROBS: Path = ("choices", 0, "logprobs")
_MESSAGE_VOICES = {
    role: Voice(role, Scope.TOOL_RESULT if role == "tool" else Scope.PROMPT)
    for role in ("system", "developer", "user", "assistant", "tool")
}


class ChatDialect:
    """The chat completions API."""

    name = "chat"

    def request(self, document: Json) -> Located:
        """Messages, tool definitions, and whatever else the caller wrote."""
        found = Finder()
        if not isinstance(document, dict):
            found.unknown(document, (), "", USER)
            return found.located()
        for key, value in document.items():
            if key == "messages":
                messages(found, value)
            elif key in ("tools", "functions"):
                definitions(found, value, (key,), key)
            elif key == "prediction" and isinstance(value, dict):
                content(found, value.get("content"), (key, "content"), "prediction.content", USER)
                found.members(value, (key,), key, USER, handled=("content",))
            elif key == "response_format" and isinstance(value, dict) and len(value) > 1:
                found.flat(value, (key,), key, DEFINITION)
            elif key == "response_format":
                found.structural(value, (key,), key, DEFINITION)
            else:
                found.member(key, value, (), "", USER, _REQUEST)
        return found.located()

    def response(self, document: Json) -> Located:
        """Every choice, and what else the response holds."""
        found = Finder()
        if not isinstance(document, dict):
            found.unknown(document, (), "", ANSWER)
            return found.located()
        for key, value in document.items():
            if key == "choices" and isinstance(value, list):
                for position, choice in enumerate(value):
                    _choice(found, choice, position)
            elif key == "choices" or key not in _ENVELOPE:
                _beside(found, key, value)
        return found.located()

    def delta(self, event: Json, kind: str) -> Delta:
        """Every choice's delta. An event with one choice's content alone, as nearly all are, is read at once."""
        if type(event) is dict and not kind:
            choices = event.get("choices")
            if type(choices) is list and len(choices) == 1 and event.keys() <= _ENVELOPE:
                choice = choices[0]
                if type(choice) is dict and choice.keys() <= _PLAIN_CHOICE and choice.get("finish_reason") is None:
                    delta, index = choice.get("delta"), choice.get("index")
                    if type(delta) is dict and len(delta) == 1 and type(index) is int and not choice.get("token_ids"):
                        text = delta.get("content")
                        if type(text) is str and text:
                            echo = _FIRST_LOGPROBS if choice.get("logprobs") else None
                            stretch = Stretch(
                                f"choices.{index}.content", _FIRST, text, "assistant", Scope.COMPLETION, False, echo
                            )
                            return Delta([stretch])
        return _delta(event, kind)

    def refuse(self, refusal: Refusal) -> Json:
        """A chat completion that carries the refusal."""
        return shapes.refuse(refusal)

    def refuse_stream(self, refusal: Refusal) -> bytes:
        """The same in chunks."""
        return shapes.refuse_stream(refusal)

    def cut_stream(self, refusal: Refusal, seen: Sequence[Json]) -> bytes:
        """The refusal and the end of every choice that has not ended."""
        return shapes.cut_stream(refusal, seen)

    def keep(self, event: Json) -> bool:
        """Events that open or end a choice."""
        return shapes.keep(event)

    def fail_stream(self, message: str, code: str) -> bytes:
        """An error chunk and [DONE]."""
        return shapes.fail_stream(message, code)


def messages(found: Finder, value: Json) -> None:
    """The `messages` of a request."""
    if not isinstance(value, list):
        found.unknown(value, ("messages",), "messages", USER)
        return
    for index, message in enumerate(value):
        here, channel = ("messages", index), f"messages.{index}"
        if not isinstance(message, dict):
            found.unknown(message, here, channel, USER)
            continue
        role = message.get("role")
        voice = _MESSAGE_VOICES[role_of(role)]
        text = message.get("content")
        if type(text) is str and len(message) == 2 and role == voice.role and role != "tool":
            found.text(text, (*here, "content"), f"messages.{index}.content", voice)
        else:
            _message(found, message, here, channel, voice)


def _message(found: Finder, message: dict[str, Json], path: Path, channel: str, voice: Voice) -> None:
    for key, value in message.items():
        here, name = (*path, key), f"{channel}.{key}"
        if key == "content":
            content(found, value, here, name, voice, embed=voice.scope is Scope.TOOL_RESULT)
        elif key == "tool_calls" and isinstance(value, list):
            for index, call in enumerate(value):
                _tool_call(found, call, (*here, index), f"{name}.{_number(call, index)}")
        elif key == "function_call" and isinstance(value, dict):
            _function(found, value, here, name)
        elif key in ("tool_calls", "function_call"):
            found.unknown(value, here, name, CALL)
        elif key == "audio" and value:
            found.part("audio", here)
            encoded(found, value, here, name, voice)
        elif key == "role":
            # A role that is none is text: some servers put it into the prompt as it stands.
            found.structural(value, here, name, voice)
        elif key == "encrypted_content" and value:
            found.part("encrypted", here)
        else:
            found.member(key, value, path, channel, voice, LABELS)


def _number(thing: Json, position: int) -> int:
    """A choice's or a call's own index, or its position if it has none."""
    index = thing.get("index") if isinstance(thing, dict) else None
    return index if type(index) is int else position


def _tool_call(found: Finder, call: Json, path: Path, channel: str) -> None:
    if not isinstance(call, dict):
        found.unknown(call, path, channel, CALL)
        return
    for key, value in call.items():
        if key in ("function", "custom") and isinstance(value, dict):
            _function(found, value, (*path, key), channel)
        else:
            found.member(key, value, path, channel, CALL, LABELS)


def _function(found: Finder, function: dict[str, Json], path: Path, channel: str) -> None:
    """A function's name and arguments, or a custom tool's name and input."""
    for key, value in function.items():
        if isinstance(value, str) and key != "name":
            found.embedded(value, (*path, key), f"{channel}.{key}", CALL)
        elif isinstance(value, dict | list):
            found.flat(value, (*path, key), f"{channel}.{key}", CALL)
        else:
            found.member(key, value, path, channel, CALL, LABELS)


def _beside(found: Finder, key: str, value: Json) -> None:
    """A member of a response or an event beside its choices."""
    if key == "error":
        error_member(found, value, (key,), key)
    else:
        found.member(key, value, (), "", ANSWER, _RESPONSE)


def _choice(found: Finder, choice: Json, position: int) -> None:
    path: Path = ("choices", position)
    channel = f"choices.{_number(choice, position)}"
    if not isinstance(choice, dict):
        found.unknown(choice, path, channel, ANSWER)
        return
    before = len(found.segments)
    found.echo = (*path, "logprobs") if choice.get("logprobs") else None
    message = choice.get("message")
    if isinstance(message, dict):
        _message(found, message, (*path, "message"), channel, ANSWER)
    repeated = len(found.segments) > before
    found.echo = None
    for key, value in choice.items():
        if not ((key == "message" and isinstance(value, dict)) or (key == "logprobs" and repeated)):
            found.member(key, value, path, channel, ANSWER, _CHOICE)


def _delta(event: Json, kind: str) -> Delta:
    found = DeltaFinder()
    found.failed = kind == "error"
    if not isinstance(event, dict):
        found.unknown(event, (), "", ANSWER)
        return found.delta()
    closes: list[str] = []
    for key, value in event.items():
        if key == "choices" and isinstance(value, list):
            for position, choice in enumerate(value):
                _delta_choice(found, choice, position, closes)
        elif key == "choices" or key not in _ENVELOPE:
            found.failed = found.failed or (key == "error" and bool(value))
            _beside(found, key, value)
    found.closes = tuple(closes)
    return found.delta()


def _delta_choice(found: DeltaFinder, choice: Json, position: int, closes: list[str]) -> None:
    path: Path = ("choices", position)
    channel = f"choices.{_number(choice, position)}"
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
            found.member(key, value, path, channel, ANSWER, _CHOICE)
    if choice.get("finish_reason") is not None:
        closes.append(f"{channel}.")


def _delta_member(found: DeltaFinder, key: str, value: Json, path: Path, channel: str) -> None:
    here, name = (*path, key), f"{channel}.{key}"
    if key == "tool_calls" and isinstance(value, list):
        for position, call in enumerate(value):
            _delta_call(found, call, (*here, position), f"{name}.{_number(call, position)}")
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
