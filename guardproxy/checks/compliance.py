"""What a regulated firm must not say or answer unchecked: personal advice, promises, misleading claims.

There is no deterministic stage: the same words are education in one sentence and advice in the next, so that is the
backends' part.
"""

from __future__ import annotations

from guardproxy.checks.base import Check, CheckSpec, Options
from guardproxy.checks.options import OptionReader
from guardproxy.reading import Reading

LABELS = frozenset(
    {
        "noncompliant",
        "investment_advice",
        "return_guarantee",
        "legal_advice",
        "tax_advice",
        "medical_advice",
        "misleading_claim",
        "market_manipulation",
    }
)


class Compliance(Check):
    """Answered by the ladder alone. Takes no options; raises PolicyError for any."""

    name = "compliance"
    labels = LABELS

    def __init__(self, options: Options) -> None:
        OptionReader(options, "checks.compliance", ())

    def clean(self, reading: Reading) -> bool:
        """Always: this check itself finds nothing."""
        return True


SPEC = CheckSpec(
    "compliance",
    "Licensed advice, guaranteed returns, misleading claims and market manipulation",
    LABELS,
    Compliance,
    ladder=("rules",),
)
