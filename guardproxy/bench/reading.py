"""Reads a benchmark's streams: counts events and finds the first token, whatever the reads cut through. Sans-IO."""

from __future__ import annotations

import json
from dataclasses import dataclass

_FILTERED = b'"content_filter"'


@dataclass(slots=True)
class Tally:
    """What a stream has held so far. `now` is whatever the caller's clock says."""

    events: int = 0
    first: float | None = None  # when the first token was there
    last: float | None = None  # when the newest event was
    ended: bool = False  # [DONE] came
    failed: bool = False  # an error event came
    declined: bool = False
    _held: bytes = b""

    def feed(self, data: bytes, now: float) -> None:
        """Takes what one read brought."""
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), now)

    def _event(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self.ended = True
            return
        self.events += 1
        self.last = now
        self.declined = self.declined or _FILTERED in data
        self.failed = self.failed or data.startswith(b'{"error"')
        if self.first is None and has_text(data):
            self.first = now


def has_text(data: bytes) -> bool:
    """Whether a chat completion's event carries a piece of an answer, rather than a role or usage."""
    try:
        choices = json.loads(data)["choices"]
        deltas = [choice["delta"] for choice in choices]
        return any(
            delta.get(name) for delta in deltas for name in ("content", "reasoning_content", "refusal", "tool_calls")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
