"""Personal data that has a form: addresses, numbers and dates, found by patterns and proved by checksums.

Scores are confidences, and 0.5 means "more likely than not":

| score | evidence |
|---|---|
| .95-1 | a strong checksum and a distinctive shape, or a checksum and a word that names the number |
| .85-.95 | a shape that leaves little doubt; a weak checksum with a word; no checksum, but shape and word |
| .6-.8 | a word alone, or a distinctive shape alone |
| .3-.5 | something that is more often another thing: bare digits with a weak checksum, a version like an address |

Names, places and whatever else has no form are for the model stage. Of findings that overlap, the best is kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache

import phonenumbers

from guardproxy.checks.base import Check, CheckSpec, Options
from guardproxy.checks.options import OptionReader, did_you_mean
from guardproxy.checks.pii.contact import CONTACT
from guardproxy.checks.pii.finance import FINANCE
from guardproxy.checks.pii.keyed import KEYED
from guardproxy.checks.pii.national import NATIONAL
from guardproxy.checks.pii.numbers import NUMBERS
from guardproxy.checks.pii.phones import REGIONS
from guardproxy.checks.pii.scan import Recogniser, Scan
from guardproxy.patterns import PatternSet
from guardproxy.reading import Reading
from guardproxy.types import Finding

RECOGNISERS: tuple[Recogniser, ...] = (NUMBERS, *CONTACT, *FINANCE, *NATIONAL, *KEYED)
LABELS = frozenset().union(*(recogniser.labels for recogniser in RECOGNISERS))


@cache
def _patterns(numbers: tuple[int, ...]) -> PatternSet:
    """The automaton over some of the recognisers; policies that ask for the same ones share it."""
    return PatternSet([RECOGNISERS[number].pattern for number in numbers])


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


class Pii(Check):
    """Finds personal data by form. Options:

    - `entities`: the labels to look for; all by default.
    - `regions`: the regions (ISO 3166, two letters) whose national telephone numbers are looked for.
    - `allow`: values that are never reported, such as one's own support address; case is ignored.
    """

    name = "pii"
    labels = LABELS

    def __init__(self, options: Options) -> None:
        read = OptionReader(options, "checks.pii", ("entities", "regions", "allow"))
        wanted = read.strings("entities")
        for label in wanted:
            if label not in LABELS:
                raise read.fail("entities", f"no such entity: {label}{did_you_mean(label, LABELS)}")
        regions = tuple(region.upper() for region in read.strings("regions"))
        for region in regions:
            if region not in phonenumbers.SUPPORTED_REGIONS:
                raise read.fail("regions", f"no such region: {region}")
        self.labels = frozenset(wanted) or LABELS
        self._regions = regions or REGIONS
        self._allow = frozenset(value.casefold() for value in read.strings("allow"))
        numbers = tuple(number for number, each in enumerate(RECOGNISERS) if each.labels & self.labels)
        self._recognisers = tuple(RECOGNISERS[number] for number in numbers)
        self._patterns = _patterns(numbers)

    def find(self, reading: Reading) -> Sequence[Finding]:
        """What has the form of personal data in the reading's text."""
        plain = reading.plain
        hits = self._patterns.hits(plain)
        if not hits:
            return ()
        scan = Scan(plain, self._regions)
        found = [
            finding
            for number in hits
            for start, end in self._patterns.spans(number, plain)
            for finding in self._recognisers[number].judge(scan, start, end)
            if finding.label in self.labels
        ]
        return tuple(self._placed(finding, reading) for finding in best(found) if not self._allowed(finding, reading))

    def _placed(self, finding: Finding, reading: Reading) -> Finding:
        start, end = reading.original(finding.start, finding.end)
        return Finding(finding.label, start, end, round(finding.score, 2))

    def _allowed(self, finding: Finding, reading: Reading) -> bool:
        if not self._allow:
            return False
        start, end = reading.original(finding.start, finding.end)
        values = (reading.plain[finding.start : finding.end], reading.text[start:end])
        return any(value.casefold() in self._allow for value in values)


SPEC = CheckSpec(
    name="pii",
    summary="Personal data that has a form: e-mail, phone, cards, accounts, national and tax numbers, dates of birth",
    labels=LABELS,
    build=Pii,
)
