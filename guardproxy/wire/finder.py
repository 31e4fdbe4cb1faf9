"""Collects what one document holds. Nothing is passed over but by name, and then only if it looks like an identifier.

A member that a dialect does not know is located whole; one that it knows as structural (an id, a type) is passed over
only as long as its strings are identifiers, so that a sentence cannot travel as an id.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from guardproxy.types import Mark, Path, Scope, Segment
from guardproxy.wire.base import Delta, Json, Located, Part, Stretch
from guardproxy.wire.common import all_names, embedded, flatten, has_text, is_name, joined


class Voice(NamedTuple):
    """Who speaks, and as what."""

    role: str
    scope: Scope


CALL = Voice("assistant", Scope.TOOL_CALL)
RESULT = Voice("tool", Scope.TOOL_RESULT)
DEFINITION = Voice("", Scope.TOOL_DEFINITION)
ANSWER = Voice("assistant", Scope.COMPLETION)
USER = Voice("user", Scope.PROMPT)

TOKENS = frozenset({"token_ids", "prompt_token_ids", "prompt_embeds", "prompt_embed"})
"""Members that carry text as a model's numbers."""

LABELS = frozenset({"type", "id", "index", "format", "object", "status", "role", "call_id", "tool_call_id"})
"""Members that are structural wherever they stand."""

_SCALARS = frozenset({bool, int, float, type(None)})
_SWITCHES = frozenset(
    {
        "finish_reason",
        "frequency_penalty",
        "index",
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "refusal",
        "seed",
        "store",
        "stream",
        "temperature",
        "top_logprobs",
        "top_p",
        "usage",
    }
)
"""Common members that are numbers, booleans or null; only a way round is_name()."""

_ROLES = {role: role for role in ("system", "developer", "user", "assistant", "tool")}
_ALIASES = {
    **_ROLES,
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "model": "assistant",
    "ai": "assistant",
    "bot": "assistant",
}


def role_of(value: Json) -> str:
    """A role in our words. An unknown one counts as the user's, who is trusted least."""
    if not isinstance(value, str):
        return "user"
    return _ROLES.get(value) or _ALIASES.get(value.strip().lower(), "user")


class Finder:
    """Gathers segments and parts. `echo`, while set, is noted on every text that is found."""

    __slots__ = ("echo", "parts", "segments")

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.parts: list[Part] = []
        self.echo: Path | None = None

    def located(self) -> Located:
        """All of it."""
        return Located(tuple(self.segments), tuple(self.parts))

    def text(self, value: str, path: Path, channel: str, voice: Voice) -> None:
        """A text, unless it is empty."""
        if value:
            self.segments.append(Segment(channel, path, voice[0], voice[1], value, (), self.echo))

    def embedded(self, value: str, path: Path, channel: str, voice: Voice) -> None:
        """A string that may hold JSON."""
        if value:
            role, scope = voice
            self.segments.append(embedded(value, path, channel, role, scope, self.echo))

    def flat(self, value: Json, path: Path, channel: str, voice: Voice) -> None:
        """A value of any type, flattened."""
        role, scope = voice
        segment = flatten(value, path, channel, role, scope, self.echo)
        if segment is not None:
            self.segments.append(segment)

    def joined(self, texts: list[tuple[Path, str]], path: Path, channel: str, voice: Voice) -> None:
        """Texts that follow each other, also as one."""
        if len(texts) > 1:
            self.segments.append(joined(texts, path, channel, *voice))

    def part(self, kind: str, path: Path) -> None:
        """Something that is not text."""
        self.parts.append(Part(kind, path))

    def unknown(self, value: Json, path: Path, channel: str, voice: Voice) -> None:
        """The strings of a member that the dialect does not know."""
        if isinstance(value, str):
            self.text(value, path, channel, voice)
        elif isinstance(value, dict | list) and has_text(value):
            self.flat(value, path, channel, voice)

    def structural(self, value: Json, path: Path, channel: str, voice: Voice) -> None:
        """The strings of a structural member, if they are more than identifiers."""
        if not (is_name(value) if type(value) is str else all_names(value)):
            self.unknown(value, path, channel, voice)

    def member(self, key: str, value: Json, path: Path, channel: str, voice: Voice, structural: Container[str]) -> None:
        """One member of the object at `path` that needs no treatment of its own."""
        if type(value) in _SCALARS and key in _SWITCHES:
            return
        if key in TOKENS:
            if value:
                self.part("tokens", (*path, key))
            return
        if key in structural:
            self.structural(value, (*path, key), f"{channel}.{key}" if channel else key, voice)
            return
        if isinstance(value, str | dict | list):
            self.unknown(value, (*path, key), f"{channel}.{key}" if channel else key, voice)
        if not is_name(key):
            self.text(key, (*path, key, Mark.KEY), f"{channel}.name" if channel else "name", voice)

    def members(
        self,
        mapping: Mapping[str, Any],
        path: Path,
        channel: str,
        voice: Voice,
        structural: Container[str] = LABELS,
        handled: Container[str] = (),
    ) -> None:
        """All members of an object but the `handled` ones."""
        for key, value in mapping.items():
            if key not in handled:
                self.member(key, value, path, channel, voice, structural)


class DeltaFinder(Finder):
    """A Finder for one stream event: what continues earlier events becomes a stretch."""

    __slots__ = ("closes", "failed", "stretches")

    def __init__(self) -> None:
        super().__init__()
        self.stretches: list[Stretch] = []
        self.closes: tuple[str, ...] = ()
        self.failed = False

    def delta(self) -> Delta:
        """All of it."""
        return Delta(self.stretches, self.closes, tuple(self.segments), tuple(self.parts), self.failed)

    def stretch(self, value: str, path: Path, channel: str, voice: Voice, *, whole: bool = False) -> None:
        """A piece of a channel's text, unless it is empty."""
        if value:
            self.stretches.append(Stretch(channel, path, value, voice.role, voice.scope, whole, self.echo))

    def flowing(self, value: Json, path: Path, channel: str, voice: Voice, *, whole: bool = False) -> None:
        """Every string below `value` as a stretch. Channels go by members' names: positions need not be stable."""
        if isinstance(value, str):
            self.stretch(value, path, channel, voice, whole=whole)
        elif isinstance(value, dict):
            for key, member in value.items():
                self.flowing_member(key, member, path, channel, voice, whole=whole)
        elif isinstance(value, list):
            for index, member in enumerate(value):
                self.flowing(member, (*path, index), channel, voice, whole=whole)

    def flowing_member(
        self, key: str, value: Json, path: Path, channel: str, voice: Voice, *, whole: bool = False
    ) -> None:
        """One member of the object at `path`, as stretches."""
        if key in TOKENS and value:
            self.part("tokens", (*path, key))
        elif not (key in LABELS and isinstance(value, str) and is_name(value)):
            self.flowing(value, (*path, key), f"{channel}.{key}", voice, whole=whole)
        if not is_name(key):
            self.text(key, (*path, key, Mark.KEY), f"{channel}.name", voice)


def error_member(found: Finder, error: Json, path: Path, channel: str, voice: Voice = ANSWER) -> None:
    """What the upstream says went wrong: its words are text like any other."""
    if isinstance(error, dict):
        found.members(error, path, channel, voice, LABELS | {"code", "param"})
    else:
        found.unknown(error, path, channel, voice)
