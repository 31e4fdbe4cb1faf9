"""Figures on inputs whose answers can be worked out by hand."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.bench.report import document, sound, table
from guardproxy.bench.stats import Measured, Round, Sample, Spread, measure, metrics, percentile, rows, spread

NUMBERS = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.5),
        ([1.0, 2.0, 3.0, 4.0], 0.0, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 1.0, 4.0),
        ([0.0, 10.0], 0.95, 9.5),
        (list(range(101)), 0.99, 99.0),
    ],
)
def test_percentile(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == pytest.approx(expected)


def test_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


@given(NUMBERS)
def test_percentiles_agree_with_the_standard_library_and_rise(values: list[float]) -> None:
    ordered = sorted(values)
    assert percentile(ordered, 0.5) == pytest.approx(statistics.median(ordered))
    shares = [percentile(ordered, share / 20) for share in range(21)]
    assert all(low <= high or low == pytest.approx(high) for low, high in pairwise(shares))


def test_spread_passes_over_what_is_no_number() -> None:
    assert spread([3.0, math.nan, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert math.isnan(spread([math.nan]).middle)


def test_failures_have_no_latency_but_are_counted() -> None:
    samples = [Sample(0.010), Sample(0.030, declined=True), Sample(30.0, error="timeout"), Sample(9.0, error="timeout")]
    got = measure(samples, 2.0, stream=False)
    assert (got.answered, got.declined, got.errors) == (2, 1, {"timeout": 2})
    assert got.figures["latency p50"] == pytest.approx(20.0)
    assert got.figures["requests"] == pytest.approx(1.0)
    assert set(got.figures) == {metric.name for metric in metrics(False)}


def test_streams() -> None:
    samples = [
        Sample(0.5, first=0.1, last=0.5, events=5),
        Sample(0.7, first=0.3, last=0.7, events=9),
        Sample(0.2, first=0.0, last=0.2, events=1, declined=True),
    ]
    got = measure(samples, 3.0, stream=True)
    assert got.figures["first token p50"] == pytest.approx(200.0)
    assert got.figures["events a stream"] == pytest.approx(15.0)  # 4 in 0.4 s and 8 in 0.4 s
    assert got.figures["events in all"] == pytest.approx(5.0)
    assert set(got.figures) == {metric.name for metric in metrics(True)}


def _round(direct: float, proxy: float, **ends: object) -> Round:
    return Round(*(Measured({m.name: value for m in metrics(False)}, 4, **ends) for value in (direct, proxy)))  # type: ignore[arg-type]


def test_differences_are_taken_within_a_round_before_the_median() -> None:
    # Were the medians compared, a machine that got slower meanwhile would look like the proxy's doing: 3 - 2 = 1.
    latency, *_, requests = rows([_round(1, 3), _round(2, 4), _round(10, 12)], stream=False)
    assert latency.added == Spread(2, 2, 2)
    assert latency.ratio == Spread(2.0, 1.2, 3.0)
    assert latency.direct == Spread(2, 1, 10)
    assert requests.added is None


def test_the_table() -> None:
    text = table([_round(1, 3), _round(2, 1504)], stream=False)
    lines = text.splitlines()
    assert lines[0].split() == ["direct", "proxy", "added", "ratio"]
    assert lines[2].split("  ")[0] == "latency p50 ms"
    assert "1.50 [1.00, 2.00]" in lines[2]
    assert "+752.0 [+2.00, +1502]" in lines[2]
    assert lines[-2:] == ["direct: 8 answered", "proxy: 8 answered"]


def test_figures_are_sound_only_if_both_sides_answered_everything() -> None:
    assert sound([_round(1, 1)])
    assert not sound([])
    assert not sound([_round(1, 1, declined=1)])
    failed = _round(1, 1, errors={"HTTP 500": 2})
    assert not sound([_round(1, 1), failed])
    assert "2 failed (HTTP 500)" in table([failed], stream=False)


def test_the_document_has_null_for_what_is_no_number() -> None:
    got = document([_round(math.nan, 1)], stream=False, setting={})
    assert got["rows"][0]["direct"] == {"middle": None, "low": None, "high": None}
    assert got["rows"][0]["proxy"]["middle"] == 1
    assert got["rounds"][0]["direct"]["figures"]["requests"] is None
    assert got["sound"] is True
