"""What a dialect is. Dialects only locate text and word refusals; patch.py is the one writer.

A dialect reads defensively: a member of the wrong type is no text and no error (the upstream will complain), but
every string that could reach a model or a person is located, unknown members included. What cannot be read as text
(an image, a list of token ids) is reported as a part, for the policy to allow or deny.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from guardproxy.types import Path, Scope, Segment

Json = Any
"""A parsed JSON value."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something in a document that is not text. `kind`: image, audio, video, file, tokens, encrypted, other."""

    kind: str
    path: Path


@dataclass(frozen=True, slots=True)
class Located:
    """All that a dialect found in one document."""

    segments: tuple[Segment, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(slots=True)
class Stretch:
    """A piece of a channel's text inside one stream event, at `path` in the event.

    `whole`: the channel can only be judged once it is complete (JSON arguments); otherwise it is judged window by
    window. Not frozen: one is made for every streamed token.
    """

    channel: str
    path: Path
    text: str
    role: str = "assistant"
    scope: Scope = Scope.COMPLETION
    whole: bool = False
    echo: Path | None = None


@dataclass(slots=True)
class Delta:
    """One stream event, read.

    `closes`: channel prefixes that end with this event ("choices.0." closes "choices.0.content"; "" closes all).
    `segments`: texts that stand in this event complete (a final item that repeats what was streamed, an unknown
    member). `failed`: the event is the upstream's report of an error; its message is among the segments.
    """

    stretches: list[Stretch] = field(default_factory=list)
    closes: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    parts: tuple[Part, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a caller is told in place of an answer. `text` is the policy's wording; nothing here comes from the
    content.
    """

    text: str
    decision: str
    model: str
    created: int  # seconds since the epoch
    include_usage: bool = False  # the caller asked for usage at the end of the stream
    prompt_tokens: int = 0
    completion_tokens: int = 0
    delivered: tuple[str, ...] | None = None  # of a stream: the channels of which text was delivered; None: not known


class Dialect(Protocol):
    """The locators and refusal shapes of one API. Stateless: the state of a stream is the StreamGuard's."""

    @property
    def name(self) -> str: ...

    def request(self, document: Json) -> Located:
        """The text of a request."""
        ...

    def response(self, document: Json) -> Located:
        """The text of a response that is not streamed."""
        ...

    def delta(self, event: Json, kind: str) -> Delta:
        """The text of one stream event; `kind` is the SSE event name, "" if it had none."""
        ...

    def refuse(self, refusal: Refusal) -> Json:
        """A whole response that carries the refusal text and says content_filter."""
        ...

    def refuse_stream(self, refusal: Refusal) -> bytes:
        """The same as an SSE stream, from its first event to its proper end."""
        ...

    def cut_stream(self, refusal: Refusal, seen: Sequence[Json]) -> bytes:
        """The events that properly end a stream of which some events have been delivered already.

        `seen` are the delivered events that matter for it, oldest first: those that `keep` chose, and the last one.
        """
        ...

    def keep(self, event: Json) -> bool:
        """Whether cut_stream() needs to know of this event once it has been delivered (its id, a block that it
        opened).
        """
        ...

    def fail_stream(self, message: str, code: str) -> bytes:
        """An error event in this API's shape, and the stream's end."""
        ...


def leaves(value: Json, path: Path = ()) -> Iterator[tuple[Path, str | int | float]]:
    """Every string and number below `value`, depth first, with its path. Booleans and null are no text."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, (*path, index))
