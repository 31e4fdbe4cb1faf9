"""POST /v1/messages, Anthropic's API, which other servers offer as well: system, messages, blocks and their events."""

from __future__ import annotations

from collections.abc import Sequence

from guardproxy.types import Path, Scope
from guardproxy.wire import messages_shapes as shapes
from guardproxy.wire.base import Delta, Json, Located, Refusal, Stretch
from guardproxy.wire.content import content, definitions, thing
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

_SYSTEM = Voice("system", Scope.PROMPT)
_REQUEST = LABELS | {
    "betas",
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "model",
    "service_tier",
    "speed",
    "thinking",
    "tool_choice",
}
_ENVELOPE = frozenset({"id", "model", "usage"})
_RESPONSE = LABELS | {"container", "context_management", "diagnostics", "stop_reason"}
_PLAIN_DELTA = {"type", "index", "delta"}
_DELTA_PATH: Path = ("delta", "text")


class MessagesDialect:
    """Anthropic's messages API."""

    name = "messages"

    def request(self, document: Json) -> Located:
        """System prompt, messages, tool definitions, and whatever else the caller wrote."""
        found = Finder()
        if not isinstance(document, dict):
            found.unknown(document, (), "", USER)
            return found.located()
        for key, value in document.items():
            if key == "messages":
                _messages(found, value)
            elif key == "system":
                content(found, value, (key,), key, _SYSTEM)
            elif key == "tools":
                definitions(found, value, (key,), key)
            elif key in ("output_config", "output_format"):
                found.structural(value, (key,), key, DEFINITION)
            elif key == "mcp_servers" and isinstance(value, list):
                for index, server in enumerate(value):
                    _server(found, server, (key, index), f"{key}.{index}")
            else:
                found.member(key, value, (), "", USER, _REQUEST)
        return found.located()

    def response(self, document: Json) -> Located:
        """Every content block."""
        found = Finder()
        _response(found, document, ())
        return found.located()

    def delta(self, event: Json, kind: str) -> Delta:
        """One of the typed events."""
        if type(event) is dict and event.get("type") == "content_block_delta" and event.keys() == _PLAIN_DELTA:
            delta, index = event["delta"], event["index"]
            if type(delta) is dict and len(delta) == 2 and delta.get("type") == "text_delta" and type(index) is int:
                text = delta.get("text")
                if type(text) is str and text:
                    return Delta([Stretch(f"content.{index}.text", _DELTA_PATH, text)])
        return _event(event, kind)

    def refuse(self, refusal: Refusal) -> Json:
        """A message that carries the refusal, with stop_reason refusal."""
        return shapes.refuse(refusal)

    def refuse_stream(self, refusal: Refusal) -> bytes:
        """The same as typed events."""
        return shapes.refuse_stream(refusal)

    def cut_stream(self, refusal: Refusal, seen: Sequence[Json]) -> bytes:
        """Closes open blocks, then the refusal as a block of its own, then the end."""
        return shapes.cut_stream(refusal, seen)

    def keep(self, event: Json) -> bool:
        """Events that open or close something."""
        return shapes.keep(event)

    def fail_stream(self, message: str, code: str) -> bytes:
        """An error event."""
        return shapes.fail_stream(message, code)


def _messages(found: Finder, value: Json) -> None:
    if not isinstance(value, list):
        found.unknown(value, ("messages",), "messages", USER)
        return
    for index, message in enumerate(value):
        path, channel = ("messages", index), f"messages.{index}"
        if not isinstance(message, dict):
            found.unknown(message, path, channel, USER)
            continue
        voice = Voice(role_of(message.get("role")), Scope.PROMPT)
        for key, member in message.items():
            if key == "content":
                content(found, member, (*path, key), f"{channel}.{key}", voice)
            else:
                found.member(key, member, path, channel, voice, LABELS)


def _server(found: Finder, server: Json, path: Path, channel: str) -> None:
    """An MCP server. Its token is for that server alone and reaches neither a model nor a person."""
    if isinstance(server, dict):
        found.members(server, path, channel, DEFINITION, handled=("authorization_token",))
    else:
        found.unknown(server, path, channel, DEFINITION)


def _response(found: Finder, document: Json, path: Path) -> None:
    if not isinstance(document, dict):
        found.unknown(document, path, "", ANSWER)
        return
    for key, value in document.items():
        if key == "content":
            content(found, value, (*path, key), key, ANSWER)
        elif key == "error":
            error_member(found, value, (*path, key), key)
        elif key not in _ENVELOPE:
            found.member(key, value, path, "", ANSWER, _RESPONSE)


def _event(event: Json, kind: str) -> Delta:
    found = DeltaFinder()
    if not isinstance(event, dict):
        found.unknown(event, (), "", ANSWER)
        return found.delta()
    named = event.get("type")
    name = named if isinstance(named, str) else kind
    position = event.get("index")
    channel = f"content.{position if type(position) is int else 0}"
    for key, value in event.items():
        if key == "message":
            _response(found, value, (key,))
        elif key == "content_block" and isinstance(value, dict):
            _started(found, value, (key,), channel)
        elif key == "delta" and isinstance(value, dict):
            _changed(found, value, name, channel)
        elif key == "error":
            error_member(found, value, (key,), key)
        elif key != "usage":
            found.member(key, value, (), "event", ANSWER, LABELS)
    found.failed = "error" in (name, kind) or bool(event.get("error"))
    if name == "content_block_stop":
        found.closes = (f"{channel}.",)
    elif name in ("message_stop", "error"):
        found.closes = ("",)
    return found.delta()


def _started(found: DeltaFinder, block: dict[str, Json], path: Path, channel: str) -> None:
    """A block as it starts: text that it has already is the beginning of the text to come."""
    rest = {}
    for key, value in block.items():
        if key in ("text", "thinking") and isinstance(value, str):
            found.stretch(value, (*path, key), f"{channel}.{key}", ANSWER)
        else:
            rest[key] = value
    thing(found, rest, path, channel, ANSWER, item=not rest.keys() - {"type"})


def _changed(found: DeltaFinder, delta: dict[str, Json], name: str, channel: str) -> None:
    path: Path = ("delta",)
    if name == "message_delta":
        found.members(delta, path, "delta", ANSWER, _RESPONSE)
        return
    for key, value in delta.items():
        if key == "partial_json":
            found.flowing(value, (*path, key), f"{channel}.input", CALL, whole=True)
        elif key == "citation":
            found.unknown(value, (*path, key), f"{channel}.citations", ANSWER)
        elif key == "signature" and isinstance(value, str):
            thing(found, {key: value}, path, channel, ANSWER, item=True)
        else:
            found.flowing_member(key, value, path, channel, ANSWER)
