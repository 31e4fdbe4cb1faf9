"""Personal data that has a form: addresses, numbers and dates, found by patterns and proved by checksums.

Scores are confidences, and 0.5 means "more likely than not":

| score | evidence |
|---|---|
| .95-1 | a strong checksum and a distinctive shape, or a checksum and a word that names the number |
| .85-.95 | a shape that leaves little doubt; a weak checksum with a word; no checksum, but shape and word |
| .6-.8 | a word alone, or a distinctive shape alone |
| .3-.5 | something that is more often another thing: bare digits with a weak checksum, a version like an address |

Names, places and whatever else has no form are for the model stage. Of findings that overlap, the best is kept; what a
form proves is never given up for what a model believes.
"""

from __future__ import annotations

from collections.abc import Sequence

import phonenumbers

from guardproxy.checks.base import CheckSpec, Options
from guardproxy.checks.forms import FormCheck, all_labels
from guardproxy.checks.options import OptionReader
from guardproxy.checks.pii.contact import CONTACT
from guardproxy.checks.pii.finance import FINANCE
from guardproxy.checks.pii.keyed import KEYED
from guardproxy.checks.pii.national import NATIONAL
from guardproxy.checks.pii.numbers import NUMBERS
from guardproxy.checks.pii.phones import REGIONS
from guardproxy.checks.pii.scan import Recogniser, Scan
from guardproxy.reading import Reading
from guardproxy.types import Finding

RECOGNISERS: tuple[Recogniser, ...] = (NUMBERS, *CONTACT, *FINANCE, *NATIONAL, *KEYED)
BY_CONTEXT = frozenset(
    {"PERSON", "ADDRESS", "LOCATION", "ORGANIZATION", "AGE", "USERNAME", "ID_NUMBER", "BANK_ACCOUNT", "PASSWORD"}
)
"""The labels that only a model gives."""
LIKELY = 0.5  # the score of a form from which on it takes the place of what a model says of the same characters


class Pii(FormCheck[Scan]):
    """Finds personal data by form. Options:

    - `entities`: the labels to look for; all by default.
    - `regions`: the regions (ISO 3166, two letters) whose national telephone numbers are looked for.
    - `allow`: values that are never reported, such as one's own support address; case is ignored.
    """

    name = "pii"

    def __init__(self, options: Options) -> None:
        read = OptionReader(options, "checks.pii", ("entities", "regions", "allow"))
        regions = tuple(region.upper() for region in read.strings("regions"))
        for region in regions:
            if region not in phonenumbers.SUPPORTED_REGIONS:
                raise read.fail("regions", f"no such region: {region}")
        self._regions = regions or REGIONS
        super().__init__(RECOGNISERS, read, BY_CONTEXT)

    def merged(self, reading: Reading, found: Sequence[Finding], modelled: Sequence[Finding]) -> Sequence[Finding]:
        """All that has a form, and what the model finds beside it, but for labels not looked for and allowed values."""
        kept = list(found)
        for finding in modelled:
            covered = sum(
                max(min(finding.end, f.end) - max(finding.start, f.start), 0) for f in found if f.score >= LIKELY
            )
            known = 2 * covered >= finding.end - finding.start
            if finding.label in self.labels and not known and not self.allows(reading, finding.start, finding.end):
                kept.append(finding)
        return kept

    def scan(self, text: str) -> Scan:
        """A text with the policy's phone regions."""
        return Scan(text, self._regions)


SPEC = CheckSpec(
    name="pii",
    summary=(
        "Personal data: by form e-mail, phone, cards, accounts, national and tax numbers, dates of birth; "
        "by context names, addresses, places, organisations, user names and other numbers"
    ),
    labels=all_labels(RECOGNISERS) | BY_CONTEXT,
    build=Pii,
    ladder=("rules",),
)
