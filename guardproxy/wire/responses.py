"""POST /v1/responses: items of the input, items of the output, and the responses that a server stored.

A response repeats much of its request (instructions, tools, metadata): that is located as the prompt that it was. Items
are read by their members' names (content.py), so an item of a new type is read like the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from guardproxy.types import Mark, Path, Scope
from guardproxy.wire import responses_shapes as shapes
from guardproxy.wire.base import Delta, Json, Located, Refusal
from guardproxy.wire.common import is_name
from guardproxy.wire.content import content, definitions, thing
from guardproxy.wire.finder import ANSWER, DEFINITION, LABELS, RESULT, USER, Finder, Voice, error_member, role_of
from guardproxy.wire.responses_events import read_event

_SYSTEM = Voice("system", Scope.PROMPT)
_SETTINGS = LABELS | {
    "conversation",
    "include",
    "incomplete_details",
    "model",
    "previous_response_id",
    "prompt_cache_retention",
    "reasoning",
    "service_tier",
    "stream_options",
    "tool_choice",
    "truncation",
}
_ENVELOPE = frozenset({"id", "object", "created_at", "completed_at", "model", "service_tier", "usage"})
_REPEATED = frozenset(
    {"instructions", "input", "metadata", "prompt", "prompt_cache_key", "safety_identifier", "text", "tools", "user"}
)
_MODEL_ITEMS = ("reasoning", "compaction")


class ResponsesDialect:
    """The responses API."""

    name = "responses"

    def request(self, document: Json) -> Located:
        """Instructions, input items, tool definitions, and whatever else the caller wrote."""
        found = Finder()
        if not isinstance(document, dict):
            found.unknown(document, (), "", USER)
            return found.located()
        for key, value in document.items():
            _asked(found, key, value, (key,))
        return found.located()

    def response(self, document: Json) -> Located:
        """Output items, errors, and what is repeated of the request."""
        found = Finder()
        read_response(found, document, ())
        return found.located()

    def delta(self, event: Json, kind: str) -> Delta:
        """One of the typed events."""
        return read_event(event, kind, read_response)

    def refuse(self, refusal: Refusal) -> Json:
        """An incomplete response whose one message is the refusal."""
        return shapes.refuse(refusal)

    def refuse_stream(self, refusal: Refusal) -> bytes:
        """The same as typed events."""
        return shapes.refuse_stream(refusal)

    def cut_stream(self, refusal: Refusal, seen: Sequence[Json]) -> bytes:
        """Closes what was opened, with the refusal as the last message."""
        return shapes.cut_stream(refusal, seen)

    def keep(self, event: Json) -> bool:
        """Events that open or close something."""
        return shapes.keep(event)

    def fail_stream(self, message: str, code: str) -> bytes:
        """An error event."""
        return shapes.fail_stream(message, code)


def _asked(found: Finder, key: str, value: Json, path: Path) -> None:
    """One member of a request, or of the request as a response repeats it."""
    if key == "instructions":
        items(found, value, path, key, _SYSTEM)
    elif key == "input":
        items(found, value, path, key, USER)
    elif key == "tools":
        definitions(found, value, path, key)
    elif key == "prompt" and isinstance(value, dict):
        variables = value.get("variables")
        if isinstance(variables, dict):
            for name, variable in variables.items():
                content(found, variable, (*path, "variables", name), f"prompt.variables.{name}", USER)
                if not is_name(name):
                    found.text(name, (*path, "variables", name, Mark.KEY), "prompt.variables", USER)
        found.members(value, path, key, USER, LABELS | {"version"}, () if variables is None else ("variables",))
        if not isinstance(variables, dict):
            found.unknown(variables, (*path, "variables"), "prompt.variables", USER)
    elif key == "text":
        # `text` holds no text: its format may hold a schema, which the model reads.
        found.structural(value, path, key, DEFINITION)
    else:
        found.member(key, value, path[:-1], "", USER, _SETTINGS)


def items(found: Finder, value: Json, path: Path, channel: str, voice: Voice) -> None:
    """A string, or items. `voice` speaks where an item does not say who does."""
    if isinstance(value, str):
        found.text(value, path, channel, voice)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            read_item(found, item, (*path, index), f"{channel}.{index}", voice)
    elif isinstance(value, dict):
        read_item(found, value, path, channel, voice)


def read_item(found: Finder, item: Json, path: Path, channel: str, voice: Voice) -> None:
    """One item of an input or an output."""
    if not isinstance(item, dict):
        found.unknown(item, path, channel, voice)
        return
    role = item.get("role")
    if role is not None:
        named = role_of(role)
        voice = RESULT if named == "tool" else Voice(named, voice.scope)
    elif item.get("type") in _MODEL_ITEMS:
        voice = Voice("assistant", voice.scope)
    thing(found, item, path, channel, voice, item=True)


def read_response(found: Finder, document: Json, path: Path) -> None:
    """A whole response, at `path`."""
    if not isinstance(document, dict):
        found.unknown(document, path, "", ANSWER)
        return
    for key, value in document.items():
        here = (*path, key)
        if key == "output":
            items(found, value, here, key, ANSWER)
        elif key in _REPEATED:
            _asked(found, key, value, here)
        elif key == "error":
            error_member(found, value, here, key)
        elif key not in _ENVELOPE:
            found.member(key, value, path, "", ANSWER, _SETTINGS)
