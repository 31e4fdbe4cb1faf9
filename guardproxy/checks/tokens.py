"""Counts a text's tokens without ever downloading anything and without ever failing.

Exact counts need an encoding's ranks: a local file that the policy names, else the file in $TIKTOKEN_CACHE_DIR if it
is there already. Without ranks the count is an estimate that leans upwards (see `estimate`). What looks like a
special token is text like any other. Long texts are counted in slices, which bounds the work for hostile ones and
adds at most a token for each cut.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardproxy.checks.options import OptionReader

SLICE = 8192  # characters tokenised at once; tiktoken's time for one unbroken word grows faster than its length
_CUT = 256  # how far back a slice may end to end at a space


@dataclass(frozen=True, slots=True)
class _Published:
    """An encoding as OpenAI publishes it: how text is split before merging, and where and what its ranks are."""

    split: str
    url: str
    sha256: str


_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_PUBLISHED = {
    "o200k_base": _Published(
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_ENDINGS}?|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_ENDINGS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": _Published(
        rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?+\p{{L}}++|\p{{N}}{{1,3}}+| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
ENCODINGS = tuple(_PUBLISHED)


class TokenCounter:
    """Counts tokens; `exact` says whether by an encoding's own ranks. Safe to share between threads."""

    __slots__ = ("_encoding", "_name", "exact")

    def __init__(self, encoding: Any = None, name: str = "o200k_base") -> None:
        """`encoding`: a tiktoken.Encoding, or None to estimate what the encoding called `name` would count."""
        self._encoding = encoding
        self._name = name
        self.exact = encoding is not None

    @property
    def method(self) -> str:
        """How it counts, for operators: the encoding's name, or "estimate"."""
        return self._name if self.exact else "estimate"

    @classmethod
    def from_options(cls, reader: OptionReader) -> TokenCounter:
        """From the options `encoding` and `encoding_file`. Raises PolicyError for a file that holds no ranks."""
        name = reader.choice("encoding", ENCODINGS, "o200k_base")
        path = reader.file("encoding_file")
        if path is not None:
            try:
                return cls(_encoding(name, path.read_bytes()), name)
            except (OSError, ValueError) as error:
                reason = "cannot be read" if isinstance(error, OSError) else str(error)
                raise reader.fail("encoding_file", reason) from None
        cached = _cached(name)
        return cls(_encoding(name, cached), name) if cached is not None else cls(None, name)

    def count(self, text: str) -> int:
        """How many tokens the text is. Linear; never raises."""
        return sum(self._count_slice(piece) for piece in _slices(text))

    def passes_at(self, text: str, limit: int) -> int | None:
        """Where the text goes beyond `limit` tokens: the offset of the first character too many, or None.

        A token is at least one byte, so a text of no more bytes than `limit` is not tokenised at all.
        """
        if len(text) * 4 <= limit or (len(text) <= limit and len(_utf8(text)) <= limit):
            return None
        at, left = 0, limit
        for piece in _slices(text):
            tokens = self._count_slice(piece)
            if tokens > left:
                return at + self._fitting(piece, left)
            at, left = at + len(piece), left - tokens
        return None

    def _count_slice(self, text: str) -> int:
        return estimate(text, self._name) if self._encoding is None else len(self._encoding.encode_ordinary(text))

    def _fitting(self, text: str, tokens: int) -> int:
        """How many characters of the text fit into so many tokens."""
        if self._encoding is not None:
            first: bytes = self._encoding.decode_bytes(self._encoding.encode_ordinary(text)[:tokens])
            return len(first.decode(errors="ignore"))
        low, high = 0, len(text)
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if estimate(text[:middle], self._name) <= tokens else (low, middle)
        return low


def _slices(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + SLICE
        if end < len(text):
            space = text.rfind(" ", end - _CUT, end)
            end = space if space > start else end
        yield text[start:end]
        start = end


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


# -- ranks ------------------------------------------------------------------------------------------------------------


def _cached(name: str) -> bytes | None:
    """The ranks in tiktoken's own cache, where the operator has put them there; None if absent or damaged."""
    folder, published = os.environ.get("TIKTOKEN_CACHE_DIR"), _PUBLISHED[name]
    if not folder:
        return None
    # The cache names its files by SHA-1 of the URL; nothing secret hangs on it.
    path = Path(folder) / hashlib.sha1(published.url.encode(), usedforsecurity=False).hexdigest()
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == published.sha256 else None


def _encoding(name: str, data: bytes) -> Any:
    """A tiktoken.Encoding from the bytes of a .tiktoken file. Raises ValueError, saying what is wrong with them."""
    import tiktoken  # not at the top: most policies count nothing exactly, and should not pay for it

    return tiktoken.Encoding(name, pat_str=_PUBLISHED[name].split, mergeable_ranks=_read_ranks(data), special_tokens={})


def _read_ranks(data: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(f"line {number}: expected a token in base64 and its rank") from None
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("no ranks file: it lacks some single bytes")
    if len(set(ranks.values())) != len(ranks) or min(ranks.values()) < 0 or max(ranks.values()) >= 1 << 32:
        raise ValueError("ranks must be different whole numbers")
    return ranks


# -- the estimate -----------------------------------------------------------------------------------------------------

_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[ ]?[0-9]+|[ ]{2,}|[\t\n\r\f\v]+|[!-/:-@\[-`{-~\x00-\x08\x0e-\x1f\x7f]+")
_WORD = 16  # letters; what is longer is rarely a word

# Tokens a character beyond ASCII, up to the code point: with o200k, and with cl100k, which knows fewer scripts.
_COSTS = (
    (0x036F, 0.9, 1.0),  # Latin with accents: they break words up
    (0x03FF, 0.55, 1.1),  # Greek
    (0x058F, 0.4, 0.65),  # Cyrillic, Armenian
    (0x08FF, 0.55, 1.15),  # Hebrew, Arabic
    (0x0EFF, 0.6, 1.6),  # India's scripts, Thai, Lao
    (0x1FFF, 2.2, 2.9),  # Ethiopic, Khmer and other rare ones
    (0x2FFF, 1.3, 1.6),  # punctuation and symbols
    (0x9FFF, 1.0, 1.3),  # kana, Han
    (0xABFF, 3.0, 3.0),
    (0xD7FF, 0.95, 1.5),  # Hangul
    (0xFFFF, 2.0, 2.2),
    (0x10FFFF, 2.6, 3.2),  # emoji and rare Han
)
_BOUNDS = [bound for bound, _, _ in _COSTS]


def estimate(text: str, encoding: str = "o200k_base") -> int:
    """About how many tokens the text is, leaning upwards; at most its bytes. Linear.

    Its own method: words in ASCII are cut where case changes and cost a token for every five letters begun (capitals
    and letters without end two, digits three), symbols one each (repeated ones a quarter), other characters by
    script. Measured against exact counts with either encoding, English, code and JSON 1.1 to 1.45; 40 other languages
    0.65 (Zulu, cl100k) to 2.2 (Vietnamese, o200k), most of them 0.9 to 1.4; random letters, digits, symbols and
    characters 0.47 to 1.6.
    """
    tokens = float(sum(_ascii_cost(piece) for piece in _PIECES.findall(text)))
    if not text.isascii():
        column = 1 if encoding == "o200k_base" else 2
        for char, times in Counter(text).items():
            if char > "\x7f":
                tokens += _COSTS[bisect_left(_BOUNDS, ord(char))][column] * times
    return min(int(tokens + 0.999), len(_utf8(text)))


def _ascii_cost(piece: str) -> int:
    first, length = piece[0], len(piece)
    if piece[-1].islower():
        return (length + 4) // 5 if length <= _WORD else (length + 1) // 2
    if first.isupper():
        return (length + 1) // 2
    if piece[-1].isdigit():
        return (length + 2) // 3 if first != " " else 1 + (length + 1) // 3
    if first == " ":
        return 1 + length // 16
    if first.isspace():
        return (length + 1) // 2
    return (length + 3) // 4 if piece.count(first) == length else length
