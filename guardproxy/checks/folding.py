"""Folds case, accents and typography away, so that a listed word is found however it is spelt.

Folding is by character and loses no place: what is found in the folded text maps back to what stood there. It does:
full case folding (ß is ss, final sigma is sigma); compatibility forms (full width, ligatures); Latin, Greek and
Cyrillic accents, Hebrew points and Arabic vowel signs off; ø, ł, đ, ı, æ, œ and their like to plain letters; decimal
digits of every script to 0-9; typographic quotes and dashes to ' " and -. Vowel signs of Indic scripts stay, as there
they make other words.
"""

from __future__ import annotations

import unicodedata

_ACCENTS = (
    (0x0300, 0x036F),  # combining diacritical marks, and the blocks that extend them
    (0x0483, 0x0489),  # Cyrillic
    (0x0591, 0x05C7),  # Hebrew points
    (0x064B, 0x065F),  # Arabic vowel signs
    (0x0670, 0x0670),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),  # for symbols
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFE20, 0xFE2F),  # half marks
)
_INVISIBLE = frozenset("\u00ad\u0640\u034f\u200b\u200c\u200d\u2060\ufeff")  # soft hyphen, kashida, joiners
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´ʼ", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict(zip("øłđðħŧıæœþ", ("o", "l", "d", "d", "h", "t", "i", "ae", "oe", "th"), strict=True)),
    }
)


def _accent(char: str) -> bool:
    code = ord(char)
    return any(first <= code <= last for first, last in _ACCENTS)


def _fold_char(char: str) -> str:
    if char in _INVISIBLE or _accent(char):
        return ""
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    parts = unicodedata.normalize("NFKD", char.translate(_PLAIN))
    bare = "".join(part for part in parts if not _accent(part)).casefold()
    # Case folding may bring back an accent (İ) and lower-case a letter of the table (Ø).
    bare = "".join(part for part in bare.translate(_PLAIN) if not _accent(part))
    return unicodedata.normalize("NFC", bare)


class _Table(dict[int, str]):
    """What str.translate asks; filled as characters are met, up to a bound that no honest traffic reaches."""

    def __missing__(self, code: int) -> str:
        folded = _fold_char(chr(code))
        if len(self) < 1 << 14:
            self[code] = folded
        return folded


_TABLE = _Table()


def fold(text: str) -> str:
    """The folded text; for offsets see `Folded`. Linear, at C speed for characters met before."""
    return text.lower() if text.isascii() else text.translate(_TABLE)


def sendable(text: str) -> str:
    """The text without lone surrogates, which the pattern engine does not take; of the same length."""
    return text if text.isascii() else text.encode(errors="replace").decode()


class Folded:
    """A folded text that remembers where its characters come from. The map is made when it is first asked for."""

    __slots__ = ("_source", "_starts", "text")

    def __init__(self, source: str) -> None:
        self._source = source
        self._starts: list[int] | None = None
        self.text = fold(source)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """[start, end) of the folded text in the source, with the accents that belong to its last character."""
        if self._source.isascii():
            return start, end
        if self._starts is None:
            self._starts = [place for place, char in enumerate(self._source) for _ in _TABLE[ord(char)]]
        first, last = self._starts[start], self._starts[end - 1] + 1
        while last < len(self._source) and not _TABLE[ord(self._source[last])]:
            last += 1
        return first, last
