"""Texts in languages that the policy does not allow.

- The language is lingua's answer on stretches of some hundred characters, so that a foreign paragraph behind an
  English one is judged by itself. Texts are judged window by window, as in a stream, synchronously: about 0.3 ms for
  every hundred characters at low accuracy, which is far more than any other deterministic check takes.
- Only words count: what holds digits, addresses or the signs of program text is left out, and a stretch with fewer
  letters than `min_characters`, or mostly of the other things, is not judged. Prose that is made to look like code is
  not judged either; that is this check's limit.
- A script that no allowed language is written in needs no detector.
- The detector is loaded when the check is made, never on a request, and lingua is imported only then.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from guardproxy.checks.base import Abstain, Check, CheckSpec, Options
from guardproxy.checks.options import OptionReader, did_you_mean
from guardproxy.checks.scripts import HAN, HANGUL, KANA, LATIN, UNSPACED, script, scripts
from guardproxy.reading import Reading
from guardproxy.types import Finding

if TYPE_CHECKING:
    from lingua import LanguageDetector

UNSUPPORTED = "unsupported_language"

_COMMON = (
    *("en", "de", "fr", "es", "pt", "it", "nl", "sv", "da", "nb", "pl", "cs", "ro", "hu", "tr"),
    *("ru", "uk", "ar", "fa", "zh", "ja", "ko", "hi", "vi", "id"),
)
_ALSO = {"no": ("nb", "nn"), "iw": ("he",), "in": ("id",)}  # codes that lingua spells otherwise
_CYRILLIC = ("be", "bg", "kk", "mk", "mn", "ru", "sr", "uk")
_SCRIPTS = {
    **dict.fromkeys(_CYRILLIC, ("cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("arabic",)),
    **dict.fromkeys(("hi", "mr"), ("devanagari",)),
    "zh": (HAN,),
    "ja": (HAN, KANA),
    "ko": (HANGUL, HAN),
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

_STRETCH = 300  # characters judged at once: enough for any language, short enough not to drown a paragraph
_ALPHABETS = frozenset({LATIN, "cyrillic", "greek", "arabic", "hebrew", "armenian", "georgian"})
_DENSE = UNSPACED | {HANGUL}
_DENSITY = 3  # one letter of these says as much as three of an alphabet; one of India's scripts as much as two
_NOT_WORDS = re.compile(r"[0-9_/\\@=<>{}\[\]|#$*+~^`&%()]|[a-z][A-Z]|\w[.:]\w")
_LONGEST_WORD = 40
_EDGES = "()[]{}<>*_\"'`~.,;:!?…“”„«»‘’|#-"
_FOREIGN_SCRIPT = 0.3  # share of the letters from which a script speaks for itself
_HALF_SURE = 2.0  # orders of magnitude against the allowed languages that make a score of 0.5
_LEAST = 1.0  # fewer of them are no finding
_UNSURE = 0.5  # a best language below this is no answer


class Language(Check):
    """Finds stretches in other languages than the allowed ones."""

    name = "language"
    labels = frozenset({UNSUPPORTED})

    def __init__(self, options: Options) -> None:
        """`allowed`: ISO 639-1 codes; `min_characters`: 40; `accuracy`: low or high; `candidates`: codes to tell apart.

        Loads the detector: a third of a second and 50 MB for the default candidates at low accuracy; at high accuracy
        seconds and hundreds of MB. Raises PolicyError.
        """
        reader = OptionReader(options, "checks.language", ("allowed", "min_characters", "accuracy", "candidates"))
        if not reader.strings("allowed"):
            raise reader.fail("allowed", "write at least one language, such as en")
        allowed = _codes(reader, "allowed")
        candidates = _codes(reader, "candidates") or _COMMON
        self._least = reader.count("min_characters", 40)
        accuracy = reader.choice("accuracy", ("low", "high"), "low")
        self._allowed = frozenset(allowed)
        self._scripts = frozenset(name for code in allowed for name in _SCRIPTS.get(code, (LATIN,))) | {LATIN}
        codes = tuple(sorted(self._allowed.union(candidates)))
        if len(codes) < 2:
            raise reader.fail("candidates", "needs another language than the allowed one, to tell it from")
        self._detector = _detector(codes, accuracy)
        self.version = f"1+lingua-{accuracy}"

    def clean(self, reading: Reading) -> bool:
        """Whether the text is too short to be judged, and its parts with it."""
        return _most_letters(reading.plain) < self._least

    def find(self, reading: Reading) -> Sequence[Finding]:
        """A finding for each stretch in another language, but none in the window's context.

        Abstains if none is sure.
        """
        plain = reading.plain
        if _most_letters(plain) < self._least:
            return ()
        own = _beginning_of_own(reading)
        if _letters(plain[own:]) < self._least:
            own = 0  # too little by itself: with its context it may do
        found: list[Finding] = []
        unknown = False
        for start, end in _stretches(plain, own, self._least):
            score = self._foreign(plain[start:end])
            if score is None:
                unknown = True
            elif score > 0:
                found.append(Finding(UNSUPPORTED, *reading.original(start, end), score))
        if unknown and not found:
            raise Abstain("language unknown")
        return found

    def _foreign(self, text: str) -> float | None:
        """How sure it is that the text is in no allowed language:

        0 if not or if there is too little; None if unknown.
        """
        words = _words(text)
        letters = scripts(words)
        total = sum(letters.values())
        weight = sum(_weight(name) * count for name, count in letters.items())
        if weight < self._least or total * 2 < sum(map(str.isalpha, text)):
            return 0.0
        strange = sum(_weight(name) * count for name, count in letters.items() if name not in self._scripts)
        if strange >= _FOREIGN_SCRIPT * weight:
            return 0.5 + strange / weight / 2
        return self._by_detector(words)

    def _by_detector(self, words: str) -> float | None:
        values = [
            (value.language.iso_code_639_1.name.lower(), value.value)
            for value in self._detector.compute_language_confidence_values(words)
        ]
        likely = sum(value for code, value in values if code in self._allowed)
        if likely >= 0.5:
            return 0.0
        best = max((value for _, value in values), default=0.0)
        if best == 0 or (best < _UNSURE and likely > 10**-_HALF_SURE):
            return None
        # lingua is far too sure of itself: of English texts of 40 to 64 characters it is 90 % sure to be foreign on
        # one in thirty. What tells them from foreign ones is how many orders of magnitude it is sure by.
        orders = -math.log10(max(likely, 1e-30))
        return orders / (orders + _HALF_SURE) if orders >= _LEAST else 0.0


def _beginning_of_own(reading: Reading) -> int:
    """Where, in the plain text, the context ends and the window's own text begins."""
    own = reading.window.start - reading.window.context_start
    plain = reading.plain
    if plain is reading.text:
        return own
    low, high = 0, len(plain)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if reading.original(middle, middle + 1)[0] < own else (low, middle)
    return low


def _stretches(text: str, start: int, least: int) -> Iterator[tuple[int, int]]:
    """Cuts [start, end of text) at line ends, else at white space;

    One too short to be judged goes with the one before it.
    """
    held: tuple[int, int] | None = None
    while start < len(text):
        end = _cut(text, start)
        if held and _letters(text[start:end]) < least:
            held = (held[0], end)
        else:
            if held:
                yield held
            held = (start, end)
        start = end
    if held:
        yield held


def _cut(text: str, start: int) -> int:
    limit = start + _STRETCH
    if limit >= len(text):
        return len(text)
    for mark in ("\n", " "):
        at = text.rfind(mark, start + _STRETCH // 3, limit)
        if at >= 0:
            return at + 1
    return limit


def _words(text: str) -> str:
    """The words of the text, without what is a number, an address or program text."""
    return " ".join(word for word in text.split() if not word.isascii() or _is_word(word.strip(_EDGES)))


def _is_word(word: str) -> bool:
    return len(word) <= _LONGEST_WORD and not _NOT_WORDS.search(word)


def _weight(name: str) -> int:
    if name in _ALPHABETS:
        return 1
    return _DENSITY if name in _DENSE else 2


def _letters(text: str) -> int:
    """Letters, weighted by how much one says."""
    if text.isascii():
        return sum(map(str.isalpha, text))
    return sum(_weight(script(char)) for char in text if char.isalpha())


def _most_letters(text: str) -> int:
    """At least as many as `_letters` would count, without counting."""
    return len(text) if text.isascii() else len(text) * _DENSITY


def _codes(reader: OptionReader, name: str) -> tuple[str, ...]:
    written = reader.strings(name)
    if not written:
        return ()
    from lingua import Language as Known  # here, so that policies without this check never load it

    known = {language.iso_code_639_1.name.lower() for language in Known.all()}
    found: list[str] = []
    for number, code in enumerate(written, 1):
        codes = _ALSO.get(code.lower(), (code.lower(),))
        if not known.issuperset(codes):
            hint = did_you_mean(code.lower(), known)
            raise reader.fail(name, f"entry {number}: expected a language by its code in ISO 639-1, such as en{hint}")
        found += codes
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=2)
def _detector(codes: tuple[str, ...], accuracy: str) -> LanguageDetector:
    """Loaded once for all policies that ask for the same, so that a reload costs nothing."""
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    builder = LanguageDetectorBuilder.from_iso_codes_639_1(*(getattr(IsoCode639_1, code.upper()) for code in codes))
    if accuracy == "low":
        builder = builder.with_low_accuracy_mode()
    detector = builder.with_preloaded_language_models().build()
    detector.compute_language_confidence_values("the first answer is slow, so it is given to nobody")
    return detector


SPEC = CheckSpec(
    name="language",
    summary="texts in languages that the policy does not allow",
    labels=Language.labels,
    build=Language,
)
