"""fitting: a known curve is found again, and a threshold keeps its promise."""

from __future__ import annotations

import numpy as np
import pytest

from guardproxy.backends.onnx.calibration import Curve
from guardproxy.evaluation import fitting
from guardproxy.evaluation.metrics import Floats, Truth, ece


def drawn(scale: float, shift: float, rows: int, seed: int = 0) -> tuple[Floats, Truth]:
    """Logits, and truth that comes with the probability sigmoid(scale * logit + shift)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, rows)
    return logits, random.random(rows) < Curve(scale, shift)(logits)


@pytest.mark.parametrize(("scale", "shift"), [(0.4, -1.0), (1.7, 0.8), (1.0, 0.0)])
def test_platt_finds_a_known_curve(scale: float, shift: float) -> None:
    logits, truth = drawn(scale, shift, 20_000)
    curve = fitting.curve_of(logits, truth, np.ones(20_000), fitting.PLATT)
    assert curve.scale == pytest.approx(scale, rel=0.06, abs=0.03)
    assert curve.shift == pytest.approx(shift, abs=0.08)
    assert curve.prior == pytest.approx(truth.mean())


def test_temperature_finds_a_known_scale_and_has_no_shift() -> None:
    logits, truth = drawn(0.5, 0.0, 20_000)
    curve = fitting.curve_of(logits, truth, np.ones(20_000), fitting.TEMPERATURE)
    assert curve.scale == pytest.approx(0.5, rel=0.05)
    assert curve.shift == 0


def test_like_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    logits, truth = drawn(0.7, -0.5, 3000)
    weights = np.random.default_rng(1).random(3000)
    model = linear.LogisticRegression(C=np.inf, tol=1e-9).fit(logits[:, None], truth, weights)
    curve = fitting.curve_of(logits, truth, weights, fitting.PLATT)
    assert (curve.scale, curve.shift) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), abs=5e-3)


def test_the_better_method_is_chosen_and_the_error_falls_on_other_rows() -> None:
    logits, truth = drawn(0.4, -1.5, 3000)
    made = fitting.fit(logits, truth, np.ones(3000))
    assert made.method == fitting.PLATT
    assert made.loss < fitting.fit(logits, truth, np.ones(3000), fitting.TEMPERATURE).loss
    fresh, true = drawn(0.4, -1.5, 6000, seed=9)
    assert ece(true, Curve()(fresh)) > 0.15
    assert ece(true, made.curve(fresh)) < 0.03
    assert ece(truth, made.crossed) < 0.04


def test_cross_fitted_probabilities_do_not_know_their_row() -> None:
    """A label that is pure chance: what saw the rows looks better than chance, what did not looks no better."""
    random = np.random.default_rng(3)
    crossed, seen, chance = [], [], []
    for _ in range(30):
        logits, truth = random.normal(0, 1, 60), random.random(60) < 0.5
        made = fitting.fit(logits, truth, np.ones(60), fitting.PLATT)
        p = made.curve(logits)
        seen.append(-np.log(np.where(truth, p, 1 - p)).mean())
        crossed.append(made.loss)
        share = truth.mean()
        chance.append(-share * np.log(share) - (1 - share) * np.log(1 - share))
    assert np.mean(seen) < np.mean(chance) < np.mean(crossed)


def test_classes_that_part_cleanly_have_a_finite_curve() -> None:
    logits = np.concatenate((np.linspace(2, 4, 40), np.linspace(-4, -2, 40)))
    for method in fitting.METHODS:
        curve = fitting.curve_of(logits, logits > 0, np.ones(80), method)
        assert np.isfinite([curve.scale, curve.shift]).all()
        assert curve(np.array([3.0]))[0] > 0.9


def test_a_model_that_is_wrong_still_has_a_rising_curve() -> None:
    logits, truth = drawn(-1.0, 0.0, 2000)
    for method in fitting.METHODS:
        assert fitting.curve_of(logits, truth, np.ones(2000), method).scale > 0


def test_points_keep_their_rate_on_fresh_draws() -> None:
    rates: dict[str, list[float]] = {}
    for seed in range(40):
        logits, truth = drawn(1.0, -2.0, 1500, seed)
        found = fitting.points(Curve()(logits), truth, np.ones(1500), resamples=20)
        fresh, true = drawn(1.0, -2.0, 4000, seed + 1000)
        for name, point in found.items():
            rates.setdefault(name, []).append(float((Curve()(fresh[~true]) >= point.threshold).mean()))
    assert set(rates) == set(fitting.RATES)
    for name, rate in fitting.RATES.items():
        assert rate * 0.7 <= np.mean(rates[name]) <= rate * 1.1


def test_points_have_intervals_and_recall_grows_with_the_rate() -> None:
    logits, truth = drawn(1.0, -2.0, 2500)
    found = fitting.points(Curve()(logits), truth, np.ones(2500))
    recalls = [found[name].recall for name in fitting.RATES]
    assert recalls == sorted(recalls)
    for point in found.values():
        assert point.recall_low <= point.recall <= point.recall_high
        assert point.recall_high - point.recall_low > 0.02
        assert point.recall == pytest.approx((Curve()(logits[truth]) >= point.threshold).mean())


def test_a_rate_that_negatives_are_too_few_for_has_no_point() -> None:
    random = np.random.default_rng(0)
    truth = np.array([True] * 50 + [False] * 120)
    found = fitting.points(random.random(170), truth, np.ones(170), resamples=10)
    assert list(found) == ["1%", "2%", "5%"]


def test_a_threshold_is_still_above_when_it_was_written_down() -> None:
    negatives = np.linspace(1e-9, 1e-5, 400)
    least = fitting.threshold(negatives, np.ones(400), 0.01)
    assert (negatives >= float(f"{least:.9g}")).sum() == 3
    assert fitting.threshold(np.ones(300), np.ones(300), 0.01) == 1.0


def test_shifted_weights_have_the_prior_and_keep_the_classes_apart() -> None:
    truth = np.array([True] * 30 + [False] * 70)
    weights = fitting.shifted(np.ones(100), truth, 0.01)
    assert weights[truth].sum() / weights.sum() == pytest.approx(0.01)
    assert len(set(weights[truth])) == len(set(weights[~truth])) == 1
