"""How an answer leaves: how text is split into events, how bytes are split into writes, and where it breaks off.

Delivery says it as data; the functions here turn events into bytes and bytes into writes. They are pure; pauses and
broken connections are upstream.py's.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import Any, Literal

from guardproxy.testing.replies import tokens

Split = int | Literal["tokens"] | Sequence[str] | Callable[[str], Sequence[str]]
"""How a text becomes the texts of events: so many characters each, token by token, exactly these, or by a function."""

DONE = "[DONE]"

_PLAIN = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ESCAPED = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. `kind` "" for none; `data` is JSON, or a string that is sent as it stands."""

    data: Any
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer is sent. The defaults are what a well-behaved server does.

    The three `…_after` count delivered events of a stream; in an answer that is not a stream the first two count bytes.
    """

    split: Split = "tokens"
    writes: int | Sequence[int] = 0  # bytes of each write, repeated from the first on; 0 for one write an event
    newline: Literal["\n", "\r\n", "\r"] = "\n"
    pause: float = 0.0  # seconds between events, or between writes where `writes` is given
    comments: int = 0  # a keep-alive comment before every so-many-th event
    multiline: bool = False  # JSON over several data: lines
    tight: bool = False  # "data:x" rather than "data: x"
    bom: bool = False  # a byte order mark first
    escape: bool = False  # \u escapes for everything that is not ASCII
    done: bool = True  # the closing [DONE], where the API has one
    encoding: Literal["", "gzip", "deflate"] = ""
    content_type: str = ""  # "" for the right one
    hang_after: int | None = None
    cut_after: int | None = None
    error_after: int | None = None  # an error event in the API's shape, then the stream's end


def into(count: int) -> Callable[[str], list[str]]:
    """A Split into `count` pieces of nearly the same length (fewer, if the text is shorter)."""

    def split(text: str) -> list[str]:
        bounds = [len(text) * index // count for index in range(count + 1)]
        return [text[start:end] for start, end in pairwise(bounds) if start < end]

    return split


def pieces(text: str, split: Split) -> list[str]:
    """The texts of the events that carry `text`. A list of splits is used for the text that it joins to, and for no
    other.
    """
    if not text:
        return []
    if split == "tokens":
        return tokens(text)
    if isinstance(split, int):
        return [text[start : start + split] for start in range(0, len(text), split)]
    if callable(split):
        return list(split(text))
    return list(split) if "".join(split) == text else [text]


def to_json(value: Any, *, escape: bool = False) -> str:
    """JSON as APIs write it: compact, and as it is beyond ASCII unless escaped."""
    return (_ESCAPED if escape else _PLAIN).encode(value)


def render(event: Event, delivery: Delivery) -> bytes:
    """One event's bytes, with the blank line that ends it."""
    end, colon = delivery.newline, ":" if delivery.tight else ": "
    if isinstance(event.data, str):
        data = event.data
    elif delivery.multiline:
        data = json.dumps(event.data, ensure_ascii=delivery.escape, indent=1)
    else:
        data = to_json(event.data, escape=delivery.escape)
    head = f"event{colon}{event.kind}{end}" if event.kind else ""
    lines = "".join(f"data{colon}{line}{end}" for line in data.split("\n"))
    return (head + lines + end).encode("utf-8", "surrogatepass")


def stream(events: Sequence[Event], delivery: Delivery) -> Iterator[bytes]:
    """The bytes of each event in turn, with comments, byte order mark and compression."""
    squeeze = compressor(delivery.encoding)
    for index, event in enumerate(events):
        data = b"\xef\xbb\xbf" if delivery.bom and index == 0 else b""
        if delivery.comments and index % delivery.comments == 0:
            data += f": keep-alive{delivery.newline * 2}".encode()
        data += render(event, delivery)
        if squeeze is not None:
            last = index == len(events) - 1
            data = squeeze.compress(data) + squeeze.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
        yield data


def cut(parts: Iterator[bytes], writes: int | Sequence[int]) -> Iterator[bytes]:
    """The same bytes in writes of the given sizes, whatever they cut through; the last write is what is left."""
    sizes = [writes] if isinstance(writes, int) else list(writes)
    if not any(size > 0 for size in sizes):
        yield from parts
        return
    turn = cycle(size for size in sizes if size > 0)
    size, held = next(turn), b""
    for part in parts:
        held, start = held + part, 0
        while len(held) - start >= size:
            yield held[start : start + size]
            start, size = start + size, next(turn)
        held = held[start:]
    if held:
        yield held


def compressor(encoding: str) -> zlib._Compress | None:
    """A compressor for a Content-Encoding, None for none. Deflate is zlib's, as RFC 9110 8.4.1.2 has it."""
    if not encoding:
        return None
    return zlib.compressobj(wbits=zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)


def compress(body: bytes, encoding: str) -> bytes:
    """A whole body under a Content-Encoding."""
    squeeze = compressor(encoding)
    return body if squeeze is None else squeeze.compress(body) + squeeze.flush()
