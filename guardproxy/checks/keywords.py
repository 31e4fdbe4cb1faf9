"""The policy's own words and expressions: found as their author means them, and never able to hang the proxy.

- A word is found in any case and with any accents or none (folding.py says what is folded), unless its list says
  `case_sensitive`: then letters, accents included, must be as written. A word with ä, ö or ü is also found with ae, oe
  or ue.
- White space in a phrase matches any run of white space, line breaks included.
- With `whole_words` a letter or digit next to a word makes it another word, in every script. Scripts that are written
  without spaces (Chinese, Japanese, Thai, ...) have no such edges, and an edge that is a symbol (C++) needs none.
- Expressions are RE2 and match as written, any case unless `case_sensitive`; `whole_words` is not for them.
- Texts are read as they came and with their disguises off; either will do.
- Finding all matches of one expression is quadratic at worst even with RE2 (a[^b]*b|a), so after MOST matches in one
  window the rest of the window counts as found.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import re2

from guardproxy.checks.base import Check, CheckSpec, Options
from guardproxy.checks.folding import Folded, fold, sendable
from guardproxy.checks.options import OptionReader
from guardproxy.checks.scripts import UNSPACED, script
from guardproxy.errors import BackendError, ConfigError
from guardproxy.normalise import normalise
from guardproxy.patterns import PatternSet
from guardproxy.reading import Reading
from guardproxy.types import Finding

MOST = 100
_SPACE = r"[\s\p{Z}\x{0B}\x{85}]+"
_UNSPACED_CLASS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_EDGE = rf"(?:[^\pL\pN]|{_UNSPACED_CLASS})"
# Beyond the alphabets that take accents, a combining mark is part of the word (Indic vowel signs).
_EDGE_WITH_MARKS = rf"(?:[^\pL\pN\pM]|{_UNSPACED_CLASS})"
_FIRST_BEYOND_ACCENTS = "\u0590"
_UMLAUTS = {"ä": "(?:a|ae)", "ö": "(?:o|oe)", "ü": "(?:u|ue)"}
_LABEL_CHARS = frozenset(string.ascii_letters + string.digits + "_.-")
_MEMORY = 256 << 20  # what the automaton may grow to; a few thousand words take a fraction of it


class _Words:
    """Finds some words as whole words: one expression for each kind of edges that they have."""

    __slots__ = ("_by_edges",)

    def __init__(self, words: Iterable[tuple[str, str]]) -> None:
        """`words`: pairs of the word, for its edges, and the pattern that finds it."""
        groups: dict[tuple[str, str], list[str]] = {}
        for word, pattern in words:
            groups.setdefault((_edge(word[0]), _edge(word[-1])), []).append(pattern)
        self._by_edges = [
            re2.compile(f"{left and f'(?:^|{left})'}({'|'.join(found)}){right and f'(?:$|{right})'}", _options())
            for (left, right), found in groups.items()
        ]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the words stand, as offsets of characters; ascending for each kind of edges."""
        data = text.encode()
        for regexp in self._by_edges:
            place = before = 0
            for start, end in _byte_spans(regexp, data):
                place += len(data[before:start].decode())
                before = start
                yield place, place + len(data[start:end].decode())


def _byte_spans(regexp: Any, data: bytes) -> Iterator[tuple[int, int]]:
    """Group 1 of each match. The edge behind a word is looked at again, as it is also the edge before the next word."""
    at = 0
    while (match := regexp.search(data, at)) is not None:
        start, end = match.span(1)
        yield start, end
        last = end - 1
        while last > start and data[last] & 0xC0 == 0x80:
            last -= 1
        at = last if last > start else end


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    return options


def _edge(char: str) -> str:
    if not char.isalnum() and unicodedata.category(char)[0] != "M":
        return ""
    if script(char) in UNSPACED:
        return ""
    return _EDGE if char < _FIRST_BEYOND_ACCENTS else _EDGE_WITH_MARKS


@dataclass(frozen=True, slots=True)
class _Seeker:
    """One pattern of the set: what it finds, in which reading of the text, and how its spans are told."""

    label: str
    score: float
    folded: bool  # reads the folded text
    words: _Words | None  # None: the spans are the pattern's own


class Keywords(Check):
    """Finds the policy's lists, each under its own label."""

    name = "keywords"

    def __init__(self, options: Options) -> None:
        """`lists`: label -> {words, expressions, case_sensitive: false, whole_words: true, score: 1.0}.

        Raises PolicyError for lists that are empty, expressions that RE2 does not take or that match the empty text.
        """
        reader = OptionReader(options, "checks.keywords", ("lists",))
        lists = reader.mapping("lists")
        if not lists:
            raise reader.fail("lists", "write at least one list, as label: {words: [...]}")
        self.labels = frozenset(lists)
        patterns: list[str] = []
        seekers: list[_Seeker] = []
        for label in lists:
            if not _LABEL_CHARS.issuperset(label):
                raise reader.fail("lists", "a label is made of letters, digits and _ . - only")
        try:
            for label, own in lists.items():
                for seeker, pattern in _read_list(label, own):
                    seekers.append(seeker)
                    patterns.append(pattern)
            self._set = PatternSet(patterns, max_mem=_MEMORY)
        except (re2.error, ConfigError, BackendError):  # each compiles on its own, so it is their number
            raise reader.fail("lists", "too many words or expressions together") from None
        self._seekers = tuple(seekers)
        self._anchored = any(
            _anchored(pattern) for pattern, seeker in zip(patterns, seekers, strict=True) if not seeker.words
        )
        self._any_exact = any(not seeker.folded for seeker in seekers)

    def clean(self, reading: Reading) -> bool:
        """Whether no pattern occurs, if none asks where a text begins or ends: that is another place in its parts."""
        text, plain = reading.text, reading.plain
        return not self._anchored and not (self._hits(plain) or (plain is not text and self._hits(sendable(text))))

    def find(self, reading: Reading) -> Sequence[Finding]:
        """Findings over the words themselves; linear in the text."""
        text, plain = reading.text, reading.plain
        found = {(label, *reading.original(start, end)): score for label, start, end, score in self._search(plain)}
        if plain is not text:
            found.update({(label, start, end): score for label, start, end, score in self._search(sendable(text))})
        return [
            Finding(label, start, end, score) for (label, start, end), score in sorted(found.items(), key=_by_place)
        ]

    def _search(self, text: str) -> Iterator[tuple[str, int, int, float]]:
        hits = self._hits(text)
        if not hits:
            return
        folded = Folded(text)
        for number in hits:
            seeker = self._seekers[number]
            read = folded.text if seeker.folded else text
            spans = seeker.words.spans(read) if seeker.words else self._set.spans(number, read)
            for start, end in _bounded(spans, len(read)):
                place = folded.original(start, end) if seeker.folded else (start, end)
                yield seeker.label, *place, seeker.score

    def _hits(self, text: str) -> list[int]:
        """The numbers of the seekers that find something."""
        if text.isascii():  # the patterns for folded texts ignore case, so one pass serves both kinds
            return self._set.hits(text)
        hits = [number for number in self._set.hits(fold(text)) if self._seekers[number].folded]
        if self._any_exact:
            hits += [number for number in self._set.hits(text) if not self._seekers[number].folded]
        return hits


def _by_place(item: tuple[tuple[str, int, int], float]) -> tuple[int, int, str]:
    (label, start, end), _ = item
    return start, end, label


def _bounded(spans: Iterator[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """The first MOST spans, and if there are more, the rest of the text as one."""
    for start, end in islice(spans, MOST):
        if start < end:
            yield start, end
    following = next(spans, None)
    if following is not None and following[0] < length:
        yield following[0], length


def _read_list(label: str, own: Any) -> Iterator[tuple[_Seeker, str]]:
    at = f"checks.keywords.lists.{label}"
    reader = OptionReader(own, at, ("words", "expressions", "case_sensitive", "whole_words", "score"))
    sensitive, whole = reader.flag("case_sensitive", False), reader.flag("whole_words", True)
    score = reader.score("score", 1.0)
    words, expressions = reader.strings("words"), reader.strings("expressions")
    if not words and not expressions:
        raise reader.fail("", "a list needs words or expressions")
    if words:
        pairs = _word_patterns(reader, words, sensitive)
        alternatives = "|".join(pattern for _, pattern in pairs)
        seeker = _Seeker(label, score, not sensitive, _Words(pairs) if whole else None)
        yield seeker, f"({'' if sensitive else '(?i)'}{alternatives})"
    for number, expression in enumerate(expressions, 1):
        yield _Seeker(label, score, False, None), _expression(reader, number, expression, sensitive)


def _word_patterns(reader: OptionReader, words: Sequence[str], sensitive: bool) -> list[tuple[str, str]]:
    """Pairs of a word and its pattern, longer words first, so that of two that begin alike the longer is found."""
    pairs: dict[str, str] = {}
    for number, raw in enumerate(words, 1):
        for word in {unicodedata.normalize("NFC", raw), normalise(raw).text}:
            spelt = " ".join(word.split())
            key = spelt if sensitive else " ".join(fold(spelt).split())
            if not key:
                raise reader.fail("words", f"entry {number} has nothing to look for")
            pairs[key] = _SPACE.join(_spell(part, sensitive) for part in spelt.split(" "))
    return sorted(pairs.items(), key=lambda pair: -len(pair[0]))


def _spell(word: str, sensitive: bool) -> str:
    if sensitive:
        return str(re2.escape(word))
    return "".join(_UMLAUTS.get(char) or re2.escape(fold(char)) for char in word.lower())


def _expression(reader: OptionReader, number: int, expression: str, sensitive: bool) -> str:
    wrapped = f"({'' if sensitive else '(?i)'}{expression})"
    try:
        re2.compile(expression, _options())
        regexp = re2.compile(wrapped, _options())
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error.args[0])
        raise reader.fail("expressions", f"entry {number}: {reason}") from None
    if "C" in _escapes(expression):
        raise reader.fail("expressions", f"entry {number}: \\C would match part of a character")
    if any(
        match.start() == match.end() for probe in ("", "a", "a a", " ", "1\n\n1") for match in regexp.finditer(probe)
    ):
        raise reader.fail("expressions", f"entry {number}: matches the empty text")
    return wrapped


def _anchored(expression: str) -> bool:
    """Whether the expression may ask what is around a match. True in doubt."""
    return "$" in expression or "^" in expression.replace("[^", "") or not _escapes(expression).isdisjoint("AbBz")


def _escapes(expression: str) -> set[str]:
    """The characters that follow a backslash."""
    found, pieces = set(), iter(expression)
    for char in pieces:
        if char == "\\":
            found.add(next(pieces, ""))
    return found


SPEC = CheckSpec(
    name="keywords",
    summary="words and expressions that the policy lists",
    labels=frozenset(),
    build=Keywords,
    open_labels=True,
)
