"""A benchmark's result as a table for people and as JSON for programs. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from guardproxy.bench.stats import Measured, Round, Row, Spread, rows

_COLUMNS = ("", "direct", "proxy", "added", "ratio")


def table(rounds: Sequence[Round], *, stream: bool) -> str:
    """The median over rounds of every metric, with [smallest, largest]; then how the requests ended."""
    cells = [_COLUMNS, *(_cells(row) for row in rows(rounds, stream=stream))]
    widths = [max(len(line[index]) for line in cells) for index in range(len(_COLUMNS))]
    lines = ["  ".join([line[0].ljust(widths[0]), *(_fit(line, widths))]).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    ends = [ending(name, [getattr(each, name) for each in rounds]) for name in ("direct", "proxy")]
    return "\n".join([*lines, "", *ends])


def _fit(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]


def _cells(row: Row) -> tuple[str, ...]:
    added = "" if row.added is None else _shown(row.added, signed=True)
    return (f"{row.metric.name} {row.metric.unit}", _shown(row.direct), _shown(row.proxy), added, _shown(row.ratio))


def _shown(value: Spread, *, signed: bool = False) -> str:
    return f"{_number(value.middle, signed)} [{_number(value.low, signed)}, {_number(value.high, signed)}]"


def _number(value: float, signed: bool = False) -> str:
    if math.isnan(value):
        return "-"
    places = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:{'+' if signed else ''}.{places}f}"


def ending(name: str, halves: Sequence[Measured]) -> str:
    """How the requests to one target ended, over all rounds, in one line."""
    errors: Counter[str] = Counter()
    for half in halves:
        errors.update(half.errors)
    parts = [f"{sum(half.answered for half in halves)} answered"]
    if declined := sum(half.declined for half in halves):
        parts.append(f"{declined} of them declined by a content filter")
    parts += [f"{count} failed ({error})" for error, count in errors.most_common()]
    return f"{name}: {', '.join(parts)}"


def sound(rounds: Sequence[Round]) -> bool:
    """Whether the figures mean what they say: rounds there were, nothing failed, and nothing was declined."""
    halves = [half for each in rounds for half in (each.direct, each.proxy)]
    return bool(halves) and all(half.answered and not half.errors and not half.declined for half in halves)


def document(rounds: Sequence[Round], *, stream: bool, setting: dict[str, Any]) -> dict[str, Any]:
    """Everything, for --json: the setting, the rows, and each round's figures. What is not a number is null."""
    return {
        "setting": setting,
        "sound": sound(rounds),
        "rows": [
            {
                "metric": row.metric.name,
                "unit": row.metric.unit,
                **{name: _plain(getattr(row, name)) for name in ("direct", "proxy", "added", "ratio")},
            }
            for row in rows(rounds, stream=stream)
        ],
        "rounds": [{name: _half(getattr(each, name)) for name in ("direct", "proxy")} for each in rounds],
    }


def _plain(value: Spread | None) -> dict[str, float | None] | None:
    return None if value is None else {name: _known(getattr(value, name)) for name in ("middle", "low", "high")}


def _half(half: Measured) -> dict[str, Any]:
    figures = {name: _known(value) for name, value in half.figures.items()}
    return {"figures": figures, "answered": half.answered, "declined": half.declined, "errors": dict(half.errors)}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
