"""What is measured and how: figures of scores against truth, agreement, and the intervals that go with them.

Every figure of scores takes a weight for each row, or one array of weights for each resample, and gives one number or
one number a resample: so a bootstrap is one call. What cannot be computed (no positives, no negatives) is NaN, never 0.
Pure: no clock, and no dice but those of an explicit seed. Scores are flagged at the threshold and above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]
Metric = Callable[[Truth, Floats, Floats], Floats]
"""(truth [n], scores [n], weights [resamples, n]) to [resamples]."""

RESAMPLES = 1_000
BINS = 15
_BLOCK = 2_000_000  # weights held at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the interval that it is in, 95 % by default. All NaN where there is none."""

    value: float
    low: float
    high: float


def precision(truth: Truth, scores: Floats, weights: Floats | None = None, threshold: float = 0.5) -> Floats:
    """Of what is flagged, the share that is true. NaN where nothing is flagged."""
    tp, fp, _, _ = _counts(truth, scores, weights, threshold)
    return _ratio(tp, tp + fp)


def recall(truth: Truth, scores: Floats, weights: Floats | None = None, threshold: float = 0.5) -> Floats:
    """Of what is true, the share that is flagged. NaN without positives."""
    tp, _, fn, _ = _counts(truth, scores, weights, threshold)
    return _ratio(tp, tp + fn)


def fpr(truth: Truth, scores: Floats, weights: Floats | None = None, threshold: float = 0.5) -> Floats:
    """Of what is false, the share that is flagged. NaN without negatives."""
    _, fp, _, tn = _counts(truth, scores, weights, threshold)
    return _ratio(fp, fp + tn)


def f1(truth: Truth, scores: Floats, weights: Floats | None = None, threshold: float = 0.5) -> Floats:
    """The harmonic mean of precision and recall (van Rijsbergen 1979); 0 where only misses or false alarms are."""
    tp, fp, fn, _ = _counts(truth, scores, weights, threshold)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def auprc(truth: Truth, scores: Floats, weights: Floats | None = None) -> Floats:
    """Average precision: sum of precision times the step in recall over the distinct scores, from the highest on.

    Not interpolated, since that flatters (Davis and Goadrich 2006). NaN without positives.
    """
    tp, fp, total, _ = _cumulated(truth, scores, weights)
    steps = np.diff(tp, axis=-1, prepend=0.0)
    return _ratio((steps * _ratio(tp, tp + fp, 0.0)).sum(axis=-1), total)


def recall_at_fpr(truth: Truth, scores: Floats, weights: Floats | None = None, rate: float = 0.01) -> Floats:
    """The highest recall of a threshold at which no more than `rate` of the negatives are flagged.

    That is a point of these rows' own ROC curve (Fawcett 2006); a threshold for others is threshold_at_fpr(). NaN
    where there are fewer than 1/rate negatives, or no positives.
    """
    tp, fp, positives, negatives = _cumulated(truth, scores, weights)
    allowed = fp <= rate * negatives[..., None] * (1 + 1e-12)
    best = np.where(allowed, tp, 0.0).max(axis=-1, initial=0.0)
    enough = np.count_nonzero(~truth) * rate >= 1
    return np.where(enough, _ratio(best, positives), np.nan)


def threshold_at_fpr(negatives: Floats, weights: Floats | None = None, rate: float = 0.01) -> Floats:
    """The lowest threshold that flags no more than `rate` of further negatives like these, on average over draws.

    The quantile of split-conformal prediction (Vovk et al. 2005), for weights as in Tibshirani et al. 2019 with the
    new row's weight taken as the largest. Infinite where the negatives are too few for the rate.
    """
    if not len(negatives):
        return np.full(() if weights is None else weights.shape[:-1], np.inf)
    order = np.argsort(-negatives, kind="stable")
    ranked = negatives[order]
    w = np.ones(len(ranked)) if weights is None else weights[..., order]
    over = np.cumsum(w, axis=-1)  # weight of these and all higher ones
    spent = over + w.max(axis=-1, keepdims=True)
    ends = np.append(ranked[1:] != ranked[:-1], True)
    kept = (spent <= rate * spent[..., -1:] * (1 + 1e-12)) & ends
    count = np.where(kept, np.arange(len(ranked)) + 1, 0).max(axis=-1)
    # Just above the highest negative that must not be flagged.
    just = np.nextafter(ranked[np.minimum(count, len(ranked) - 1)], np.inf)
    supported = spent[..., -1] * rate * (1 + 1e-12) >= w.max(axis=-1)
    return np.where(supported & (count < len(ranked)), just, np.where(supported, -np.inf, np.inf))


def ece(
    truth: Truth, scores: Floats, weights: Floats | None = None, bins: int = BINS, *, equal_mass: bool = True
) -> Floats:
    """Expected calibration error: the mean over bins of |share that is true - mean probability|, by their weight.

    Bins of equal width are Naeini et al. 2015; bins of equal mass, which probabilities near 0 and 1 need, Nguyen and
    O'Connor 2015. Edges are those of all rows, in every resample.
    """
    if not len(scores):
        return np.asarray(np.full(() if weights is None else weights.shape[:-1], np.nan))
    edges = np.quantile(scores, np.linspace(0, 1, bins + 1)) if equal_mass else np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    gaps = np.zeros((len(scores), bins))
    gaps[np.arange(len(scores)), place] = truth.astype(np.float64) - scores
    w = np.ones(len(scores)) if weights is None else weights
    return _ratio(np.abs(w @ gaps).sum(axis=-1), w.sum(axis=-1))


def reliability(truth: Truth, scores: Floats, weights: Floats, bins: int = 10) -> Sequence[tuple[float, float, float]]:
    """Mean probability, share that is true and weight of each bin of equal width that has rows (DeGroot and Fienberg
    1983).
    """
    place = np.clip((scores * bins).astype(int), 0, bins - 1)
    mass, mean, true = (
        np.bincount(place, values, minlength=bins) for values in (weights, weights * scores, weights * truth)
    )
    return [(float(mean[b] / mass[b]), float(true[b] / mass[b]), float(mass[b])) for b in range(bins) if mass[b] > 0]


def curve(truth: Truth, scores: Floats) -> tuple[Floats, Floats]:
    """Recall and precision at each distinct score, from the highest on."""
    tp, fp, total, _ = _cumulated(truth, scores, None)
    return _ratio(tp, np.broadcast_to(total, tp.shape)), _ratio(tp, tp + fp)


def auc(truth: Truth, scores: Floats, weights: Floats | None = None) -> Floats:
    """The chance that a positive scores higher than a negative, ties counting half (Hanley and McNeil 1982)."""
    tp, fp, positives, negatives = _cumulated(truth, scores, weights)
    before = np.concatenate((np.zeros((*tp.shape[:-1], 1)), tp[..., :-1]), axis=-1)
    area = (np.diff(fp, axis=-1, prepend=0.0) * (tp + before) / 2).sum(axis=-1)
    return _ratio(area, positives * negatives)


def kappa(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960). NaN for no rows, and where chance alone agrees fully."""
    values = {value: number for number, value in enumerate(dict.fromkeys((*first, *second)))}
    table = np.zeros((len(values), len(values)))
    for a, b in zip(first, second, strict=True):
        table[values[a], values[b]] += 1
    total = table.sum()
    if not total:
        return float("nan")
    chance = float((table.sum(0) * table.sum(1)).sum() / total**2)
    return float((np.trace(table) / total - chance) / (1 - chance)) if chance < 1 else float("nan")


# -- intervals --------------------------------------------------------------------------------------------------------


def interval(
    metric: Metric,
    truth: Truth,
    scores: Floats,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    weights: Floats | None = None,
) -> Estimate:
    """A figure with its percentile interval over resampled rows (Efron and Tibshirani 1993).

    `weights` of the rows, 1 by default, are drawn with them. Resamples in which the figure cannot be computed are left
    out.
    """
    found = intervals({"": metric}, truth, scores, seed=seed, resamples=resamples, level=level, weights=weights)
    return found[""]


def intervals(
    wanted: Mapping[str, Metric],
    truth: Truth,
    scores: Floats,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    weights: Floats | None = None,
) -> dict[str, Estimate]:
    """Several figures, each with its interval(), over the same resamples."""
    own = np.ones(len(truth)) if weights is None else weights
    values = {name: float(metric(truth, scores, own[None])[0]) for name, metric in wanted.items()}
    sound = [name for name, value in values.items() if not np.isnan(value)]
    drawn: dict[str, list[Floats]] = {name: [] for name in sound}
    for block in resampled(len(truth), resamples, seed) if sound else ():
        for name in sound:
            drawn[name].append(wanted[name](truth, scores, block * own))
    nothing = np.array([])
    return {
        name: percentiles(value, np.concatenate(drawn.get(name) or [nothing]), level) for name, value in values.items()
    }


def percentiles(value: float, found: Floats, level: float = 0.95) -> Estimate:
    """The figure with the percentile interval of what resamples gave."""
    found = found[np.isfinite(found)]
    if not len(found):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def widened(estimate: Estimate, rows: int, level: float = 0.95) -> Estimate:
    """The interval of a share of `rows` rows that is 0 or 1, of which resamples know nothing else: the exact one
    (Clopper and Pearson 1934). Other estimates as they are.
    """
    if not rows or estimate.value not in (0.0, 1.0) or estimate.low != estimate.high:
        return estimate
    far = 1 - ((1 - level) / 2) ** (1 / rows)
    return Estimate(0.0, 0.0, far) if estimate.value == 0.0 else Estimate(1.0, 1 - far, 1.0)


def resampled(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row is in each resample, [resamples, rows], in blocks of bounded size."""
    random = np.random.default_rng(seed)
    block = max(1, min(resamples, _BLOCK // max(rows, 1)))
    for done in range(0, resamples, block):
        size = min(block, resamples - done)
        drawn = random.integers(0, rows, (size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


# -- inside -----------------------------------------------------------------------------------------------------------


def _counts(
    truth: Truth, scores: Floats, weights: Floats | None, threshold: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """True and false positives, false and true negatives, by weight."""
    w = np.ones(len(truth)) if weights is None else weights
    flagged = scores >= threshold
    tp, fp, fn, tn = (w @ part.astype(np.float64) for part in _parts(truth, flagged))
    return np.asarray(tp), np.asarray(fp), np.asarray(fn), np.asarray(tn)


def _parts(truth: Truth, flagged: Truth) -> tuple[Truth, Truth, Truth, Truth]:
    return truth & flagged, ~truth & flagged, truth & ~flagged, ~truth & ~flagged


def _cumulated(
    truth: Truth, scores: Floats, weights: Floats | None
) -> tuple[Floats, Floats, NDArray[Any], NDArray[Any]]:
    """Weights of the true and of the false rows at each distinct score and above, and of all of either."""
    w = np.ones(len(truth)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.array([], int)
    w, true = w[..., order], truth[order]
    tp, fp = np.cumsum(w * true, axis=-1)[..., ends], np.cumsum(w * ~true, axis=-1)[..., ends]
    return tp, fp, (w * true).sum(axis=-1), (w * ~true).sum(axis=-1)


def _ratio(above: Any, below: Any, otherwise: float = np.nan) -> Floats:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    result = np.full(np.broadcast_shapes(above.shape, below.shape), otherwise)
    np.divide(above, below, out=result, where=below > 0)
    return result
