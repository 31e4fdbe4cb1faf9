"""A check's calibration, from rows that no adapter has learnt from: curves, operating points, and how good they are.

Rows of a source weigh 1/sqrt of their number, so that a large source does not decide. A label with too few rows has
the curve of all such labels of its check together. For entities, what is calibrated is the probability that one found
is right (the same label, overlapping), and false positives are counted in texts without such an entity.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from guardproxy.backends.onnx.calibration import Calibration, Curve, OperatingPoint
from guardproxy.evaluation import fitting, spans
from guardproxy.evaluation.data_check import UNIONS
from guardproxy.evaluation.datasets import Row
from guardproxy.evaluation.fitting import LEAST, PLATT
from guardproxy.evaluation.judging import PII, Judged
from guardproxy.evaluation.metrics import Estimate, Floats, Truth, ece, interval, reliability

Bins = Sequence[tuple[float, float, float]]
_NOTHING = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Told:
    """How one label was calibrated. `before` and `after`: bins of a reliability picture, the latter cross-fitted."""

    label: str
    rows: int
    positives: int
    method: str
    curve: Curve
    ece_before: Estimate = _NOTHING
    ece_after: Estimate = _NOTHING
    width_before: float = float("nan")  # with bins of equal width
    width_after: float = float("nan")
    before: Bins = ()
    after: Bins = ()
    warnings: Sequence[str] = ()


@dataclass(slots=True)
class Report:
    """A check's calibration and what is told of it."""

    check: str
    calibration: Calibration
    told: list[Told] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """One label's rows: logits, truth and weights."""

    logits: Floats
    truth: Truth
    weights: Floats

    @property
    def thin(self) -> bool:
        """Whether there are too few rows of either kind."""
        return min(int(self.truth.sum()), int((~self.truth).sum())) < LEAST


@dataclass(frozen=True, slots=True)
class How:
    """`method` "" for the better one; `prior` of the union label in traffic, None for that of the rows."""

    method: str = ""
    prior: float | None = None
    seed: int = 0


def weights_of(sources: Sequence[str]) -> Floats:
    """The weight of each row, by its source; 1 on average."""
    sizes = Counter(sources)
    found = np.array([1 / np.sqrt(sizes[source]) for source in sources])
    return np.asarray(found / found.mean()) if len(found) else found


def calibrate(check: str, labels: Sequence[str], rows: Sequence[Row], judged: Sequence[Judged], how: How) -> Report:
    """The calibration of one check. `judged`: of each row."""
    if check == PII:
        return _entities(labels, rows, judged, how)
    samples = {label: _sample(check, labels, label, rows, judged) for label in labels}
    unions = [label for label in labels if label in UNIONS.get(check, ())]
    pooled = _pooled([sample for label, sample in samples.items() if label not in unions], how)
    report = Report(check, Calibration({}, {}))
    curves: dict[str, Curve] = {}
    found: dict[str, Mapping[str, OperatingPoint]] = {}
    ratio = _ratio(samples[unions[0]], how.prior) if unions else 1.0
    for label, sample in samples.items():
        told, curve, crossed = _label(label, sample, pooled, how)
        wanted = _prior(curve.prior, ratio)
        curves[label] = curve.at(wanted) if how.prior is not None else curve
        weights = fitting.shifted(sample.weights, sample.truth, wanted) if how.prior is not None else sample.weights
        probabilities = curves[label](sample.logits)
        found[label] = fitting.points(probabilities, sample.truth, sample.weights, how.seed)
        if how.prior is not None:
            crossed = _moved(crossed, curve.prior, wanted)
        told = _warned(told, found[label], told.rows - told.positives, "negatives")
        report.told.append(_judged(told, curves[label], sample, weights, crossed, how.seed))
    report.calibration = Calibration(curves, found)
    return report


def _sample(check: str, labels: Sequence[str], label: str, rows: Sequence[Row], judged: Sequence[Judged]) -> Sample:
    place = labels.index(label)
    known = [
        (float(each.logits[check][place]), row)
        for row, each in zip(rows, judged, strict=True)
        if label in row.labels and check in each.logits and np.isfinite(each.logits[check][place])
    ]
    return Sample(
        np.array([value for value, _ in known]),
        np.array([row.labels[label] == 1 for _, row in known], bool),
        weights_of([row.source for _, row in known]),
    )


def _pooled(samples: Sequence[Sample], how: How) -> Curve | None:
    """One curve for the labels that have too few rows, from all of the check that are no unions; None if those are
    too few as well.
    """
    joined = Sample(*(np.concatenate([getattr(s, name) for s in samples] or [[]]) for name in Sample.__slots__))
    joined = Sample(joined.logits, joined.truth.astype(bool), joined.weights)
    if joined.thin:
        return None
    return fitting.curve_of(joined.logits, joined.truth, joined.weights, how.method or PLATT)


def _label(label: str, sample: Sample, pooled: Curve | None, how: How) -> tuple[Told, Curve, Floats]:
    """What is to be told of a label, its curve, and cross-fitted probabilities."""
    positives = int(sample.truth.sum())
    if not sample.thin:
        fitted = fitting.fit(sample.logits, sample.truth, sample.weights, how.method, how.seed)
        told = Told(label, len(sample.truth), positives, fitted.method, fitted.curve)
        return told, fitted.curve, fitted.crossed
    curve, method = (pooled, "pooled") if pooled else (Curve(), "none")
    warnings = [f"{positives} true of {len(sample.truth)}: too few for a curve of its own"]
    told = Told(label, len(sample.truth), positives, method, curve, warnings=warnings)
    return told, curve, curve(sample.logits)


def _judged(told: Told, curve: Curve, sample: Sample, weights: Floats, crossed: Floats, seed: int) -> Told:
    """With its errors before and after, and its bins."""
    if not len(sample.truth):
        return told
    raw = Curve()(sample.logits)

    def error(truth: Truth, scores: Floats, drawn: Floats) -> Floats:
        return ece(truth, scores, drawn)

    return replace(
        told,
        curve=curve,
        ece_before=interval(error, sample.truth, raw, seed=seed, weights=weights),
        ece_after=interval(error, sample.truth, crossed, seed=seed, weights=weights),
        width_before=float(ece(sample.truth, raw, weights, equal_mass=False)),
        width_after=float(ece(sample.truth, crossed, weights, equal_mass=False)),
        before=reliability(sample.truth, raw, weights),
        after=reliability(sample.truth, crossed, weights),
    )


def _warned(told: Told, points: Mapping[str, OperatingPoint], negatives: int, what: str) -> Told:
    """With a warning of the rates that there is no operating point for."""
    few = [name for name in fitting.RATES if name not in points]
    warning = f"{negatives} {what} are too few for {', '.join(few)}"
    return replace(told, warnings=[*told.warnings, warning]) if few else told


def _ratio(union: Sample, prior: float | None) -> float:
    """How many times rarer the union is in traffic than in the rows, by odds."""
    if prior is None or not len(union.truth):
        return 1.0
    share = float((union.weights * union.truth).sum() / union.weights.sum())
    return (prior / (1 - prior)) / (share / (1 - share)) if 0 < share < 1 else 1.0


def _prior(own: float, ratio: float) -> float:
    odds = ratio * own / (1 - own)
    return odds / (1 + odds)


def _moved(probabilities: Floats, before: float, after: float) -> Floats:
    """Probabilities fitted under one prior, read under another."""
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    odds = p / (1 - p) * (after / (1 - after)) / (before / (1 - before))
    return np.asarray(odds / (1 + odds))


# -- entities ---------------------------------------------------------------------------------------------------------


def marked_by(rows: Sequence[Row]) -> Mapping[str, frozenset[str]]:
    """By source, the labels that it marks at all; of others nothing can be said in its texts."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.source].update(span.label for span in row.spans or ())
    return {source: frozenset(labels) for source, labels in found.items()}


def _entities(labels: Sequence[str], rows: Sequence[Row], judged: Sequence[Judged], how: How) -> Report:
    marked = marked_by(rows)
    own = weights_of([row.source for row in rows])
    fits = [spans.match(row.spans or (), each.found, strict=False) for row, each in zip(rows, judged, strict=True)]
    samples: dict[str, Sample] = {}
    for label in labels:
        cells = [
            (found.logit, matched.right(number), weight)
            for row, each, matched, weight in zip(rows, judged, fits, own, strict=True)
            for number, found in enumerate(each.found)
            if found.label == label and label in marked.get(row.source, ()) and matched.hits[number] != -2
        ]
        columns = np.array(cells, dtype=np.float64).reshape(-1, 3)
        samples[label] = Sample(columns[:, 0], columns[:, 1] > 0.5, columns[:, 2])
    pooled = _pooled(list(samples.values()), how)
    report = Report(PII, Calibration({}, {}))
    curves: dict[str, Curve] = {}
    found_points: dict[str, Mapping[str, OperatingPoint]] = {}
    for label, sample in samples.items():
        told, curve, crossed = _label(label, sample, pooled, how)
        curves[label] = curve
        said = [row.spans is not None and label in marked.get(row.source, ()) for row in rows]
        table = _texts(label, curve, rows, judged, fits, said)
        found_points[label], negatives = _text_points(table, own[np.array(said, bool)], how.seed)
        told = _warned(told, found_points[label], negatives, "texts without one")
        report.told.append(_judged(told, curve, sample, sample.weights, crossed, how.seed))
    report.calibration = Calibration(curves, found_points)
    return report


Text = tuple[int, float, list[float]]
"""How many such entities a text has, the highest score of a wrong one found, and the scores of the right ones."""


def _texts(
    label: str,
    curve: Curve,
    rows: Sequence[Row],
    judged: Sequence[Judged],
    fits: Sequence[spans.Matched],
    said: Sequence[bool],
) -> list[Text]:
    table: list[Text] = []
    for row, each, matched, counts in zip(rows, judged, fits, said, strict=True):
        if not counts:
            continue
        right, wrong = [], 0.0
        for number, found in enumerate(each.found):
            if found.label == label:
                score = float(curve(np.array(found.logit)))
                if matched.right(number):
                    right.append(score)
                elif matched.hits[number] == -1:
                    wrong = max(wrong, score)
        table.append((sum(span.label == label for span in row.spans or ()), wrong, right))
    return table


def _text_points(table: Sequence[Text], weights: Floats, seed: int) -> tuple[Mapping[str, OperatingPoint], int]:
    """Operating points by rate of texts with a false find, among those without such an entity; how many those are."""
    without = np.array([not count for count, _, _ in table], bool)
    wrong = np.array([score for _, score, _ in table])
    there = np.array([count for count, _, _ in table], dtype=np.float64) * weights
    found: dict[str, OperatingPoint] = {}
    for name, rate in fitting.RATES.items():
        if not there.sum():
            break
        threshold = fitting.threshold(wrong[without], weights[without], rate)
        if np.isinf(threshold):
            continue
        hits = np.array([sum(score >= threshold for score in right) for _, _, right in table]) * weights
        found[name] = fitting.point_of(rate, threshold, hits, there, seed)
    return found, int(without.sum())
