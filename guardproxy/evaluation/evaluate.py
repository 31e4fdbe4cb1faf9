"""How good a backend is, on rows that its models have not learnt from, group by group and with intervals.

A group is a source, a language, a length, a set of look-alikes, or what a reader must know of the rows: own ones, rows
set aside of a source trained on, or sources never trained on, which say most. Texts on which a check abstains are
counted beside its figures, not in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from guardproxy.backends.onnx.calibration import Calibration, Curve
from guardproxy.evaluation import metrics, spans
from guardproxy.evaluation.calibrate import marked_by
from guardproxy.evaluation.data_check import UNIONS
from guardproxy.evaluation.datasets import Row
from guardproxy.evaluation.judging import PII, Found, Judged
from guardproxy.evaluation.metrics import Estimate, Floats, Metric, Truth, interval
from guardproxy.evaluation.selection import status

ALL, STATUS, SOURCE, LANGUAGE, LENGTH, LOOKALIKES = "all", "rows", "source", "language", "length", "look-alikes"
KINDS = (ALL, STATUS, SOURCE, LANGUAGE, LENGTH, LOOKALIKES)
POINT = "1%"  # the operating point whose promise is looked at
LEAST = 20  # rows of a group
LEAST_ALIKE = 5  # the same of a set of look-alikes
_HARD = "/hard-"
_LENGTHS = ((100, "up to 100 characters"), (400, "101-400"), (1500, "401-1500"))
_LONGER = "over 1500"


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one label in one group of rows. `status`: of a source, what must be known of it."""

    label: str
    kind: str
    group: str
    status: str
    rows: int
    positives: int
    abstained: int
    figures: Mapping[str, Estimate]


@dataclass(slots=True)
class Measured:
    """One check's cells, the curves of its union labels by status, and reliability bins by label."""

    check: str
    cells: list[Cell] = field(default_factory=list)
    curves: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    bins: dict[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)

    def find(self, label: str, kind: str, group: str) -> Cell | None:
        """The cell, if it was big enough to be there."""
        return next((c for c in self.cells if (c.label, c.kind, c.group) == (label, kind, group)), None)


def groups(rows: Sequence[Row], trained: Collection[str]) -> Mapping[tuple[str, str, str], list[int]]:
    """Numbers of rows by kind, name and status of their group."""
    found: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        told = status(row, trained)
        found[ALL, "all", ""].append(number)
        found[STATUS, told, ""].append(number)
        found[SOURCE, row.source, told].append(number)
        found[LANGUAGE, row.lang, ""].append(number)
        length = next((name for most, name in _LENGTHS if len(row.text) <= most), _LONGER)
        found[LENGTH, length, ""].append(number)
        if _HARD in row.set:
            found[LOOKALIKES, row.set, ""].append(number)
    return dict(sorted(found.items(), key=lambda item: (KINDS.index(item[0][0]), item[0][1:])))


def evaluate(
    check: str,
    labels: Sequence[str],
    rows: Sequence[Row],
    judged: Sequence[Judged],
    calibration: Calibration,
    trained: Collection[str],
    seed: int = 0,
) -> Measured:
    """All of one classifier's cells. Labels that stand for no union have those of all rows, statuses and sources."""
    measured = Measured(check)
    parted = groups(rows, trained)
    for place, label in enumerate(labels):
        curve = calibration.curves[label]
        logits = np.array([_logit(each, check, place) for each in judged])
        scores = np.where(np.isnan(logits), np.nan, curve(np.nan_to_num(logits)))
        known = np.array([label in row.labels for row in rows], bool)
        truth = np.array([row.labels.get(label) == 1 for row in rows], bool)
        point = calibration.points.get(label, {}).get(POINT)
        wanted = _metrics(point.threshold if point else None)
        union = label in UNIONS.get(check, ())
        for (kind, name, told), numbers in parted.items():
            if not union and kind not in (ALL, STATUS, SOURCE):
                continue
            mine = np.array([number for number in numbers if known[number]], int)
            cell = _cell((label, kind, name, told), truth[mine], scores[mine], wanted, seed)
            if cell is not None and (union or cell.positives):
                measured.cells.append(cell)
        if union:
            _pictured(measured, label, parted, known & ~np.isnan(scores), truth, scores)
    return measured


def _logit(judged: Judged, check: str, place: int) -> float:
    return float(judged.logits[check][place]) if check in judged.logits else float("nan")


def _metrics(threshold: float | None) -> Mapping[str, Metric]:
    """By name. Where there is an operating point: what it finds and what it flags wrongly."""
    found: dict[str, Metric] = {
        "f1": metrics.f1,
        "recall": metrics.recall,
        "fpr": metrics.fpr,
        "auprc": metrics.auprc,
        "recall at 1% fpr": metrics.recall_at_fpr,
        "ece": metrics.ece,
    }
    if threshold is not None:
        found[f"recall at point {POINT}"] = _at(metrics.recall, threshold)
        found[f"fpr at point {POINT}"] = _at(metrics.fpr, threshold)
    return found


def _at(metric: Callable[[Truth, Floats, Floats, float], Floats], threshold: float) -> Metric:
    return lambda truth, scores, weights: metric(truth, scores, weights, threshold)


def _cell(
    key: tuple[str, str, str, str], truth: Truth, scores: Floats, wanted: Mapping[str, Metric], seed: int
) -> Cell | None:
    label, kind, name, told = key
    answered = ~np.isnan(scores)
    abstained = int((~answered).sum())
    truth, scores = truth[answered], scores[answered]
    if len(truth) < (LEAST_ALIKE if kind == LOOKALIKES else LEAST):
        return None
    positives = int(truth.sum())
    if positives in (0, len(truth)):
        wanted = {figure: metric for figure, metric in wanted.items() if figure not in ("f1", "auprc", "ece")}
    found = metrics.intervals(wanted, truth, scores, seed=seed)
    sizes = {"recall": positives, "fpr": len(truth) - positives}
    figures = {
        figure: metrics.widened(estimate, sizes.get(figure.split()[0], 0))
        for figure, estimate in found.items()
        if not np.isnan(estimate.value)
    }
    return Cell(label, kind, name, told, len(truth), positives, abstained, figures)


def _pictured(
    measured: Measured,
    label: str,
    parted: Mapping[tuple[str, str, str], list[int]],
    counts: Truth,
    truth: Truth,
    scores: Floats,
) -> None:
    for (kind, name, _), numbers in parted.items():
        mine = np.array([number for number in numbers if counts[number]], int)
        if kind in (ALL, STATUS) and len(mine) >= LEAST and 0 < truth[mine].sum() < len(mine):
            measured.curves[f"{label}: {name}"] = metrics.curve(truth[mine], scores[mine])
            if kind == ALL:
                measured.bins[label] = metrics.reliability(truth[mine], scores[mine], np.ones(len(mine)))


# -- entities ---------------------------------------------------------------------------------------------------------

MERGED, MODEL = "with forms", "model alone"
MICRO = "all entities"


def evaluate_entities(
    labels: Sequence[str],
    rows: Sequence[Row],
    judged: Sequence[Judged],
    calibration: Calibration,
    trained: Collection[str],
    seed: int = 0,
) -> Measured:
    """Span F1, strict and relaxed, of what the model finds and of that with what has a form; and false finds.

    A source is asked about the labels alone that it marks anywhere.
    """
    measured = Measured(PII)
    marked = marked_by(rows)
    parted = groups(rows, trained)
    seen = [_seen(row, each, calibration, marked[row.source]) for row, each in zip(rows, judged, strict=True)]
    answered = np.array([PII not in each.abstained for each in judged], bool)
    tables = {
        f"{how} f1, {whose}": spans.counts(
            [(row.spans or (), found[index]) for row, found in zip(rows, seen, strict=True)], labels, strict=strict
        )
        for how, strict in (("strict", True), ("relaxed", False))
        for index, whose in enumerate((MERGED, MODEL))
    }
    for (kind, name, told), numbers in parted.items():
        mine = np.array([number for number in numbers if answered[number]], int)
        if len(mine) < (LEAST_ALIKE if kind == LOOKALIKES else LEAST):
            continue
        for place, label in enumerate((MICRO, *labels)):
            if place and kind not in (ALL, STATUS):
                continue
            cut = {what: t[mine].sum(axis=1) if not place else t[mine][:, place - 1] for what, t in tables.items()}
            figures = {what: spans.f1_interval(table, seed=seed) for what, table in cut.items()}
            if not place:
                figures |= _false(rows, seen, mine.tolist(), seed)
            figures = {what: value for what, value in figures.items() if not np.isnan(value.value)}
            there = int(next(iter(cut.values()))[:, 2].sum())
            if figures and (there or not place):
                measured.cells.append(
                    Cell(label, kind, name, told, len(mine), there, len(numbers) - len(mine), figures)
                )
    return measured


Seen = tuple[Sequence[Found], Sequence[Found]]
"""What is found in a row with forms and by the model alone."""


def _seen(row: Row, judged: Judged, calibration: Calibration, marked: Collection[str]) -> Seen:
    """Those that are more likely than not, of the labels that the row's source marks."""

    def sure(found: Found) -> bool:
        curve = calibration.curves[found.label] if not found.formed else Curve()
        return found.label in marked and curve.scale * found.logit + curve.shift >= 0

    return [each for each in judged.merged if sure(each)], [each for each in judged.found if sure(each)]


def _false(rows: Sequence[Row], seen: Sequence[Seen], mine: Sequence[int], seed: int) -> Mapping[str, Estimate]:
    """The share of the texts without any entity in which something is found."""
    clean = [number for number in mine if rows[number].spans == ()]
    if len(clean) < LEAST_ALIKE:
        return {}
    found = {}
    for index, whose in enumerate((MERGED, MODEL)):
        flagged = np.array([bool(seen[number][index]) for number in clean], dtype=np.float64)
        share = interval(metrics.fpr, np.zeros(len(clean), bool), flagged, seed=seed)
        found[f"false finds, {whose}"] = metrics.widened(share, len(clean))
    return found
