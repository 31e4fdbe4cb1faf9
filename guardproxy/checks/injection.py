"""Text that tries to take over the assistant that reads it.

The deterministic stage finds what no model has to judge: characters that carry text which a person never sees (Unicode
tag characters, long runs of variation selectors). Whether readable words are an attack is the backends' part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from guardproxy.checks.base import Check, CheckSpec, Options
from guardproxy.checks.options import OptionReader
from guardproxy.patterns import PatternSet
from guardproxy.reading import Reading
from guardproxy.types import Finding

LABELS = frozenset(
    {
        "injection",
        "direct",
        "indirect",
        "jailbreak",
        "prompt_leak",
        "exfiltration",
        "encoded",
    }
)
SCORE = 0.95
_FLAG = "\U0001f3f4"  # a black flag and up to six tag characters are the flag of a country's part: England, Texas
_FLAG_END = "\U000e007f"
_LONGEST_FLAG = 7
_HIDDEN = PatternSet([r"[\x{E0000}-\x{E007F}]{2,}", r"[\x{FE00}-\x{FE0F}\x{E0100}-\x{E01EF}]{4,}"])


class Injection(Check):
    """Hidden text by itself, the rest by the ladder. Takes no options; raises PolicyError for any."""

    name = "injection"
    labels = LABELS

    def __init__(self, options: Options) -> None:
        OptionReader(options, "checks.injection", ())

    def find(self, reading: Reading) -> Sequence[Finding]:
        """Runs of characters that hide text, as `encoded` and `injection`. Reads the text as it came."""
        if reading.text.isascii():
            return ()
        return [
            Finding(label, start, end, SCORE)
            for start, end in _hidden(reading.text)
            for label in ("encoded", "injection")
        ]

    def clean(self, reading: Reading) -> bool:
        """Whether nothing could hide text in it."""
        return reading.text.isascii() or not _HIDDEN.hits(reading.text)


def _hidden(text: str) -> Iterator[tuple[int, int]]:
    for number in _HIDDEN.hits(text):
        for start, end in _HIDDEN.spans(number, text):
            if number or not _is_flag(text, start, end):
                yield start, end


def _is_flag(text: str, start: int, end: int) -> bool:
    closed = text[end - 1] == _FLAG_END and text.count(_FLAG_END, start, end) == 1
    return closed and end - start <= _LONGEST_FLAG and text[start - 1 : start] == _FLAG


SPEC = CheckSpec(
    "injection", "Prompt injection and jailbreaks, hidden text included", LABELS, Injection, ladder=("rules",)
)
