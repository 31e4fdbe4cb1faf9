"""Texts longer than the policy allows, in characters, tokens or both.

The whole text counts, not a window of it; while a stream grows, the text so far. The finding is what is too much:
everything behind the limit. How tokens are counted is told in tokens.py and shows in the check's version
(1+o200k_base, 1+estimate).
"""

from __future__ import annotations

from collections.abc import Sequence

from guardproxy.checks.base import Check, CheckSpec, Options
from guardproxy.checks.options import OptionReader
from guardproxy.checks.tokens import TokenCounter
from guardproxy.types import Finding, Segment

TOO_LONG = "too_long"


class Length(Check):
    """Finds the part of a text that is beyond the limits."""

    name = "length"
    labels = frozenset({TOO_LONG})
    whole = True

    def __init__(self, options: Options) -> None:
        """`max_characters` and `max_tokens`, at least one of them; for tokens also `encoding` and `encoding_file`.

        Raises PolicyError. The ranks file, if there is one, is read here and never again: half a second.
        """
        reader = OptionReader(options, "checks.length", ("max_characters", "max_tokens", "encoding", "encoding_file"))
        self._characters = reader.count("max_characters", 0)
        self._tokens = reader.count("max_tokens", 0)
        if not self._characters and not self._tokens:
            raise reader.fail("", "write max_characters, max_tokens or both")
        if not self._tokens and (reader.has("encoding") or reader.has("encoding_file")):
            raise reader.fail(
                "encoding" if reader.has("encoding") else "encoding_file", "says nothing without max_tokens"
            )
        self._counter = TokenCounter.from_options(reader) if self._tokens else TokenCounter()
        if self._tokens:
            self.version = f"1+{self._counter.method}"

    def find_whole(self, segment: Segment) -> Sequence[Finding]:
        """At most one finding.

        A text of no more bytes than `max_tokens` costs nothing; others are tokenised up to there.
        """
        text = segment.text
        limit = len(text)
        if self._characters:
            limit = min(limit, self._characters)
        if self._tokens:
            # What is beyond the characters' limit is too much anyway, and need not be tokenised.
            at = self._counter.passes_at(text if limit == len(text) else text[:limit], self._tokens)
            limit = limit if at is None else at
        return (Finding(TOO_LONG, limit, len(text), 1.0),) if limit < len(text) else ()


SPEC = CheckSpec(
    name="length",
    summary="texts longer than the policy allows, in characters or tokens",
    labels=Length.labels,
    build=Length,
)
