"""Server-sent events, as bytes: what an event is and what its data are, never changing a byte.

The whole specification counts, because a reader that understood less than the client would be a way past the guard:
lines end in LF, CR LF or CR, data may take several lines, a byte order mark may come first, comments and unknown
fields are events' bytes too. An event that the stream's end leaves without its empty line is still an event: some
clients read it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from guardproxy.errors import WireError

PLAIN_END = b"\n\n"
_SHORT = 4096  # bytes left from the last read up to which it costs least to put the next ones behind them
_LINE = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """One event: its bytes as they came, its name ("" if it has none) and its data (None if it has none)."""

    raw: bytes
    kind: str
    data: bytes | None


def event_of(event: Event | bytes) -> Event:
    """A plain event, given as its one line ("data: …", without the line end), as the event that it is."""
    return Event(event + PLAIN_END, "", event[6:]) if isinstance(event, bytes) else event


class SSEReader:
    """Splits a byte stream into events. Raises WireError where one event grows beyond `limit` bytes."""

    __slots__ = ("_buffer", "_limit", "_searched", "_simple", "_started")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no event ends before here
        self._limit = limit
        self._started = False
        self._simple = True  # no CR so far: an event ends where two LF meet

    def feed(self, data: bytes) -> list[Event | bytes]:
        """The events that `data` completes; a plain one (see event_of) as its one line alone, to spare copies."""
        if self._simple and b"\r" in data:
            self._simple = False
        events: list[Event | bytes]
        if self._simple and len(self._buffer) < _SHORT:
            data, events = self._whole_events(bytes(self._buffer) + data if self._buffer else data)
            self._buffer[:] = data
        else:
            self._buffer += data
            events = self._buffered_events()
        buffer = self._buffer
        self._searched = max(len(buffer) - 3, 0)
        if len(buffer) > self._limit:
            raise WireError("a stream event is too large", code="upstream_event_too_large", status=502)
        return events

    def _whole_events(self, data: bytes) -> tuple[bytes, list[Event | bytes]]:
        """Events that begin and end in `data`, and what is left of it."""
        *bodies, rest = data.split(b"\n\n")
        return rest, [
            body if self._started and body.startswith(b"data: ") and b"\n" not in body else self._event(body + b"\n\n")
            for body in bodies
        ]

    def _buffered_events(self) -> list[Event | bytes]:
        buffer, events, position = self._buffer, list[Event | bytes](), 0
        while (end := self._end(max(position, self._searched))) >= 0:
            events.append(self._event(bytes(buffer[position:end])))
            position = end
        del buffer[:position]
        return events

    def finish(self) -> list[Event]:
        """The event that was left open at the stream's end, if any."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return [self._event(rest)] if rest else []

    def _end(self, start: int) -> int:
        if self._simple:
            found = self._buffer.find(b"\n\n", start)
            return found + 2 if found >= 0 else -1
        return _event_end(self._buffer, start)

    def _event(self, raw: bytes) -> Event:
        body = raw
        if not self._started:
            self._started = True
            body = raw.removeprefix(b"\xef\xbb\xbf")
        return _parse(raw, body)


def _event_end(buffer: bytearray, start: int) -> int:
    """Where the first event that ends after `start` ends, or -1 while that cannot be told.

    A CR at the very end may be the first half of a CR LF, so it ends nothing yet.
    """
    position = start
    while True:
        first = _LINE.search(buffer, position)
        if first is None or (first[0] == b"\r" and first.end() == len(buffer)):
            return -1
        second = _LINE.match(buffer, first.end())
        if second is not None:
            return -1 if second[0] == b"\r" and second.end() == len(buffer) else second.end()
        position = first.end()


def _parse(raw: bytes, body: bytes) -> Event:
    kind, data = b"", None
    for line in _LINE.split(body):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data = value if data is None else data + b"\n" + value
        elif name == b"event":
            kind = value
    return Event(raw, kind.decode("utf-8", "replace"), data)


def encode(data: bytes, kind: str = "") -> bytes:
    """An event of ours. `data` may have line ends; `kind` must have none."""
    head = f"event: {kind}\n".encode() if kind else b""
    return head + b"".join(b"data: " + line + b"\n" for line in data.split(b"\n")) + b"\n"


def with_data(event: Event, data: bytes) -> bytes:
    """The bytes of `event` with other data: its other lines stay as they were, all data move to its first data line."""
    out: list[bytes] = []
    placed = False
    position = 0
    for line_end in [*_LINE.finditer(event.raw), None]:
        stop = line_end.start() if line_end else len(event.raw)
        line, ending = event.raw[position:stop], line_end[0] if line_end else b""
        position = line_end.end() if line_end else stop
        if line.removeprefix(b"\xef\xbb\xbf").partition(b":")[0] != b"data":
            out += (line, ending)
        elif not placed:
            placed = True
            out += (b"data: ", data.replace(b"\r", b"").replace(b"\n", b""), ending)
    return b"".join(out)
