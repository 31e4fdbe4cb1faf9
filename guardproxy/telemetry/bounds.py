"""Keeps what outsiders choose from growing the telemetry: values are short, of a plain shape, and few.

A value that does not look like a name is replaced as a whole rather than cleaned, so that text which strays into a name
(a prompt in the model field) leaves nothing of itself behind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from guardproxy.telemetry.names import OTHER

# Fixed repetitions of one class: linear. No white space, so a sentence is never a name.
_NAME = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9._:/@+{}*-]*")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_REASON = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:,()%/+-]*")


def name(value: str, limit: int = 64) -> str:
    """`value` cut to `limit` characters if it is shaped like an identifier, else OTHER."""
    value = value[:limit]
    return value if _NAME.fullmatch(value) else OTHER


def label(value: str) -> str:
    """`value` if it is shaped like a finding's label, else OTHER."""
    return value if len(value) <= 64 and _LABEL.fullmatch(value) else OTHER


def reason(value: str) -> str:
    """`value` cut to 80 characters if it is plain words, else OTHER."""
    value = value[:80]
    return value if _REASON.fullmatch(value) else OTHER


def probability(value: float) -> float | None:
    """`value` if it is a number in [0, 1], else None."""
    return float(value) if math.isfinite(value) and 0.0 <= value <= 1.0 else None


class Vocabulary:
    """The values known from the start and the first `limit` well-formed ones after them; all others are OTHER."""

    __slots__ = ("_limit", "_seen", "_shape")

    def __init__(self, limit: int, known: Iterable[str] = (), *, words: bool = False) -> None:
        self._seen = set(known)
        self._limit = limit + len(self._seen)
        self._shape = reason if words else name

    def admit(self, value: str) -> str:
        """`value`, remembered, while there is room; else OTHER."""
        if value in self._seen:
            return value
        if len(self._seen) < self._limit and self._shape(value) == value:
            self._seen.add(value)
            return value
        return OTHER

    def known(self, value: str) -> str:
        """`value` if it has been admitted before, else OTHER."""
        return value if value in self._seen else OTHER
