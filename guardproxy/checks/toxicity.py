"""Abuse of people, and requests for help with harm.

There is no deterministic stage: what a word means here depends on what stands around it, so that is the backends' part.
"""

from __future__ import annotations

from guardproxy.checks.base import Check, CheckSpec, Options
from guardproxy.checks.options import OptionReader
from guardproxy.reading import Reading

LABELS = frozenset(
    {
        "unsafe",
        "toxic",
        "vcr",
        "ncr",
        "src",
        "cse",
        "ssh",
        "iwp",
        "ipv",
        "dfm",
        "hte",
        "prv",
        "spc_fin",
        "spc_hlt",
        "spc_lgl",
        "spc_ele",
        "sxc_prn",
    }
)


class Toxicity(Check):
    """Answered by the ladder alone. Takes no options; raises PolicyError for any."""

    name = "toxicity"
    labels = LABELS

    def __init__(self, options: Options) -> None:
        OptionReader(options, "checks.toxicity", ())

    def clean(self, reading: Reading) -> bool:
        """Always: this check itself finds nothing."""
        return True


SPEC = CheckSpec(
    "toxicity",
    "Abuse, threats and requests for harm, by the hazards of MLCommons AILuminate",
    LABELS,
    Toxicity,
    ladder=("rules",),
)
