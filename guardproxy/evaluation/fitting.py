"""Curves from logits to probabilities, and thresholds for false-positive rates, from rows held apart. Pure.

A curve is a sigmoid of the scaled logit, with a shift (Platt 1999) or without (temperature scaling: Guo et al. 2017);
which, cross-validated log loss decides. Probabilities that are judged come from folds that did not see the row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from guardproxy.backends.onnx.calibration import Curve, OperatingPoint
from guardproxy.evaluation.metrics import RESAMPLES, Floats, Truth, percentiles, resampled, threshold_at_fpr

PLATT, TEMPERATURE = "platt", "temperature"
METHODS = (PLATT, TEMPERATURE)
RATES: Mapping[str, float] = {"0.5%": 0.005, "1%": 0.01, "2%": 0.02, "5%": 0.05}
LEAST = 15  # rows of either kind for a curve of a label's own
_FOLDS = 5
_LEAST_SCALE = 1e-3  # a curve must rise
_STEPS = 60
_MARGIN = 1e-6  # of a threshold above the score that must not reach it, so that writing it down loses nothing


@dataclass(frozen=True, slots=True)
class Fit:
    """A curve, how it was chosen, and what the rows it was fitted on get from curves that did not see them."""

    curve: Curve
    method: str
    loss: float  # cross-validated, nats a row
    crossed: Floats  # probabilities, cross-fitted


def fit(logits: Floats, truth: Truth, weights: Floats, method: str = "", seed: int = 0) -> Fit:
    """The curve of one label. `method` one of METHODS, or "" for the better one. There must be rows of either kind."""
    tried: list[tuple[float, str, Floats]] = []
    folds = _folds(truth, seed)
    for each in (method,) if method else METHODS:
        crossed = np.zeros(len(truth))
        for fold in range(_FOLDS):
            rest, held = folds != fold, folds == fold
            crossed[held] = curve_of(logits[rest], truth[rest], weights[rest], each)(logits[held])
        tried.append((_loss(crossed, truth, weights), each, crossed))
    loss, chosen, crossed = min(tried, key=lambda one: one[0])
    return Fit(curve_of(logits, truth, weights, chosen), chosen, loss, crossed)


def curve_of(logits: Floats, truth: Truth, weights: Floats, method: str) -> Curve:
    """The curve with the least log loss, its prior that of the weighted rows."""
    share = float((weights * truth).sum() / weights.sum())
    prior = min(max(share, 1e-4), 1 - 1e-4)
    if method == TEMPERATURE:
        (scale,) = _minimum(np.stack([logits], axis=1), truth.astype(np.float64), weights)
        return Curve(max(float(scale), _LEAST_SCALE), 0.0, prior)
    # Platt's targets, which keep a curve finite where the classes part cleanly.
    positives = int(truth.sum())
    negatives = len(truth) - positives
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    columns = np.stack([logits, np.ones(len(logits))], axis=1)
    scale, shift = _minimum(columns, targets, weights)
    if scale < _LEAST_SCALE:
        return Curve(_LEAST_SCALE, math.log(prior / (1 - prior)) - _LEAST_SCALE * float(logits.mean()), prior)
    return Curve(float(scale), float(shift), prior)


def shifted(weights: Floats, truth: Truth, prior: float) -> Floats:
    """Weights with which the rows stand for traffic with another prior (label shift: Saerens et al. 2002)."""
    own = float((weights * truth).sum() / weights.sum())
    if not 0 < own < 1:
        return weights
    return np.where(truth, weights * prior / own, weights * (1 - prior) / (1 - own))


def points(
    probabilities: Floats, truth: Truth, weights: Floats, seed: int = 0, resamples: int = RESAMPLES
) -> Mapping[str, OperatingPoint]:
    """Operating points by rate, with the interval of the recall over resampled rows, thresholds set anew in each.

    A rate that the negatives are too few for is missing.
    """
    found: dict[str, OperatingPoint] = {}
    for name, rate in RATES.items():
        least = threshold(probabilities[~truth], weights[~truth], rate)
        if math.isinf(least):
            continue
        recalls = []
        for drawn in resampled(len(truth), resamples, seed):
            w = drawn * weights
            each = threshold_at_fpr(probabilities[~truth], w[:, ~truth], rate)
            recalls.append(_recalls(probabilities[truth], w[:, truth], each))
        value = float(_recalls(probabilities[truth], weights[None, truth], np.array([least]))[0])
        estimate = percentiles(value, np.concatenate(recalls))
        found[name] = OperatingPoint(rate, least, value, estimate.low, estimate.high)
    return found


def threshold(negatives: Floats, weights: Floats, rate: float) -> float:
    """That of metrics.threshold_at_fpr(), in [0, 1] and so that writing it down with nine digits loses nothing;
    infinite where the negatives are too few.
    """
    found = float(threshold_at_fpr(negatives, weights, rate))
    return found if found == math.inf else min(max(found, 0.0) * (1 + _MARGIN), 1.0)


def point_of(rate: float, least: float, hits: Floats, there: Floats, seed: int) -> OperatingPoint:
    """An operating point with the threshold `least`, from what is found and what is there in each text."""
    recalls = [(drawn @ hits) / np.maximum(drawn @ there, 1e-12) for drawn in resampled(len(hits), RESAMPLES, seed)]
    estimate = percentiles(float(hits.sum() / there.sum()), np.concatenate(recalls))
    return OperatingPoint(rate, least, estimate.value, estimate.low, estimate.high)


def _recalls(positives: Floats, weights: Floats, thresholds: Floats) -> Floats:
    total = weights.sum(axis=1)
    hits = np.where(positives[None, :] >= thresholds[:, None], weights, 0.0).sum(axis=1)
    return np.asarray(np.divide(hits, total, out=np.full(len(total), np.nan), where=total > 0))


def _folds(truth: Truth, seed: int) -> Floats:
    """The fold of each row; each fold has its share of either kind."""
    random = np.random.default_rng(seed)
    folds = np.zeros(len(truth))
    for kind in (truth, ~truth):
        places = random.permutation(np.flatnonzero(kind))
        folds[places] = np.arange(len(places)) % _FOLDS
    return folds


def _loss(probabilities: Floats, truth: Truth, weights: Floats) -> float:
    p = np.clip(np.where(truth, probabilities, 1 - probabilities), 1e-12, 1.0)
    return float(-(weights * np.log(p)).sum() / weights.sum())


def _minimum(columns: Floats, targets: Floats, weights: Floats) -> Floats:
    """Coefficients of the logistic regression on `columns`, by Newton's method with halved steps."""

    def loss(at: Floats) -> float:
        z = columns @ at
        return float((weights * (np.logaddexp(0, z) - targets * z)).sum())

    at = np.zeros(columns.shape[1])
    at[0] = 1.0
    best = loss(at)
    for _ in range(_STEPS):
        p = 0.5 * (1 + np.tanh(columns @ at / 2))
        gradient = columns.T @ (weights * (p - targets))
        hessian = columns.T @ (columns * (weights * p * (1 - p))[:, None])
        hessian += np.eye(len(at)) * (1e-9 + 1e-9 * np.trace(hessian))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-8 and loss(at - size * step) > best:
            size /= 2
        new = loss(at - size * step)
        if new >= best - 1e-12 * abs(best):
            break
        at, best = at - size * step, new
    return at
