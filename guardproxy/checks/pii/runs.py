"""A run of digits, cut into its groups."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GROUP = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Group:
    """One group of digits, and what stands between it and the group before: "" for the first."""

    start: int
    end: int
    gap: str


def groups_of(text: str, start: int, end: int) -> list[Group]:
    """The groups of digits in a run."""
    groups: list[Group] = []
    for match in _GROUP.finditer(text, start, end):
        gap = text[groups[-1].end : match.start()].strip() or " " if groups else ""
        groups.append(Group(match.start(), match.end(), gap))
    return groups


def embedded(text: str, start: int, end: int) -> bool:
    """Whether the digits are a part of something longer: an identifier, a hash, an amount, a decimal fraction."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before[-1:] in ("$", "€", "£", "¥"):
        return True
    if before[-1:] in ("-", "_", ".", "+") and len(before) == 2 and before[0].isalnum():
        return True
    return len(after) == 2 and after[0] in "-_.%" and after[1].isalnum()
