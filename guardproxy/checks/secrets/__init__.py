"""Credentials: tokens with their issuers' prefixes, private keys, passwords in URLs, and values named as secrets.

Scores are confidences, and 0.5 means "more likely than not": .95-.99 for an issuer's prefix and length (with check
digits, where it has them), .75-.9 for a frame or a name with a value that looks random, .55-.65 for a name and a
plausible password, .2-.4 for placeholders and examples. A label of its own for the common issuers, SECRET for the
others.
"""

from __future__ import annotations

from guardproxy.checks.base import CheckSpec, Options
from guardproxy.checks.forms import FormCheck, Recogniser, Scan, all_labels
from guardproxy.checks.options import OptionReader
from guardproxy.checks.secrets.assignments import ASSIGNMENTS
from guardproxy.checks.secrets.blocks import BLOCKS
from guardproxy.checks.secrets.tokens import TOKENS

RECOGNISERS: tuple[Recogniser[Scan], ...] = (*TOKENS, *BLOCKS, *ASSIGNMENTS)


class Secrets(FormCheck[Scan]):
    """Finds credentials. Options: `entities`, the labels to look for; `allow`, values that are never reported."""

    name = "secrets"

    def __init__(self, options: Options) -> None:
        super().__init__(RECOGNISERS, OptionReader(options, "checks.secrets", ("entities", "allow")))

    def scan(self, text: str) -> Scan:
        """The text alone."""
        return Scan(text)


SPEC = CheckSpec(
    name="secrets",
    summary="Credentials: API keys and tokens, private keys, passwords in URLs and assignments",
    labels=all_labels(RECOGNISERS),
    build=Secrets,
)
