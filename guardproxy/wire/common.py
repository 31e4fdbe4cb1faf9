"""What all dialects share: JSON rendered as text that can be edited in place, and bodies of ours.

A JSON value becomes lines of "key: value", so that a member's name gives context to its value ("iban: …"), and every
name and every leaf knows its place in the document. The text is linear in the value: an array does not repeat its name.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jiter

from guardproxy.types import Mark, Path, Piece, Scope, Segment
from guardproxy.wire.base import Json

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{0,128}")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_WHOLE = 1e17  # up to about here a float with no fraction was written as a whole number


def is_name(value: str) -> bool:
    """Whether `value` looks like an identifier: nothing that a person or a model would read as text."""
    return _NAME.fullmatch(value) is not None


def has_text(value: Json) -> bool:
    """Whether there is a string below `value`, or a member whose name is more than an identifier."""
    if isinstance(value, str):
        return value != ""
    if isinstance(value, dict):
        return any(not is_name(key) or has_text(member) for key, member in value.items())
    if isinstance(value, list):
        return any(has_text(member) for member in value)
    return False


def all_names(value: Json) -> bool:
    """Whether every string below `value`, members' names included, is an identifier."""
    if isinstance(value, str):
        return is_name(value)
    if isinstance(value, dict):
        return all(is_name(key) and all_names(member) for key, member in value.items())
    if isinstance(value, list):
        return all(all_names(member) for member in value)
    return True


class _Rendering:
    """A text as it grows, and the pieces it is made of."""

    __slots__ = ("length", "out", "pieces")

    def __init__(self) -> None:
        self.out: list[str] = []
        self.pieces: list[Piece] = []
        self.length = 0

    def put(self, text: str, path: Path | None = None, *, literal: bool = False) -> None:
        if path is not None and text:
            self.pieces.append(Piece(self.length, self.length + len(text), path, literal))
        self.out.append(text)
        self.length += len(text)

    def render(self, value: Json, path: Path) -> None:
        """Adds the lines of `value`, each with its line end."""
        if isinstance(value, dict):
            for key, member in value.items():
                here = (*path, key)
                self.put(key, (*here, Mark.KEY))
                self.put(":\n" if isinstance(member, dict | list) else ": ")
                self.render(member, here)
        elif isinstance(value, list):
            for index, member in enumerate(value):
                self.render(member, (*path, index))
        elif isinstance(value, str):
            self.put(value, path)
            self.put("\n")
        else:
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.put(_number(value), path, literal=True)
            self.put("\n")


def _number(value: float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return str(int(value))
    return str(value)


def flatten(value: Json, path: Path, channel: str, role: str, scope: Scope, echo: Path | None = None) -> Segment | None:
    """A JSON value as "key: value" lines, one leaf a line; None if there is neither a name nor a leaf in it.

    The pieces are in the text's order. Numbers are literal pieces; true, false and null have none.
    """
    rendering = _Rendering()
    rendering.render(value, path)
    if not rendering.pieces:
        return None
    return Segment(channel, path, role, scope, "".join(rendering.out)[:-1], tuple(rendering.pieces), echo)


def embedded(text: str, path: Path, channel: str, role: str, scope: Scope, echo: Path | None = None) -> Segment:
    r"""A string that may hold a JSON document: that document flattened, places behind Mark.JSON; else the text itself.

    What only nearly is JSON (duplicate members, cut short) and has \u escapes is read with those resolved, as a lenient
    parser would; since offsets are lost then, an edit replaces the whole string.
    """
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = jiter.from_json(text.encode(), catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError:
            if "\\u" in text:
                plain = _ESCAPES.sub(_unescaped, text)
                return Segment(channel, path, role, scope, plain, (Piece(0, len(plain), path, literal=True),), echo)
        else:
            segment = flatten(value, (*path, Mark.JSON), channel, role, scope, echo)
            if segment is not None:
                return segment
    return Segment(channel, path, role, scope, text, (), echo)


def _unescaped(found: re.Match[str]) -> str:
    text: str = json.loads(f'"{found[0]}"')
    return text.encode("utf-8", "replace").decode()


def joined(texts: list[tuple[Path, str]], path: Path, channel: str, role: str, scope: Scope) -> Segment:
    """Several strings as one text with nothing between, for what is split over two of them."""
    pieces = []
    start = 0
    for place, text in texts:
        pieces.append(Piece(start, start + len(text), place))
        start += len(text)
    return Segment(channel, path, role, scope, "".join(text for _, text in texts), tuple(pieces))


def event_bytes(data: Json, kind: str = "") -> bytes:
    """A server-sent event of ours with `data` as its JSON."""
    head = f"event: {kind}\n" if kind else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def error_body(
    message: str, code: str, *, type_: str = "invalid_request_error", param: str | None = None
) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def messages_error_body(message: str, code: str, *, type_: str = "invalid_request_error") -> dict[str, Any]:
    """An error in Anthropic's shape; `code` is an addition of ours that their clients keep and ignore."""
    return {"type": "error", "error": {"type": type_, "message": message, "code": code}}
