"""Pseudonyms of one request, and what they stand for. Lives and dies with its exchange; nothing of it is ever shared.

A pseudonym carries the vault's nonce, so that text from elsewhere (a document, a tool) cannot name one by guessing
and have it replaced by the caller's data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

_WORD = re.compile(r"[A-Z0-9_]*\Z")
_REACH = 80  # no pseudonym is longer


class Vault:
    """The pseudonyms given out in one exchange. `nonce`: some random letters and digits, fresh for every exchange.

    Without a nonce nothing can be restored, as where there is no answer to do it in (embeddings): then names do not
    differ from one exchange to the next, so that the same text stays the same text.
    """

    __slots__ = ("_counts", "_mark", "_names", "_values")

    def __init__(self, nonce: str) -> None:
        self._mark = f"_{nonce}" if nonce else ""
        self._counts: Counter[str] = Counter()
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def pseudonym(self, label: str, value: str) -> str:
        """The name that stands for `value` in this exchange, e.g. [EMAIL_ADDRESS_1_k3f9]; the same for the same
        value.
        """
        name = self._names.get((label, value))
        if name is None:
            self._counts[label] += 1
            name = f"{label.upper()[:40]}_{self._counts[label]}{self._mark}"
            self._names[label, value] = name
            if self._mark:
                self._values[name] = value
        return f"[{name}]"

    def occurrences(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where pseudonyms stand in `text`, with the value behind each. Models drop the brackets at times; that is
        read too.
        """
        if not self._values:
            return
        position = text.find(self._mark)
        while position >= 0:
            end = position + len(self._mark)
            head = _WORD.search(text, max(position - _REACH, 0), position)
            start = head.start() if head else position
            value = self._values.get(text[start:end])
            if value is not None:
                bracketed = start > 0 and text[start - 1] == "[" and text[end : end + 1] == "]"
                yield start - bracketed, end + bracketed, value
            position = text.find(self._mark, end)
