"""The responses API's stream: typed events, of which some carry a piece of a text and others repeat it whole.

What an event holds is read from its members; its type only says to which channel a `delta` belongs and what has ended.
An event of an unheard-of type is read the same way, on a channel named by its type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from guardproxy.types import Path, Scope
from guardproxy.wire.base import Delta, Json, Stretch
from guardproxy.wire.content import content, thing
from guardproxy.wire.finder import ANSWER, CALL, LABELS, RESULT, DeltaFinder, Finder, Voice, error_member

ReadResponse = Callable[[Finder, Json, Path], None]


class _Text(NamedTuple):
    """Where the text of a pair of events (….delta and ….done) belongs."""

    channel: str  # below output.N, with {} for the content's, summary's or command's index
    voice: Voice = ANSWER
    whole: bool = False


_TEXTS = {
    "response.output_text": _Text("content.{}.text"),
    "response.refusal": _Text("content.{}.refusal"),
    "response.reasoning_text": _Text("content.{}.text"),
    "response.reasoning_summary_text": _Text("summary.{}.text"),
    "response.function_call_arguments": _Text("arguments", CALL, whole=True),
    "response.mcp_call_arguments": _Text("arguments", CALL, whole=True),
    "response.custom_tool_call_input": _Text("input", CALL, whole=True),
    "response.code_interpreter_call_code": _Text("code", CALL),
    "response.shell_call_command": _Text("action.commands.{}", CALL),
    "response.shell_call_output_content": _Text("output.{}", RESULT),
    "response.audio.transcript": _Text("audio.transcript"),
}
_INDEXES = ("content_index", "summary_index", "command_index")
_STRUCTURAL = LABELS | {"item_id", "obfuscation", "output_format", "quality", "size", "background", "code", "param"}
_PLAIN = frozenset(
    {
        "type",
        "item_id",
        "output_index",
        "content_index",
        "delta",
        "sequence_number",
        "logprobs",
        "obfuscation",
    }
)
_IMAGE_DATA = frozenset({"partial_image_b64", "image_b64", "b64_json"})
_DELTA_PATH: Path = ("delta",)
_LOGPROBS: Path = ("logprobs",)
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def read_event(event: Json, kind: str, read_response: ReadResponse) -> Delta:
    """The texts of one event. A piece of output text, as most events are, is read at once."""
    if type(event) is dict:
        if event.get("type") == "response.output_text.delta" and event.keys() <= _PLAIN:
            text, output, index = event.get("delta"), event.get("output_index"), event.get("content_index")
            if type(text) is str and text and type(output) is int and type(index) is int:
                echo = _LOGPROBS if event.get("logprobs") else None
                channel = f"output.{output}.content.{index}.text"
                return Delta([Stretch(channel, _DELTA_PATH, text, "assistant", Scope.COMPLETION, False, echo)])
        return _read(event, kind, read_response)
    found = DeltaFinder()
    found.unknown(event, (), "", ANSWER)
    return found.delta()


def _read(event: dict[str, Json], kind: str, read_response: ReadResponse) -> Delta:
    found = DeltaFinder()
    named = event.get("type")
    name = named if isinstance(named, str) else kind
    base, _, step = name.rpartition(".")
    output = f"output.{_index(event, 'output_index')}"
    known = _TEXTS.get(base)
    if known is not None:
        channel, voice, whole = f"{output}.{known.channel.format(_inner(event))}", known.voice, known.whole
    else:
        channel, voice, whole = f"{base or name}.{event.get('item_id', '')}.{output}.{_inner(event)}", ANSWER, False
    audio = base == "response.audio"
    repeated = any(isinstance(event.get(key), str) and event[key] for key in ("delta", "text", "refusal"))
    found.echo = _LOGPROBS if event.get("logprobs") else None
    for key, value in event.items():
        if key == "delta" and audio:
            found.part("audio", _DELTA_PATH)
        elif key == "delta":
            found.flowing(value, _DELTA_PATH, channel, voice, whole=whole)
        elif key == "logprobs":
            if not repeated:
                found.flowing(value, _LOGPROBS, f"{channel}.{key}", voice)
        elif key == "response":
            read_response(found, value, (key,))
        else:
            _member(found, key, value, output, channel, voice, event)
    found.echo = None
    found.failed = "error" in (name, kind) or name == "response.failed" or bool(event.get("error"))
    found.closes = _closed(name, step, output, channel, event)
    return found.delta()


def _member(
    found: DeltaFinder, key: str, value: Json, output: str, channel: str, voice: Voice, event: dict[str, Json]
) -> None:
    """A member that stands in the event complete."""
    if key == "item" and isinstance(value, dict):
        thing(found, value, (key,), output, _speaker(value), item=True)
    elif key == "part" and isinstance(value, dict):
        where = "summary" if "summary_index" in event else "content"
        thing(found, value, (key,), f"{output}.{where}.{_inner(event)}", ANSWER)
    elif key in ("arguments", "input"):
        content(found, value, (key,), channel, CALL, embed=True)
    elif key in ("text", "refusal", "transcript", "command") or (key == "code" and event.get("type") != "error"):
        found.unknown(value, (key,), channel, voice)
    elif key in ("output", "outputs", "results"):
        content(found, value, (key,), f"{channel}.{key}", RESULT, embed=True)
    elif key in _IMAGE_DATA and value:
        found.part("image", (key,))
    elif key == "error":
        error_member(found, value, (key,), key)
    else:
        found.member(key, value, (), "event", ANSWER, _STRUCTURAL)


def _speaker(item: dict[str, Json]) -> Voice:
    return RESULT if item.get("role") == "tool" else ANSWER


def _index(event: dict[str, Json], name: str) -> int:
    index = event.get(name)
    return index if type(index) is int else 0


def _inner(event: dict[str, Json]) -> int:
    return next((event[name] for name in _INDEXES if type(event.get(name)) is int), 0)


def _closed(name: str, step: str, output: str, channel: str, event: dict[str, Json]) -> tuple[str, ...]:
    """The channels that end with this event."""
    if name in _ENDS or name == "error":
        return ("",)
    if step != "done":
        return ()
    if name == "response.output_item.done":
        return (f"{output}.",)
    if name == "response.content_part.done":
        return (f"{output}.content.{_inner(event)}.",)
    if name == "response.reasoning_summary_part.done":
        return (f"{output}.summary.{_inner(event)}.",)
    return (channel,)
