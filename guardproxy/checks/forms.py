"""Checks that look for things by their form: one automaton decides which patterns occur, judges weigh each place.

The clean path is one question to the automaton. Of findings that overlap the best-scored is kept, and what is found in
the normalised text is reported in the text as it came.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from guardproxy.checks.base import Check
from guardproxy.checks.options import OptionReader, did_you_mean
from guardproxy.patterns import PatternSet
from guardproxy.reading import Reading
from guardproxy.types import Finding


class Scan:
    """One text being searched, and what is left of the budget for dear work on it."""

    __slots__ = ("dear", "text")

    DEAR_ATTEMPTS = 200

    def __init__(self, text: str) -> None:
        self.text = text
        self.dear = self.DEAR_ATTEMPTS

    def afford(self) -> bool:
        """Whether one more dear attempt is within the budget; takes it."""
        self.dear -= 1
        return self.dear >= 0


S = TypeVar("S", bound=Scan)


@dataclass(frozen=True, slots=True)
class Recogniser(Generic[S]):
    """A cheap pattern that must occur, and the judge of each place where it does.

    The judge looks at one match, text[start:end], and says what is there; offsets count in the scan's text.
    """

    labels: frozenset[str]
    pattern: str
    judge: Callable[[S, int, int], Iterable[Finding]]


@cache
def _automaton(patterns: tuple[str, ...]) -> PatternSet:
    """Policies that ask for the same patterns share one."""
    return PatternSet(patterns)


def best(findings: Iterable[Finding]) -> list[Finding]:
    """The best-scored of findings that overlap, the longer of equals; in the order of the text."""
    kept: list[Finding] = []
    starts: list[int] = []
    for finding in sorted(findings, key=lambda f: (-f.score, f.start - f.end, f.start, f.label)):
        at = bisect_left(starts, finding.end)
        if at and kept[at - 1].end > finding.start:
            continue
        starts.insert(at, finding.start)
        kept.insert(at, finding)
    return kept


class FormCheck(Check, Generic[S]):
    """A check made of recognisers. Options `entities` (labels to look for) and `allow` (values never reported)."""

    def __init__(
        self, recognisers: Sequence[Recogniser[S]], read: OptionReader, others: frozenset[str] = frozenset()
    ) -> None:
        """`others`: labels that have no form. Raises PolicyError for labels that nothing finds."""
        known = all_labels(recognisers) | others
        wanted = read.strings("entities")
        for label in wanted:
            if label not in known:
                raise read.fail("entities", f"no such entity: {label}{did_you_mean(label, known)}")
        self.labels = frozenset(wanted) or known
        self._allow = frozenset(value.casefold() for value in read.strings("allow"))
        self._recognisers = tuple(each for each in recognisers if each.labels & self.labels)
        self._patterns = _automaton(tuple(each.pattern for each in self._recognisers))

    def scan(self, text: str) -> S:
        """What the judges are given."""
        raise TypeError("a FormCheck says what its judges are given")

    def clean(self, reading: Reading) -> bool:
        """Whether no pattern occurs."""
        return not self._patterns.hits(reading.data)

    def find(self, reading: Reading) -> Sequence[Finding]:
        """What has one of the forms in the reading's text."""
        plain = reading.plain
        hits = self._patterns.hits(plain)
        if not hits:
            return ()
        scan = self.scan(plain)
        found = [
            finding
            for number in hits
            for start, end in self._patterns.spans(number, plain)
            for finding in self._recognisers[number].judge(scan, start, end)
            if finding.label in self.labels
        ]
        return tuple(placed for finding in best(found) if (placed := self._placed(finding, reading)) is not None)

    def allows(self, reading: Reading, start: int, end: int) -> bool:
        """Whether the text as it came has a value there that is never reported."""
        return bool(self._allow) and reading.text[start:end].casefold() in self._allow

    def _placed(self, finding: Finding, reading: Reading) -> Finding | None:
        """The finding in the text as it came; None if its value is allowed."""
        start, end = reading.original(finding.start, finding.end)
        if self._allow:
            value = reading.plain[finding.start : finding.end]
            if value.casefold() in self._allow or self.allows(reading, start, end):
                return None
        return Finding(finding.label, start, end, round(finding.score, 2))


def all_labels(recognisers: Collection[Recogniser[S]]) -> frozenset[str]:
    """Every label that these can find."""
    return frozenset[str]().union(*(each.labels for each in recognisers))
