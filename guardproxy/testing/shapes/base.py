"""What the shapes share: the request that is answered, usage, and the splitting of texts.

`created` never moves and ids count requests, so that two runs of one test see the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeVar

from guardproxy.testing.delivery import Event, Split, pieces
from guardproxy.testing.replies import Choice, Reply, ToolCall, prompt_tokens

CREATED = 1_700_000_000  # seconds since the epoch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and what to say to it. `serial` counts the server's requests from 1."""

    document: dict[str, Any]
    reply: Reply
    serial: int
    split: Split = "tokens"

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.document.get("model") or "pretend")

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices to answer with, as many as were asked for."""
        count = self.document.get("n")
        return self.reply.take(count if isinstance(count, int) else 1)

    def id(self, prefix: str, index: int = 0) -> str:
        """An id that is the same in every run."""
        return f"{prefix}{self.serial:06d}{f'{index:02d}' if index else ''}"

    def pieces(self, text: str) -> list[str]:
        """The texts of the events that carry `text`."""
        return pieces(text, self.split)

    def call_id(self, call: ToolCall, index: int) -> str:
        """The tool call's id, or one that counts up."""
        return call.id or self.id("call_", index + 1)

    @property
    def usage(self) -> tuple[int, int]:
        """Tokens of the request and of the answer."""
        return prompt_tokens(self.document), sum(choice.tokens for choice in self.choices)


@dataclass(frozen=True, slots=True)
class Shape:
    """One API: a whole answer, a streamed one, and an error in the midst of a stream."""

    whole: Callable[[Ask], Any]
    events: Callable[[Ask], list[Event]]
    failure: Callable[[str], list[Event]]


def openai_usage(ask: Ask) -> dict[str, int]:
    """Usage as chat and completions give it."""
    asked, answered = ask.usage
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def wants_usage(ask: Ask) -> bool:
    """Whether a stream is to end with usage."""
    options = ask.document.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def openai_failure(message: str) -> list[Event]:
    """An error inside a chat or completions stream, as vLLM sends it."""
    return [Event({"error": {"message": message, "type": "server_error", "param": None, "code": 500}})]


def interleave(rows: Iterable[Iterable[T]]) -> Iterator[T]:
    """One of each row in turn, until all are through: how several choices share a stream."""
    nothing = object()
    for column in zip_longest(*rows, fillvalue=nothing):
        for item in column:
            if item is not nothing:
                yield item  # type: ignore[misc]
