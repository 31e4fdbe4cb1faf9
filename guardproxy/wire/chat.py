"""POST /v1/chat/completions: every message, every choice, every delta.

Messages of the request are prompts, whoever speaks them, but for tool results and tool calls, which have scopes of
their own; what the model writes is a completion, but for its tool calls. Log-probabilities repeat a choice's text, so
they are its echo, and are located themselves only where there is no text that they could repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

from guardproxy.types import Path, Scope, Segment
from guardproxy.wire import chat_shapes as shapes
from guardproxy.wire.base import Delta, Json, Located, Refusal, Stretch
from guardproxy.wire.chat_events import CHOICE, ENVELOPE, beside, number_of, read_delta, read_event
from guardproxy.wire.content import content, definitions, encoded
from guardproxy.wire.finder import (
    ANSWER,
    CALL,
    DEFINITION,
    LABELS,
    USER,
    Finder,
    Voice,
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
_PLAIN_CHOICE = frozenset({"index", "delta", "logprobs", "finish_reason", "token_ids"})
_PLAIN_MESSAGE = frozenset({"role", "content", "refusal"})
_PLAIN_WHOLE = frozenset({"index", "message", "logprobs", "finish_reason"})
_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_PLAIN_ROLES = frozenset({"system", "developer", "user", "assistant"})
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
            elif key == "choices" or key not in ENVELOPE:
                beside(found, key, value)
        return found.located()

    def delta(self, event: Json, kind: str) -> Delta:
        """Every choice's delta. An event with one choice's content alone, as nearly all are, is read at once."""
        if type(event) is dict and not kind:
            choices = event.get("choices")
            if type(choices) is list and len(choices) == 1 and event.keys() <= ENVELOPE:
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
        return read_event(event, kind, read_delta)

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
        if not isinstance(message, dict):
            found.unknown(message, ("messages", index), f"messages.{index}", USER)
            continue
        role, text = message.get("role"), message.get("content")
        if type(text) is str and text and len(message) == 2 and type(role) is str and role in _PLAIN_ROLES:
            path = ("messages", index, "content")
            found.segments.append(Segment(f"messages.{index}.content", path, role, Scope.PROMPT, text))
        else:
            _message(found, message, ("messages", index), f"messages.{index}", _MESSAGE_VOICES[role_of(role)])


def _message(found: Finder, message: dict[str, Json], path: Path, channel: str, voice: Voice) -> None:
    for key, value in message.items():
        here, name = (*path, key), f"{channel}.{key}"
        if key == "content":
            content(found, value, here, name, voice, embed=voice.scope is Scope.TOOL_RESULT)
        elif key == "tool_calls" and isinstance(value, list):
            for index, call in enumerate(value):
                _tool_call(found, call, (*here, index), f"{name}.{number_of(call, index)}")
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


def _is_plain(choice: Json) -> bool:
    """Whether a choice is one text and nothing else, as most are."""
    if type(choice) is not dict or not choice.keys() <= _PLAIN_WHOLE or choice.get("logprobs"):
        return False
    message, finish = choice.get("message"), choice.get("finish_reason")
    return (
        type(message) is dict
        and message.keys() <= _PLAIN_MESSAGE
        and type(message.get("content")) is str
        and message["content"] != ""
        and message.get("role") == "assistant"
        and message.get("refusal") is None
        and type(finish) is str
        and finish in _FINISHES
        and type(choice.get("index")) is int
    )


def _choice(found: Finder, choice: Json, position: int) -> None:
    if _is_plain(choice):
        where = ("choices", position, "message", "content")
        text = choice["message"]["content"]
        found.segments.append(Segment(f"choices.{choice['index']}.content", where, "assistant", Scope.COMPLETION, text))
        return
    path: Path = ("choices", position)
    channel = f"choices.{number_of(choice, position)}"
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
            found.member(key, value, path, channel, ANSWER, CHOICE)
