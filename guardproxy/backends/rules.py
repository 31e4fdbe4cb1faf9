"""The last rung of the ladder: word and phrase rules, which answer at once, need no model and cannot be down.

One automaton a check decides which rules may fire at all; only those are looked for, and only what they find is weighed
against its neighbourhood (see rulebook.py). The rules are modest, and their cards say so. What is found in the
normalised text is reported in the text as it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from guardproxy.backends.base import NOTHING, Answer, LocalBackend
from guardproxy.backends.rulebook import Condition, PhraseRule, Rulebook, parse
from guardproxy.errors import BackendError, ConfigError
from guardproxy.reading import Reading
from guardproxy.types import Finding

CHECKS = ("toxicity", "injection", "compliance")
BY_FORM = frozenset({"pii"})  # what rules know of these, the check's own first stage has already said
MOST_OCCURRENCES = 4_000  # weighed in one reading; a text with more of them is a flood, and is abstained on
_AHEAD = 200  # characters behind a rejected occurrence that a later beginning in it may reach
_UNSPACED = "\u2e80"
_SENTENCE_ENDS = (". ", "! ", "? ", "\n")

Span = tuple[int, int, float]


class Rules(LocalBackend):
    """Answers from compiled rulebooks. Immutable, so safe to share."""

    name = "rules"

    def __init__(self, books: Mapping[str, Rulebook]) -> None:
        self._books = dict(books)
        digest = "".join(f"{check}:{book.sha256}\n" for check, book in sorted(self._books.items()))
        self.version = sha256(digest.encode()).hexdigest()[:12]  # any edit of a rule shows

    @classmethod
    def load(cls, checks: Sequence[str] = CHECKS) -> Rules:
        """The rulebooks that come with the package. Raises ConfigError for a check that has none."""
        return cls({check: packaged(check) for check in checks})

    def classify_now(self, check: str, readings: Sequence[Reading]) -> Sequence[Answer]:
        """One answer for each reading. Scores by label are the strongest rule's; a label that no rule found has none.

        Raises BackendError for a check without a rulebook.
        """
        if check in BY_FORM:
            return [NOTHING] * len(readings)
        book = self._book(check)
        return [_judge(book, reading) for reading in readings]

    def clean(self, check: str, reading: Reading) -> bool:
        """Whether no pattern of any rule occurs, whatever its neighbourhood says: a part may have another one."""
        if check in BY_FORM:
            return True
        book, text = self._books.get(check) or self._book(check), reading.data
        if b"_" in text:
            text = text.replace(b"_", b" ")
        found = book.anchors.hits(text)
        return not found or not any(book.rules[number].patterns.hits(text) for number in found)

    def _book(self, check: str) -> Rulebook:
        book = self._books.get(check)
        if book is None:
            raise BackendError("no rulebook for this check")
        return book


@cache
def packaged(check: str) -> Rulebook:
    """The rulebook that comes with the package for `check`, compiled once a process. Raises ConfigError."""
    if check not in CHECKS:
        raise ConfigError(f"there is no rulebook for the check {check}; there are {', '.join(CHECKS)}")
    data = files("guardproxy.backends").joinpath("rulebooks", f"{check}.yaml").read_bytes()
    return parse(data, check, proven=True)


def card(check: str) -> Mapping[str, Any]:
    """A packaged rulebook's card, for people: what it knows, in which languages, and what it misses.

    Beside the card's own entries (name, version, check, languages, summary, limits): `labels` with their meanings,
    `rules`, the number of rules, and `sha256`. Raises ConfigError for a check without a rulebook.
    """
    book = packaged(check)
    return {**book.card, "labels": dict(book.labels), "rules": len(book.rules), "sha256": book.sha256}


class _Flood(Exception):
    """More occurrences than are weighed in one text."""


def _judge(book: Rulebook, reading: Reading) -> Answer:
    text = _words(reading)
    hits = book.anchors.hits(text)
    if not hits:
        return NOTHING
    found: dict[str, list[Span]] = {}
    budget = iter(range(MOST_OCCURRENCES))
    try:
        for number in hits:
            rule = book.rules[number]
            spans = _spans(rule, text, budget) if rule.patterns.hits(text) else []
            for label in {rule.label, book.union} if spans else ():
                found.setdefault(label, []).extend(spans)
    except _Flood:
        return Answer(abstained="too many near matches")
    return _answer(found, reading) if found else NOTHING


def _words(reading: Reading) -> str:
    """The plain text with spaces for underscores: to an automaton they are letters, and would hide a word's edges."""
    return reading.plain.replace("_", " ")


def _spans(rule: PhraseRule, text: str, budget: Iterator[int]) -> list[Span]:
    """The occurrences that the rule fires at. Where it does not, the same words are searched for a later beginning."""
    found: list[Span] = []
    for start, end in rule.patterns.spans(0, text):
        while True:
            if next(budget, None) is None:
                raise _Flood
            if _confirmed(rule, text, start, end):
                found.append((start, end, rule.score))
                break
            base = start + 1
            inner = next(rule.patterns.spans(0, text[base : end + _AHEAD]), None)
            if inner is None or base + inner[0] >= end:
                break
            start, end = base + inner[0], base + inner[1]
    return found


def _confirmed(rule: PhraseRule, text: str, start: int, end: int) -> bool:
    """Whether the occurrence is whole words and its neighbourhood agrees."""
    if rule.whole_words and ((start and _joined(text[start - 1 : start + 1])) or _joined(text[end - 1 : end + 1])):
        return False
    if not all(_holds(need, text, start, end, cut=False) for need in rule.needs):
        return False
    return not any(_holds(exception, text, start, end, cut=True) for exception in rule.unless)


def _joined(pair: str) -> bool:
    """Whether two neighbours belong to one word. Scripts that are written without spaces begin beyond _UNSPACED."""
    return len(pair) == 2 and all(char.isalnum() and char < _UNSPACED for char in pair)


def _holds(condition: Condition, text: str, start: int, end: int, *, cut: bool) -> bool:
    """Whether the condition's pattern is in the neighbourhood; with `cut`, in that of the same sentence."""
    before = after = ""
    if condition.place != "after":
        before = text[max(0, start - condition.within) : start]
        if cut:
            before = before[max(before.rfind(mark) + 1 for mark in _SENTENCE_ENDS) :]
    if condition.place != "before":
        after = text[end : end + condition.within]
        if cut:
            after = after[: min(after.find(mark) % (len(after) + 1) for mark in _SENTENCE_ENDS)]
    zone = before + text[start:end] + after if condition.place == "around" else before or after
    return bool(condition.patterns.hits(zone))


def _answer(found: Mapping[str, list[Span]], reading: Reading) -> Answer:
    scores = {label: max(score for _, _, score in spans) for label, spans in found.items()}
    findings = [
        Finding(label, *reading.original(start, end), score)
        for label, spans in found.items()
        for start, end, score in _merged(spans)
    ]
    findings.sort(key=lambda finding: (finding.start, finding.end, finding.label))
    return Answer(scores, tuple(findings))


def _merged(spans: list[Span]) -> Iterator[Span]:
    """Spans that overlap as one, with the higher score."""
    spans.sort()
    start, end, score = spans[0]
    for next_start, next_end, next_score in spans[1:]:
        if next_start < end:
            end, score = max(end, next_end), max(score, next_score)
        else:
            yield start, end, score
            start, end, score = next_start, next_end, next_score
    yield start, end, score
