"""metrics: the same as scikit-learn's, the same by hand, and within their bounds whatever comes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.evaluation import metrics
from guardproxy.evaluation.metrics import Floats, Truth

sklearn_metrics = pytest.importorskip("sklearn.metrics")

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 20).map(lambda n: n / 20)), min_size=1, max_size=60)
SCORED = (metrics.precision, metrics.recall, metrics.fpr, metrics.f1, metrics.auprc, metrics.recall_at_fpr, metrics.ece)


def arrays(rows: list[tuple[bool, float]]) -> tuple[Truth, Floats]:
    return np.array([truth for truth, _ in rows], bool), np.array([score for _, score in rows])


def some(n: int = 400, seed: int = 0) -> tuple[Truth, Floats]:
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.3
    return truth, np.round(1 / (1 + np.exp(-(random.normal(0, 1.5, n) + 1.5 * truth - 1))), 2)


def test_by_hand() -> None:
    truth, scores = arrays([(True, 0.9), (False, 0.8), (True, 0.5), (True, 0.4), (False, 0.1), (False, 0.2)])
    assert metrics.precision(truth, scores) == pytest.approx(2 / 3)
    assert metrics.recall(truth, scores) == pytest.approx(2 / 3)
    assert metrics.fpr(truth, scores) == pytest.approx(1 / 3)
    assert metrics.f1(truth, scores) == pytest.approx(2 / 3)
    assert metrics.auprc(truth, scores) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert metrics.auc(truth, scores) == pytest.approx(7 / 9)


def test_a_score_at_the_threshold_is_flagged() -> None:
    assert metrics.recall(np.array([True]), np.array([0.5])) == 1
    assert metrics.recall(np.array([True]), np.array([0.5]), threshold=np.nextafter(0.5, 1)) == 0


def test_like_scikit_learn() -> None:
    truth, scores = some()
    weights = np.random.default_rng(1).random(len(truth))
    assert metrics.auprc(truth, scores) == pytest.approx(sklearn_metrics.average_precision_score(truth, scores))
    assert metrics.auprc(truth, scores, weights) == pytest.approx(
        sklearn_metrics.average_precision_score(truth, scores, sample_weight=weights)
    )
    assert metrics.auc(truth, scores, weights) == pytest.approx(
        sklearn_metrics.roc_auc_score(truth, scores, sample_weight=weights)
    )
    assert metrics.f1(truth, scores, weights) == pytest.approx(
        sklearn_metrics.f1_score(truth, scores >= 0.5, sample_weight=weights)
    )
    false, true, _ = sklearn_metrics.roc_curve(truth, scores, drop_intermediate=False)
    for rate in (0.01, 0.05, 0.2):
        assert metrics.recall_at_fpr(truth, scores, rate=rate) == pytest.approx(true[false <= rate + 1e-12].max())
    one, other = scores > 0.4, scores > 0.6
    assert metrics.kappa(one.tolist(), other.tolist()) == pytest.approx(sklearn_metrics.cohen_kappa_score(one, other))


def test_ece_by_hand() -> None:
    truth, scores = arrays([(True, 0.9), (True, 0.9), (False, 0.9), (False, 0.9), (False, 0.1), (False, 0.1)])
    # Four rows at .9 of which half are true, two at .1 of which none is.
    assert metrics.ece(truth, scores, bins=10, equal_mass=False) == pytest.approx((4 * 0.4 + 2 * 0.1) / 6)
    assert metrics.ece(truth, scores, bins=2) == pytest.approx((4 * 0.4 + 2 * 0.1) / 6)


def test_kappa() -> None:
    assert metrics.kappa("aabb", "aabb") == 1
    assert metrics.kappa("aabb", "abab") == 0
    assert metrics.kappa("ab", "ba") == -1
    assert np.isnan(metrics.kappa("", ""))
    assert np.isnan(metrics.kappa("aa", "aa"))


def test_what_cannot_be_computed_is_no_number() -> None:
    negatives, scores = np.zeros(5, bool), np.linspace(0, 0.4, 5)
    for metric in (metrics.precision, metrics.recall, metrics.f1, metrics.auprc, metrics.auc):
        assert np.isnan(metric(negatives, scores))
    assert np.isnan(metrics.fpr(~negatives, scores))
    estimate = metrics.interval(metrics.auprc, negatives, scores)
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    empty = np.array([])
    assert np.isnan(metrics.ece(empty.astype(bool), empty))
    assert np.isnan(metrics.interval(metrics.f1, empty.astype(bool), empty).value)


def test_recall_at_a_rate_that_the_rows_are_too_few_for_is_no_number() -> None:
    truth = np.array([True] * 5 + [False] * 99)
    assert np.isnan(metrics.recall_at_fpr(truth, np.linspace(1, 0, 104)))
    truth = np.append(truth, False)
    assert metrics.recall_at_fpr(truth, np.linspace(1, 0, 105)) == 1


@given(ROWS)
@settings(max_examples=80, deadline=None)
def test_bounds(rows: list[tuple[bool, float]]) -> None:
    truth, scores = arrays(rows)
    for metric in (*SCORED, metrics.auc):
        value = float(metric(truth, scores))
        assert np.isnan(value) or -1e-12 <= value <= 1 + 1e-12


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_means_nothing(rows: list[tuple[bool, float]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for metric in (*SCORED, metrics.auc):
        assert float(metric(*arrays(rows))) == pytest.approx(float(metric(*arrays(shuffled))), nan_ok=True)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_perfect_scores(rows: list[tuple[bool, float]]) -> None:
    truth = np.array([truth for truth, _ in rows], bool)
    scores = truth.astype(float)
    assert metrics.ece(truth, scores) == 0
    assert metrics.ece(truth, scores, equal_mass=False) == 0
    if truth.any():
        assert metrics.f1(truth, scores) == metrics.auprc(truth, scores) == metrics.recall(truth, scores) == 1
    if not truth.all():
        assert metrics.fpr(truth, scores) == 0


@given(ROWS, st.data())
@settings(max_examples=60, deadline=None)
def test_a_weight_is_a_number_of_rows(rows: list[tuple[bool, float]], data: st.DataObject) -> None:
    truth, scores = arrays(rows)
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    repeated = np.repeat(truth, times), np.repeat(scores, times)
    for metric in (metrics.precision, metrics.recall, metrics.fpr, metrics.f1, metrics.auprc, metrics.auc):
        weighted = metric(truth, scores, times[None].astype(float))
        assert weighted.shape == (1,)
        if times.any():
            assert weighted[0] == pytest.approx(float(metric(*repeated)), nan_ok=True)


def test_intervals_cover() -> None:
    """Of samples of a source whose recall is 0.8, about 95 % have it in their interval."""
    random = np.random.default_rng(5)
    covered = 0
    for seed in range(120):
        truth = np.ones(150, bool)
        scores = (random.random(150) < 0.8).astype(float)
        estimate = metrics.interval(metrics.recall, truth, scores, seed=seed, resamples=300)
        assert estimate.low <= estimate.value <= estimate.high
        covered += estimate.low <= 0.8 <= estimate.high
    assert 0.87 <= covered / 120 <= 1.0


def test_intervals_are_the_same_again_and_narrow_with_rows() -> None:
    truth, scores = some(2000)
    wide = metrics.interval(metrics.auprc, truth[:150], scores[:150], seed=3)
    assert wide == metrics.interval(metrics.auprc, truth[:150], scores[:150], seed=3)
    assert wide != metrics.interval(metrics.auprc, truth[:150], scores[:150], seed=4)
    narrow = metrics.interval(metrics.auprc, truth, scores, seed=3)
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2


def test_blocks_of_resamples_have_the_rows_that_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_BLOCK", 50)
    blocks = list(metrics.resampled(7, 20, 0))
    assert [len(block) for block in blocks] == [7, 7, 6]
    assert all((block.sum(axis=1) == 7).all() for block in blocks)


@pytest.mark.parametrize("rate", [0.01, 0.05])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_threshold_keeps_its_rate_on_average_over_fresh_draws(rate: float, weighted: bool) -> None:
    random = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        scores = random.normal(0, 1, 300)
        weights = np.ones(300) if not weighted else np.where(np.arange(300) < 150, 1.0, 1.5)
        threshold = float(metrics.threshold_at_fpr(scores, weights, rate))
        rates.append((random.normal(0, 1, 1000) >= threshold).mean())
    assert np.mean(rates) <= rate * 1.08
    assert np.mean(rates) >= rate * (0.6 if rate < 0.02 else 0.85)


def test_a_threshold_by_hand() -> None:
    negatives = np.arange(99) / 100  # with a further one, a hundred
    assert metrics.threshold_at_fpr(negatives, rate=0.01) == np.nextafter(0.98, 1)
    assert metrics.threshold_at_fpr(negatives, rate=0.03) == np.nextafter(0.96, 1)
    assert np.isinf(metrics.threshold_at_fpr(negatives, rate=0.005))
    assert np.isinf(metrics.threshold_at_fpr(np.array([]), rate=0.5))


def test_tied_negatives_are_flagged_together_or_not_at_all() -> None:
    negatives = np.array([0.9] * 5 + [0.1] * 195)
    assert metrics.threshold_at_fpr(negatives, rate=0.02) == np.nextafter(0.9, 1)
    assert metrics.threshold_at_fpr(negatives, rate=0.03) == np.nextafter(0.1, 1)


def test_thresholds_of_many_resamples_at_once() -> None:
    random = np.random.default_rng(2)
    negatives, weights = random.random(250), random.random((6, 250)) + 0.5
    together = metrics.threshold_at_fpr(negatives, weights, 0.02)
    assert together.tolist() == [float(metrics.threshold_at_fpr(negatives, w, 0.02)) for w in weights]


def test_no_warnings_where_there_is_nothing_to_divide_by() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in SCORED:
            metric(np.array([], bool), np.array([]), np.ones((3, 0)))


def test_reliability_bins() -> None:
    truth, scores = arrays([(True, 0.95), (False, 0.97), (False, 0.02), (True, 1.0)])
    bins = metrics.reliability(truth, scores, np.array([1.0, 1, 2, 1]))
    assert bins == [
        (pytest.approx(0.02), 0, 2),
        (pytest.approx((0.95 + 0.97 + 1.0) / 3), pytest.approx(2 / 3), 3),
    ]


def test_a_share_of_nothing_is_not_certain() -> None:
    none = metrics.interval(metrics.fpr, np.zeros(50, bool), np.zeros(50))
    assert (none.low, none.high) == (0, 0)
    widened = metrics.widened(none, 50)
    assert (widened.value, widened.low) == (0, 0)
    assert widened.high == pytest.approx(1 - 0.025 ** (1 / 50))
    every = metrics.widened(metrics.Estimate(1.0, 1.0, 1.0), 50)
    assert (every.low, every.high) == (pytest.approx(1 - widened.high), 1)
    some_of_it = metrics.Estimate(0.5, 0.4, 0.6)
    assert metrics.widened(some_of_it, 50) == some_of_it
