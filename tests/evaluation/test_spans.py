"""spans: what counts as found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.evaluation import spans
from guardproxy.evaluation.datasets import IGNORED, Span

ROW = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 9), st.integers(1, 4)), max_size=5).map(
    lambda made: [Span(label, 10 * place, 10 * place + size) for place, (label, _, size) in enumerate(made)]
)


def total(marked: list[Span], found: list[Span], *, strict: bool) -> list[float]:
    return spans.counts([(marked, found)], ["A", "B"], strict=strict).sum(axis=(0, 1)).tolist()


def test_strict_wants_all_and_relaxed_a_character() -> None:
    marked = [Span("A", 0, 10)]
    assert total(marked, [Span("A", 0, 10)], strict=True) == [1, 1, 1]
    assert total(marked, [Span("A", 0, 9)], strict=True) == [0, 1, 1]
    assert total(marked, [Span("A", 9, 20)], strict=False) == [1, 1, 1]
    assert total(marked, [Span("A", 10, 20)], strict=False) == [0, 1, 1]
    assert total(marked, [Span("B", 0, 10)], strict=False) == [0, 1, 1]


def test_two_halves_are_one_hit_and_one_false_find() -> None:
    assert total([Span("A", 0, 10)], [Span("A", 0, 4), Span("A", 5, 10)], strict=False) == [1, 2, 1]
    assert total([Span("A", 0, 4), Span("A", 5, 10)], [Span("A", 0, 10)], strict=False) == [1, 1, 2]


def test_as_many_pairs_as_can_be() -> None:
    marked = [Span("A", 0, 3), Span("A", 4, 9)]
    assert total(marked, [Span("A", 2, 5), Span("A", 0, 2)], strict=False) == [2, 2, 2]
    assert total(marked, [Span("A", 2, 5), Span("A", 6, 9)], strict=False) == [2, 2, 2]


def test_what_is_of_an_unknown_kind_counts_neither_way() -> None:
    marked = [Span(IGNORED, 0, 10), Span("A", 20, 25)]
    assert total(marked, [Span("A", 2, 5), Span("A", 20, 25)], strict=True) == [1, 1, 1]
    assert total(marked, [Span("B", 12, 15)], strict=True) == [0, 1, 1]


def test_labels_that_are_not_asked_for_count_neither_way() -> None:
    table = spans.counts([([Span("C", 0, 3), Span("A", 5, 7)], [Span("C", 0, 3), Span("C", 5, 7)])], ["A"], strict=True)
    assert table.tolist() == [[[0, 0, 1]]]


@given(st.lists(st.tuples(ROW, ROW), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_bounds(rows: list[tuple[list[Span], list[Span]]]) -> None:
    strict = spans.counts(rows, ["A", "B"], strict=True)
    relaxed = spans.counts(rows, ["A", "B"], strict=False)
    assert (strict[..., 0] <= relaxed[..., 0]).all()
    assert (strict[..., 1:] == relaxed[..., 1:]).all()
    assert (relaxed[..., 0] <= np.minimum(relaxed[..., 1], relaxed[..., 2])).all()
    value = spans.f1(relaxed.sum(axis=(0, 1)))
    assert np.isnan(value) or 0 <= value <= 1


@given(st.lists(ROW, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_what_is_marked_is_perfect(rows: list[list[Span]]) -> None:
    table = spans.counts([(row, row) for row in rows], ["A", "B"], strict=True)
    value = spans.f1(table.sum(axis=(0, 1)))
    assert value == 1 if any(rows) else np.isnan(value)


def test_f1_and_its_interval() -> None:
    table = np.array([[1, 1, 2]] * 60 + [[0, 1, 0]] * 20, dtype=float)
    estimate = spans.f1_interval(table, seed=1)
    assert estimate.value == pytest.approx(2 * 60 / (80 + 120))
    assert 0.5 < estimate.low < estimate.value < estimate.high < 0.7
    assert spans.precision_recall(table.sum(axis=0)) == (0.75, 0.5)
    assert np.isnan(spans.f1_interval(np.zeros((4, 3))).value)
