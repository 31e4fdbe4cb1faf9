"""What the tests of the checks that look for forms share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guardproxy.checks.base import Check
from guardproxy.reading import Reading
from guardproxy.types import Scope, Segment, Window

SHARED = Path(__file__).parents[3] / "shared" / "data"


def reading(text: str) -> Reading:
    """A whole text as one window."""
    segment = Segment("messages.0.content", ("messages", 0, "content"), "user", Scope.PROMPT, text)
    return Reading(Window(segment, 0, 0, len(text), len(text), text))


def found(check: Check, text: str, least: float = 0.5) -> list[tuple[str, str]]:
    """Label and original text of the findings that score at least `least`."""
    return [(f.label, text[f.start : f.end]) for f in check.find(reading(text)) if f.score >= least]


def rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a labelled data set; skips the test where it is missing."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"labelled data missing: {name}")
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def growth(work: Callable[[str], object], text: str) -> float:
    """How many times longer `work` takes on twice the text: 2 if linear, 4 if quadratic.

    The least of a few tries, for a busy machine makes either side slow, and only a slow first side looks too good.
    """
    ratios: list[float] = []
    for _ in range(5):
        once, twice = _time(work, text), _time(work, text + text)
        ratios.append(twice / max(once, 0.003))
        if ratios[-1] < 2.6:
            break
    return min(ratios)


def _time(work: Callable[[str], object], text: str) -> float:
    times = []
    for _ in range(2):
        begin = time.process_time()
        work(text)
        times.append(time.process_time() - begin)
    return min(times)
