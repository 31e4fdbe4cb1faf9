"""Telephone numbers: a shape that is cheap to see, then the numbering plans of `phonenumbers`.

A plus sign or 00 makes a number international and is evidence by itself. National numbers need a way of writing that
is customary for telephone numbers, or a word that says so: every seven-digit order number is some country's telephone
number. Dates are written like national numbers and are not taken for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

import phonenumbers

from guardproxy.checks.pii.runs import Group, embedded
from guardproxy.checks.pii.scan import Scan
from guardproxy.types import Finding

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "BE", "CH", "AT", "PL", "AU", "IN", "BR")
"""The regions whose national numbers are looked for by default, in this order."""

_LONGEST = 15  # digits (E.164)
_SHORTEST = 7
_WIDEST = 7  # groups
_TRIES = 6  # stretches of one run that are tried as one international number
_NORTH_AMERICAN = re.compile(r"(?:1[-. (]{1,2})?3[-. )]3[-. ]4")
_DATE = re.compile(r"4[-./ ][12][-./ ][12](?: .*)?|[12][-./ ][12][-./ ](?:4|2)")
_DECIMAL = re.compile(r"\d\.\d+")
_AREA_IN_PARENTHESES = re.compile(r"[1-5]\)[2-8].*")


def _form(groups: Sequence[Group]) -> str:
    parts = [str(groups[0].end - groups[0].start)]
    parts += [f"{group.gap[-1] if group.gap != ')-' else ')'}{group.end - group.start}" for group in groups[1:]]
    return "".join(parts)


def _count(groups: Sequence[Group]) -> int:
    return sum(group.end - group.start for group in groups)


def _valid(number: str, region: str | None) -> bool | None:
    """Whether the numbering plan has the number; None if it could not even be one."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_valid_number(parsed):
        return True
    return False if phonenumbers.is_possible_number(parsed) else None


def phones(scan: Scan, groups: Sequence[Group]) -> Iterator[Finding]:
    """The telephone numbers in a run of digits, each group used at most once."""
    first = 0
    while first < len(groups):
        used = 0
        if groups[first].gap not in ("-", ".", "/"):
            international = _international(scan, groups, first)
            found, used = international or _national(scan, groups, first)
            if found:
                yield found
        first += max(used, 1)


Answer = tuple[Finding | None, int]


def _international(scan: Scan, groups: Sequence[Group], first: int) -> Answer | None:
    """The finding and how many groups it takes, or None if nothing marks an international number here."""
    text, start = scan.text, groups[first].start
    plus = text[start - 1 : start] == "+" and not text[max(0, start - 2) : start - 1].isalnum()
    zeros = text.startswith("00", start) and text[start + 2 : start + 3] not in ("0", "")
    if not plus and not zeros:
        return None
    possible: Answer | None = None
    begin = start - 1 if plus else start
    for last in range(min(first + _WIDEST, len(groups)), first, -1)[:_TRIES]:
        stretch = groups[first:last]
        if not _SHORTEST <= _count(stretch) <= _LONGEST + 2 * zeros:
            continue
        end = stretch[-1].end
        if not scan.afford():
            return Finding("PHONE_NUMBER", begin, end, 0.5), last - first
        number = re.sub(r"\D", "", text[start:end].replace("(0)", ""))
        answer = _valid("+" + (number[2:] if zeros else number), None)
        if answer:
            near = "PHONE_NUMBER" in scan.near(begin, end)
            return Finding("PHONE_NUMBER", begin, end, 0.97 if near else 0.9 if plus else 0.7), last - first
        if answer is False and possible is None:
            possible = Finding("PHONE_NUMBER", begin, end, 0.65 if plus else 0.4), last - first
    return possible if plus or possible else None


def _national(scan: Scan, groups: Sequence[Group], first: int) -> Answer:
    sizes = accumulate(group.end - group.start for group in groups[first : first + _WIDEST])
    lengths = [first + number for number, size in enumerate(sizes, 1) if _SHORTEST <= size <= 12]
    for last in reversed(lengths):
        stretch = groups[first:last]
        if last < len(groups) and groups[last].gap in ("-", ".", "/"):
            continue
        score = _worth(scan, stretch)
        if not score:
            continue
        start, end = stretch[0].start, stretch[-1].end
        if scan.text[start - 1 : start] == "(" and ")" in scan.text[start:end]:
            start -= 1
        if not scan.afford():
            return Finding("PHONE_NUMBER", start, end, 0.5), last - first
        if any(_valid(scan.text[start:end], region) for region in scan.regions):
            return Finding("PHONE_NUMBER", start, end, score), last - first
    return None, 1


def _worth(scan: Scan, stretch: Sequence[Group]) -> float:
    """What a valid national number written like this would score; 0 if it is not written like one."""
    text, start, end = scan.text, stretch[0].start, stretch[-1].end
    form = _form(stretch)
    if _DATE.fullmatch(form) or _DECIMAL.fullmatch(form) or embedded(text, start, end):
        return 0.0
    if "PHONE_NUMBER" in scan.near(start, end):
        return 0.88
    if text[start - 1 : start] in ("/", "=", "#", ":") or text[end : end + 1] in ("/", "="):
        return 0.0
    if _NORTH_AMERICAN.fullmatch(form):
        return 0.7
    if _AREA_IN_PARENTHESES.match(form) and text[start - 1 : start] == "(":
        return 0.7
    written = form.partition(" ")[0] != "1" and text[start] == "0" and len(stretch) > 1 and 9 <= _count(stretch) <= 12
    return 0.6 if written else 0.0
