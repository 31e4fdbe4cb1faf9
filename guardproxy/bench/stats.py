"""The figures of a benchmark, from single requests to the spread over rounds. Pure.

Percentiles are taken within a round; direct and proxied are compared within the same round, and only then is the median
over the rounds taken, with the smallest and largest beside it. A failed request has no latency: it is counted, never
averaged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds from its planned start, so waiting for a slow predecessor counts."""

    latency: float  # to the last byte
    first: float = 0.0  # to the first token of a stream
    last: float = 0.0  # to its last event
    events: int = 0
    error: str = ""  # a word or two; "" if it was answered
    declined: bool = False  # answered, but with a refusal


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the report. `rate`: more is better, and only the ratio is compared."""

    name: str
    unit: str
    rate: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One target in one round: figures by metric name, and how the requests ended."""

    figures: Mapping[str, float]
    answered: int
    declined: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Round:
    """Both targets, one right after the other."""

    direct: Measured
    proxy: Measured


@dataclass(frozen=True, slots=True)
class Spread:
    """The median over rounds, and the extremes."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One metric over all rounds. `added` is None for rates."""

    metric: Metric
    direct: Spread
    proxy: Spread
    added: Spread | None
    ratio: Spread


_LATENCY = tuple(Metric(f"latency {name}", "ms") for name in ("p50", "p95", "p99"))
_FIRST = tuple(Metric(f"first token {name}", "ms") for name in ("p50", "p95", "p99"))
_PACE = Metric("events a stream", "1/s", rate=True)
_EVENTS = Metric("events in all", "1/s", rate=True)
_THROUGHPUT = Metric("requests", "1/s", rate=True)
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def metrics(stream: bool) -> tuple[Metric, ...]:
    """The rows of the report, in order."""
    return (*_FIRST, *_LATENCY, _PACE, _EVENTS, _THROUGHPUT) if stream else (*_LATENCY, _THROUGHPUT)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the ascending values lie; nan if there are none.

    Linear interpolation between order statistics: definition 7 of Hyndman and Fan, Sample Quantiles in Statistical
    Packages, The American Statistician 50 (1996).
    """
    if not ordered:
        return math.nan
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of the values that are numbers."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(percentile(ordered, 0.5), ordered[0], ordered[-1])


def measure(samples: Sequence[Sample], seconds: float, *, stream: bool) -> Measured:
    """The figures of one target in one round that took `seconds`. Times come out in milliseconds."""
    good = [sample for sample in samples if not sample.error]
    figures = _times("latency", [sample.latency for sample in good])
    figures[_THROUGHPUT.name] = len(good) / seconds if seconds > 0 else math.nan
    if stream:
        # A declined stream may have no token; its end says nothing of when one would have come.
        figures |= _times("first token", [sample.first for sample in good if sample.first > 0])
        paces = [
            (sample.events - 1) / (sample.last - sample.first) for sample in good if sample.last > sample.first > 0
        ]
        figures[_PACE.name] = percentile(sorted(paces), 0.5)
        figures[_EVENTS.name] = sum(sample.events for sample in good) / seconds if seconds > 0 else math.nan
    errors = Counter(sample.error for sample in samples if sample.error)
    return Measured(figures, len(good), sum(sample.declined for sample in good), dict(errors))


def _times(name: str, seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"{name} {label}": percentile(ordered, share) * 1000 for label, share in _QUANTILES.items()}


def rows(rounds: Sequence[Round], *, stream: bool) -> list[Row]:
    """Every metric over all rounds, differences and ratios taken round by round."""
    return [_row(metric, rounds) for metric in metrics(stream)]


def _row(metric: Metric, rounds: Sequence[Round]) -> Row:
    pairs = [(each.direct.figures[metric.name], each.proxy.figures[metric.name]) for each in rounds]

    def over(value: Callable[[float, float], float]) -> Spread:
        return spread([value(direct, proxy) for direct, proxy in pairs])

    return Row(
        metric,
        over(lambda direct, _: direct),
        over(lambda _, proxy: proxy),
        None if metric.rate else over(lambda direct, proxy: proxy - direct),
        over(lambda direct, proxy: proxy / direct if direct else math.nan),
    )
