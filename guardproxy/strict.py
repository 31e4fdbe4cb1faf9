"""Reads what people write: every key is known, every value has its type, and every complaint names its place.

Nothing is guessed and nothing is skipped: an author who misspells a key must not believe that it holds. Complaints are
collected, so that one look at a file finds all of its mistakes; they repeat keys and short words, never free text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")
D = TypeVar("D")
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", re.ASCII)
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
BYTES = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9,
    "k": 2**10, "kib": 2**10, "m": 2**20, "mib": 2**20, "g": 2**30, "gib": 2**30,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placed:
    """A value and where it was written. Lists hold Placed, mappings hold Placed by key.

    `raw` is a scalar as it was typed, so that `version: 1.10` is not read as 1.1. `key_place` is where the key stands
    that leads here.
    """

    value: Any = field(repr=False)
    place: str
    raw: str = field(default="", repr=False)
    key_place: str = ""

    def plain(self) -> Any:
        """The value without the places."""
        if isinstance(self.value, dict):
            return {key: member.plain() for key, member in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def kind(self) -> str:
        """What the value is, in a few words; never the value."""
        return _kind(self.value)


@dataclass(slots=True)
class Problems:
    """Complaints, in the order in which they were made until sort() is called."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, place: str, message: str) -> None:
        """Notes that `message` is wrong at `place`."""
        self.found.append((place, message))

    def sort(self) -> None:
        """Brings complaints about "file:line:column" into the order in which a reader meets them."""
        self.found.sort(key=lambda each: [int(part) for part in each[0].split(":")[-2:] if part.isdecimal()])

    def __bool__(self) -> bool:
        return bool(self.found)

    def __iter__(self) -> Iterator[str]:
        """The complaints as "place: message", one line each."""
        return (f"{place}: {message}" if place else message for place, message in self.found)


class Unfit(ValueError):
    """A value that a converter cannot take, with one or more complaints; an empty place means the value's own."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.complaints = [(place, message)]


Convert = Callable[[Placed], T]
"""Makes a value of what was written, or raises Unfit."""


class Reader:
    """Takes one mapping apart. What has not been taken when finish() is called is an unknown key."""

    __slots__ = ("_known", "_left", "problems", "what", "whole")

    def __init__(self, node: Placed, problems: Problems, what: str) -> None:
        """`what` is what the mapping is called in complaints, e.g. "a rule"."""
        self.whole, self.problems, self.what = node, problems, what
        self._known: list[str] = []
        self._left: dict[str, Placed] = {}
        if isinstance(node.value, dict):
            self._left = dict(node.value)
        else:
            problems.add(node.place, f"expected {what} with its keys, not {node.kind()}")

    def has(self, key: str) -> bool:
        """Whether the key is written and has not been taken."""
        return key in self._left

    def place(self, key: str) -> str:
        """Where `key` is written, else where the mapping is."""
        members = self.whole.value if isinstance(self.whole.value, dict) else {}
        return (members[key].key_place or members[key].place) if key in members else self.whole.place

    def node(self, key: str) -> Placed | None:
        """What is written at `key`, unread; None if nothing is."""
        self._known.append(key)
        return self._left.pop(key, None)

    def take(self, key: str, convert: Callable[[Placed], T], default: D, *, required: bool = False) -> T | D:
        """The converted value, or `default` where the key is missing or its value is wrong."""
        node = self.node(key)
        if node is None:
            if required and isinstance(self.whole.value, dict):
                self.problems.add(self.whole.place, f"{self.what} needs `{key}`")
            return default
        try:
            return convert(node)
        except Unfit as error:
            for place, message in error.complaints:
                self.problems.add(place or node.place, f"`{key}`: {message}")
            return default

    def rest(self) -> dict[str, Placed]:
        """All that has not been taken, which is thereby taken."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """Complains of every key that nobody took."""
        for key, node in self.rest().items():
            hint = suggest(key, self._known) or (f"; known here: {', '.join(self._known)}" if self._known else "")
            self.problems.add(node.key_place or node.place, f"unknown key `{clip(key)}` in {self.what}{hint}")


def suggest(word: str, known: Collection[str]) -> str:
    """A did-you-mean to end a complaint with, or "" where nothing known is near."""
    folded = {_folded(choice): choice for choice in known}
    short = _folded(word[:64])
    longer = [each for each in folded if len(short) > 2 and short in each]
    begun = sorted((each for each in longer if each.startswith(short)), key=len)
    near = begun or get_close_matches(short, folded, n=1) or longer
    return f"; did you mean `{folded[near[0]]}`?" if near else ""


def text(node: Placed) -> str:
    """Any scalar as it was typed: `version: 1.10` is "1.10"."""
    if node.value is None or isinstance(node.value, dict | list):
        raise Unfit(f"expected text, not {node.kind()}")
    return node.value if isinstance(node.value, str) else node.raw


def flag(node: Placed) -> bool:
    """True or false; the words yes, no, on and off as well."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(node.value, bool):
        return node.value
    word = text(node).strip().lower()
    if word not in words:
        raise Unfit("expected true or false")
    return words[word]


def number(low: float, high: float, words: str = "") -> Convert[float]:
    """A converter for numbers from `low` to `high`."""
    wanted = words or f"a number from {low:g} to {high:g}"

    def convert(node: Placed) -> float:
        try:
            value = float(text(node))
        except ValueError:
            raise Unfit(f"expected {wanted}") from None
        if isinstance(node.value, bool) or not low <= value <= high:
            raise Unfit(f"expected {wanted}")
        return value

    return convert


def whole(low: int, high: int) -> Convert[int]:
    """A converter for whole numbers from `low` to `high`."""

    def convert(node: Placed) -> int:
        typed = text(node).strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", typed, re.ASCII) or not low <= int(typed) <= high:
            raise Unfit(f"expected a whole number from {low} to {high}")
        return int(typed)

    return convert


def duration(node: Placed) -> float:
    """Seconds, from "250ms", "2s", "5m" or "1h"; a bare number is not clear enough."""
    value = _amount(text(node), SECONDS)
    if value is None or not 0 < value <= 86_400:
        raise Unfit("expected a duration such as 250ms, 2s or 5m, at most 24h")
    return value


def size(node: Placed) -> int:
    """Bytes, from "32MiB", "10MB", "512k" or a bare number. 1 k is 1024, 1 kB is 1000."""
    value = _amount(text(node), BYTES)
    if value is None or not 1 <= value <= 2**40 or value != int(value):
        raise Unfit("expected a size such as 32MiB, 512KiB or a number of bytes")
    return int(value)


def one_of(choices: Collection[str]) -> Convert[str]:
    """A converter for one of a few words."""

    def convert(node: Placed) -> str:
        if node.value is None or isinstance(node.value, dict | list):
            raise Unfit(f"expected one of {', '.join(choices)}, not {node.kind()}")
        word = text(node)
        if word not in choices:
            raise Unfit(f"expected one of {', '.join(choices)}, not `{clip(word)}`{suggest(word, choices)}")
        return word

    return convert


def several(convert: Convert[T]) -> Convert[tuple[T, ...]]:
    """A converter for a list of what `convert` takes; one alone need not be a list. All bad items are complained of."""

    def convert_all(node: Placed) -> tuple[T, ...]:
        items = node.value if isinstance(node.value, list) else [node]
        taken: list[T] = []
        complaints: list[tuple[str, str]] = []
        for item in items:
            try:
                taken.append(convert(item))
            except Unfit as error:
                complaints += [(place or item.place, message) for place, message in error.complaints]
        if not items:
            complaints.append(("", "the list is empty"))
        if complaints:
            unfit = Unfit(complaints[0][1])
            unfit.complaints = complaints
            raise unfit
        return tuple(taken)

    return convert_all


def clip(word: str) -> str:
    """A word fit for one line of a message: short, and printable."""
    shown = "".join(character if character.isprintable() else "?" for character in word[:40])
    return shown + ("..." if len(word) > 40 else "")


def _amount(typed: str, units: dict[str, Any]) -> float | None:
    match = _AMOUNT.fullmatch(typed.strip())
    if match is None or match[2].lower() not in units:
        return None
    value = float(match[1]) * units[match[2].lower()]
    return value if math.isfinite(value) else None


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    kinds = ((bool, "true or false"), (int | float, "a number"), (str, "text"), (list, "a list"))
    return next((word for kind, word in kinds if isinstance(value, kind)), "keys and values")
