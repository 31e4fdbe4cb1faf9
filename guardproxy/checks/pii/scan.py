"""One text being searched: what every recogniser may ask of it, and the limits on dear work.

Context decides how much a weak shape is worth: words that name a label within BEFORE characters before a candidate, or
AFTER behind it, count as evidence, unless a word that names something else ("order", "tracking") or another number
stands between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from guardproxy.checks import forms
from guardproxy.checks.pii.context import LABELS_IN_ORDER, WORDS
from guardproxy.types import Finding

BEFORE = 60
AFTER = 25

# Words that say that the number behind them is something else. What stands before them is no evidence.
_OTHER = re.compile(
    r"\b(?:order|invoice|tracking|shipment|parcel|ticket|case|ref(?:erence)?|isbn|issn|ean|upc|sku|part|serial|version"
    r"|build|commit|timestamp|epoch|transaction|batch|lot|model|bestellung|bestellnummer|rechnung|rechnungsnummer"
    r"|commande|facture|pedido|factura|ordine|fattura)\b(?! security)",
    re.IGNORECASE,
)
_NUMBER_THEN_WORDS = re.compile(r"\d{4,}(?=[^\d]*[^\W\d_]{3})")
_LETTER = re.compile(r"[^\W\d_]")
_NOTHING: frozenset[str] = frozenset()
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_CLAUSE_END = re.compile(r"[,;:\n|{}]|\.\s")


class Scan(forms.Scan):
    """The text and the phone regions. Dear work is parsing telephone numbers and hashing."""

    __slots__ = ("_near", "regions")

    def __init__(self, text: str, regions: tuple[str, ...]) -> None:
        super().__init__(text)
        self.regions = regions
        self._near: tuple[int, int, frozenset[str]] = (-1, -1, frozenset())

    def near(self, start: int, end: int) -> frozenset[str]:
        """The labels that words around text[start:end] name."""
        if self._near[:2] != (start, end):
            self._near = (start, end, self._labels(start, end))
        return self._near[2]

    def _labels(self, start: int, end: int) -> frozenset[str]:
        before = self.text[max(0, start - BEFORE) : start]
        behind = self.text[end : end + AFTER]
        if not _LETTER.search(before) and not _LETTER.search(behind):
            return _NOTHING  # inside a long run of digits
        cut = 0
        for pattern in (_OTHER, _NUMBER_THEN_WORDS):
            for match in pattern.finditer(before):
                cut = max(cut, match.end())
        after = _CLAUSE_END.split(behind, maxsplit=1)[0]
        words = _CAMEL.sub(" ", f"{before[cut:]} \n {after}")
        return frozenset(LABELS_IN_ORDER[number] for number in WORDS.hits(words))


Judge = Callable[[Scan, int, int], Iterable[Finding]]


class Recogniser(forms.Recogniser[Scan]):
    """A recogniser whose judge may ask for context."""

    __slots__ = ()
