"""Which script a character is written in, as far as Unicode's character names tell: cheap, and no tables of our own.

Answers are cached per character: looking one up costs a dictionary access, and Unicode bounds how many there are.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

LATIN, GREEK, CYRILLIC, HAN, KANA, HANGUL = "latin", "greek", "cyrillic", "han", "kana", "hangul"
COMMON = "common"  # digits, punctuation, marks: belongs to any script

_ALIASES = {
    "cjk": HAN,
    "hiragana": KANA,
    "katakana": KANA,
    "halfwidth katakana": KANA,
    "fullwidth latin": LATIN,
    "micro": GREEK,
    "ohm": GREEK,
    "kelvin": LATIN,
    "angstrom": LATIN,
    "feminine": LATIN,
    "masculine": LATIN,
    "mathematical": COMMON,
    "modifier": COMMON,
    "bopomofo": HAN,
}

# Written without spaces between words, so that a neighbouring letter does not make a longer word.
UNSPACED = frozenset({HAN, KANA, "thai", "lao", "khmer", "myanmar", "tibetan"})

_known: dict[str, str] = {}


def script(char: str) -> str:
    """The script of a letter, lower case, as Unicode names it ("latin", "han"); COMMON for what is no letter."""
    found = _known.get(char)
    if found is None:
        found = _known[char] = _look_up(char)
    return found


def _look_up(char: str) -> str:
    if not char.isalpha():
        return COMMON
    words = unicodedata.name(char, "unknown").lower().replace("-", " ").split()
    pair = " ".join(words[:2])
    return _ALIASES.get(pair) or _ALIASES.get(words[0], words[0])


def scripts(text: str) -> dict[str, int]:
    """How many letters of each script the text has. Linear."""
    counts: dict[str, int] = {}
    for char, times in Counter(text).items():
        name = script(char)
        if name != COMMON:
            counts[name] = counts.get(name, 0) + times
    return counts
