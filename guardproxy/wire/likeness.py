"""Reads at a glance the events that make up nearly all of a stream: those like the one before, but for one string.

If an event's data are the same bytes as an earlier event's, save inside one string literal, then the document is the
same, save for that string: no member is doubled, no other text is hidden, and the text continues the same channel.
Only literals without escapes and control characters are taken, so what stands between the quotes is the text.
Anything else is read properly.
"""

from __future__ import annotations

import re

from guardproxy.wire.base import Delta, Stretch
from guardproxy.wire.json_text import literal_spans

_FIELD = "data: "
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]+')


class Likeness:
    """What the last events of a stream have in common. `stretch` is the one that like events continue."""

    __slots__ = ("_head", "_misses", "_size", "_tail", "stretch")

    def __init__(self) -> None:
        self._head = self._tail = b""
        self._size = 0
        self._misses = 0
        self.stretch: Stretch | None = None

    def text(self, line: bytes) -> str | None:
        """The text of a plain event ("data: …") that is like the one learnt; None for any other."""
        if self.stretch is None or not line.startswith(self._head) or not line.endswith(self._tail):
            return None
        end = len(line) - self._size
        middle = _PLAIN.fullmatch(line, len(self._head), end) if end > len(self._head) else None
        if middle is None:
            return None
        self._misses = 0
        try:
            return middle[0].decode()
        except UnicodeDecodeError:
            return None

    def learn(self, line: bytes, delta: Delta) -> None:
        """Learns from a plain event that was read properly, if it holds one growing text and nothing else.

        Streams whose events are never alike make learning a waste: it is tried after 1, 2, 4, 8, … misses.
        """
        self._misses += 1
        if self._misses & (self._misses - 1) or len(delta.stretches) != 1:
            return
        (stretch,) = delta.stretches
        if delta.closes or delta.segments or delta.parts or delta.failed or stretch.whole or stretch.echo is not None:
            return
        text = line.decode()[len(_FIELD) :]
        start, end = literal_spans(text, [stretch.path]).get(stretch.path, (0, 0))
        if end:
            self._head, self._tail = (_FIELD + text[: start + 1]).encode(), text[end - 1 :].encode()
            self._size = len(self._tail)
            self.stretch = stretch
