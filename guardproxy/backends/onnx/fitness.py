"""Which texts the models may judge: in a language of their card, and made of words that their vocabulary has.

Languages are told apart by their scripts alone, which costs microseconds and no memory: a text counts as unsupported
when many of its letters are in scripts that no language of the card is written in. So German passes for English here;
what tells languages of one script apart may take the place of `foreign()`, and nothing else has to change.

Both shares are of the worst part of a text, and count what is hidden in few tokens (a word of a thousand letters is one
unknown token) as what it is, so that a text cannot be made to pass by what is added to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from guardproxy.backends.onnx.card import Card
from guardproxy.backends.onnx.encode import FRAME, Slice

UNREADABLE = "unreadable characters"
LANGUAGE = "unsupported language"
TOO_LONG = "too long"

_SHARE = 0.3  # of the letters, from which on a text is in another script
_MANY = 64  # letters in another script, however many there are in ours
_FEW = 4  # letters in another script that are no text yet, such as a sign in a formula
_WORD = 5  # characters that one unknown token counts for

_LATIN, _COMMON = "latin", ""
# Where scripts begin, in code points. What stands between has letters of no other script.
_BEGINNINGS: tuple[tuple[int, str], ...] = (
    (0x0000, _LATIN),
    (0x0370, "greek"),
    (0x0400, "cyrillic"),
    (0x0530, "armenian"),
    (0x0590, "hebrew"),
    (0x0600, "arabic"),
    (0x0700, "other"),
    (0x0750, "arabic"),
    (0x0780, "other"),
    (0x08A0, "arabic"),
    (0x0900, "devanagari"),
    (0x0980, "bengali"),
    (0x0A00, "gurmukhi"),
    (0x0A80, "gujarati"),
    (0x0B00, "other"),
    (0x0B80, "tamil"),
    (0x0C00, "telugu"),
    (0x0C80, "other"),
    (0x0E00, "thai"),
    (0x0E80, "other"),
    (0x10A0, "georgian"),
    (0x1100, "hangul"),
    (0x1200, "other"),
    (0x1C80, "cyrillic"),
    (0x1C90, "georgian"),
    (0x1CC0, "other"),
    (0x1D00, _LATIN),
    (0x1F00, "greek"),
    (0x2000, _COMMON),
    (0x2C00, "other"),
    (0x2C60, _LATIN),
    (0x2C80, "other"),
    (0x2DE0, "cyrillic"),
    (0x2E00, _COMMON),
    (0x3040, "kana"),
    (0x3130, "hangul"),
    (0x3190, "han"),
    (0x31F0, "kana"),
    (0x3200, _COMMON),
    (0x3400, "han"),
    (0xA000, "other"),
    (0xA640, "cyrillic"),
    (0xA6A0, "other"),
    (0xA720, _LATIN),
    (0xA800, "other"),
    (0xAB30, _LATIN),
    (0xAB70, "other"),
    (0xAC00, "hangul"),
    (0xD800, _COMMON),
    (0xF900, "han"),
    (0xFB00, _LATIN),
    (0xFB13, "armenian"),
    (0xFB1D, "hebrew"),
    (0xFB50, "arabic"),
    (0xFE00, _COMMON),
    (0xFE70, "arabic"),
    (0xFF00, _LATIN),
    (0xFF66, "kana"),
    (0xFFA0, "hangul"),
    (0x10000, "other"),
    (0x1D400, _COMMON),
    (0x1E000, "other"),
    (0x1F000, _COMMON),
    (0x20000, "han"),
)
_STARTS = [start for start, _ in _BEGINNINGS]

_WRITTEN = {
    **dict.fromkeys(("be", "bg", "kk", "mk", "mn", "ru", "sr", "uk"), ("cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("arabic",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("devanagari",)),
    "zh": ("han",),
    "ja": ("han", "kana"),
    "ko": ("hangul", "han"),
    "el": ("greek",),
    "he": ("hebrew",),
    "hy": ("armenian",),
    "bn": ("bengali",),
    "gu": ("gujarati",),
    "ka": ("georgian",),
    "pa": ("gurmukhi",),
    "ta": ("tamil",),
    "te": ("telugu",),
    "th": ("thai",),
}
_DENSE = frozenset(("han", "kana", "hangul"))  # one letter says as much as three of an alphabet
_PICTOGRAPHS = ((0x2600, 0x27C0), (0x1F300, 0x1FB00))  # say little by themselves; regional letters are not among them


def unfit(card: Card, text: str, slices: Sequence[Slice], unknown: int) -> str:
    """Why the card's check must not judge the text, or "". `unknown`: the id of the unknown token."""
    if unreadable(text, slices, unknown) >= card.unknown:
        return UNREADABLE
    if foreign(text, card.languages):
        return LANGUAGE
    return ""


def foreign(text: str, languages: Collection[str]) -> bool:
    """Whether much of the text is in a script that none of the languages (ISO 639-1) is written in. Linear."""
    if text.isascii():
        return False
    known = {_LATIN, _COMMON}.union(*(_WRITTEN.get(language, ()) for language in languages))
    ours = strange = 0
    for char, times in Counter(text).items():
        if char.isalpha():
            script = _script(char)
            times *= 3 if script in _DENSE else 1
            if script in known:
                ours += times
            else:
                strange += times
    return strange >= _MANY or (strange >= _FEW and strange >= _SHARE * (ours + strange))


def unreadable(text: str, slices: Sequence[Slice], unknown: int) -> float:
    """The share of the text that the vocabulary has no words for, in the slice where it is largest; 0 to 1.

    Unknown words count by their length, pictographs not at all. A text of which nothing is left to read, and that is
    not blank, is all unreadable.
    """
    worst, tokens = 0.0, 0
    for piece in slices:
        tokens += piece.tokens - FRAME
        if not piece.unknown:
            continue
        lost = 0
        known = piece.tokens - FRAME - piece.unknown
        for place in np.flatnonzero(piece.ids == unknown).tolist():
            start, end = piece.offsets[place]
            if not _pictographs(text, start, end):
                lost += max(1, (end - start) // _WORD)
        worst = max(worst, lost / (known + lost) if lost else 0.0)
    return worst if tokens or not text.strip() else 1.0


def _script(char: str) -> str:
    return _BEGINNINGS[bisect_right(_STARTS, ord(char)) - 1][1]


def _pictographs(text: str, start: int, end: int) -> bool:
    # Bounded: a word of many thousand characters is unknown for its length, whatever they are.
    return end - start <= 64 and all(
        any(low <= ord(char) < high for low, high in _PICTOGRAPHS) or char in "\u200d\ufe0f" for char in text[start:end]
    )
