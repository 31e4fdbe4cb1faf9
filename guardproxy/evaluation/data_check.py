"""Whether labelled rows are fit to train and to measure with: each rule has its limit here, and a name.

What is looked at: texts that stand in several places, rows that two people judged differently, labels that belong to
one language, and labels that the surface of a text gives away. Public sources are as they are: what is wrong within
and between them is told and does not fail.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from guardproxy.evaluation import near
from guardproxy.evaluation.datasets import LABELS, Row
from guardproxy.evaluation.metrics import kappa

CHECKS = ("toxicity", "injection", "compliance")
UNIONS = {"toxicity": ("unsafe", "toxic"), "injection": ("injection",), "compliance": ("noncompliant",)}
"""The labels of each check that stand for all of it."""

MOST_TWICE = 0.005  # share of the own rows of a split that may be there twice
LEAST_KAPPA = 0.6  # "substantial" agreement (Landis and Koch 1977)
LEAST_PAIRS = 20  # rows judged twice, for kappa to be looked at
MOST_ODDS = 4.0  # times the odds of a label in all other languages, either way
MANY_ROWS = 60  # rows in a language, or of a label, to be looked at
MOST_LENGTH = 0.70  # area under the ROC curve of length, either way
MOST_SURFACE = 0.80  # the same of all of the surface
_ROWS = 8_000  # looked at by a probe
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong. `fatal`: beyond its limit."""

    rule: str
    what: str
    fatal: bool = True


@dataclass(slots=True)
class Checked:
    """All that was found out. `balance`: rows and positives by label, source and language."""

    rows: int = 0
    problems: list[Problem] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)  # nearly the same texts, by splits
    twice: dict[str, int] = field(default_factory=dict)  # texts more than once, by splits
    kappas: dict[str, tuple[float, int]] = field(default_factory=dict)
    balance: list[tuple[str, str, str, int, int]] = field(default_factory=list)
    probes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a limit is broken."""
        return any(problem.fatal for problem in self.problems)


def check(rows: Sequence[Row], second: Mapping[str, Mapping[str, int]] | None = None, seed: int = 0) -> Checked:
    """Looks at everything. `second`: by row id, labels that another person gave. Needs scikit-learn."""
    found = Checked(len(rows))
    _twice(rows, found)
    _nearly(rows, found)
    _agreement(rows, second or {}, found)
    _languages(rows, found)
    _shortcuts(rows, found, seed)
    return found


def _own(row: Row) -> bool:
    return bool(row.set)


def _between(one: Row, other: Row) -> str:
    return " ~ ".join(sorted((one.split, other.split), key=("train", "dev", "test").index))


def _leak(one: Row, other: Row) -> bool:
    """Whether two rows that are alike spoil a measurement: one is learnt from, the other measured with."""
    return "train" in (one.split, other.split) and one.split != other.split


def _names(pairs: Iterable[tuple[Row, Row]]) -> str:
    named = [f"{one.id} and {other.id}" for one, other in pairs]
    return "; ".join(named[:_SHOWN]) + (f"; {len(named) - _SHOWN} more" if len(named) > _SHOWN else "")


def _twice(rows: Sequence[Row], found: Checked) -> None:
    """Exact duplicates: across splits, within one, and with other labels."""
    same: Counter[str] = Counter()
    torn: list[tuple[Row, Row]] = []
    again: Counter[str] = Counter()
    for group in near.duplicates(row.text for row in rows):
        first, *others = (rows[number] for number in group)
        for other in others:
            same[_between(first, other)] += 1
            again[first.split] += first.split == other.split and _own(first) and _own(other)
            if _own(first) and _own(other) and first.role == other.role and _disagree(first, other):
                torn.append((first, other))
    found.twice = dict(same)
    if torn:
        found.problems.append(Problem("one text, one verdict", f"same text, other labels: {_names(torn)}"))
    sizes = Counter(row.split for row in rows if _own(row))
    for split, number in again.items():
        if number > MOST_TWICE * sizes[split]:
            what = f"{number} of {sizes[split]} own rows of {split} are there already; the limit is {MOST_TWICE:.1%}"
            found.problems.append(Problem("no row twice", what))


def _disagree(one: Row, other: Row) -> bool:
    return any(one.labels[label] != other.labels[label] for label in one.labels.keys() & other.labels.keys())


def _nearly(rows: Sequence[Row], found: Checked) -> None:
    """Near-duplicates; those between training and measuring fail where one of the two is ours."""
    pairs = near.near([row.text for row in rows], [f"{row.split}:{_own(row)}" for row in rows])
    sides = [(rows[pair.first], rows[pair.second]) for pair in pairs]
    found.pairs = dict(Counter(_between(*side) for side in sides))
    leaks = [side for side in sides if _leak(*side)]
    ours = [side for side in leaks if any(map(_own, side))]
    if ours:
        found.problems.append(
            Problem("nothing measured was learnt", f"{len(ours)} pairs across splits: {_names(ours)}")
        )
    if len(leaks) > len(ours):
        what = f"{len(leaks) - len(ours)} pairs of public rows are nearly the same in training and development"
        found.problems.append(Problem("nothing measured was learnt", what, fatal=False))


def leaked(rows: Sequence[Row]) -> frozenset[str]:
    """Ids of the rows to measure with that are nearly the same as one to train with."""
    pairs = near.near([row.text for row in rows], [row.split for row in rows])
    sides = [(rows[pair.first], rows[pair.second]) for pair in pairs]
    return frozenset(row.id for side in sides if _leak(*side) for row in side if row.split != "train")


def _agreement(rows: Sequence[Row], second: Mapping[str, Mapping[str, int]], found: Checked) -> None:
    """Cohen's kappa by label, of rows that were judged twice and of texts that stand there twice."""
    pairs: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)

    def add(one: Mapping[str, int], other: Mapping[str, int]) -> None:
        for label in one.keys() & other.keys():
            pairs[label].append((one[label], other[label]))

    for row in rows:
        if row.id in second:
            add(row.labels, second[row.id])
    for group in near.duplicates(row.text for row in rows):
        first, *others = (rows[number] for number in group)
        for other in others:
            add(first.labels, other.labels)
    for label, judged in sorted(pairs.items()):
        value = kappa(*zip(*judged, strict=True))
        found.kappas[label] = (value, len(judged))
        if len(judged) >= LEAST_PAIRS and value < LEAST_KAPPA:
            what = f"{label}: kappa {value:.2f} over {len(judged)} rows judged twice; the limit is {LEAST_KAPPA}"
            found.problems.append(Problem("people agree", what))


def _languages(rows: Sequence[Row], found: Checked) -> None:
    """Rows and positives by label, source and language; where a label's odds are others, a language teaches it."""
    table: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])  # rows, positives
    total: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    ours: set[tuple[str, str]] = set()
    for row in rows:
        for label in (label for check in CHECKS for label in LABELS[check] if label in row.labels):
            for counted in (table[label, row.source, row.lang], total[label, row.lang]):
                counted[0] += 1
                counted[1] += row.labels[label]
            if _own(row):
                ours.add((label, row.lang))
    found.balance = [(*key, n, positives) for key, (n, positives) in sorted(table.items())]
    for label in (labels[0] for labels in UNIONS.values()):
        cells = {lang: cell for (its, lang), cell in total.items() if its == label}
        for lang, cell in sorted(cells.items()):
            others = [other for name, other in cells.items() if name != lang]
            rest = [sum(other[0] for other in others), sum(other[1] for other in others)]
            odds = _odds(*cell) / _odds(*rest)
            if lang != "und" and min(cell[0], rest[0]) >= MANY_ROWS and not 1 / MOST_ODDS <= odds <= MOST_ODDS:
                what = (
                    f"{label}: {cell[1]} of {cell[0]} rows in {lang}, {odds:.2g} times the odds of the other languages;"
                    f" the limit is {MOST_ODDS:g} either way"
                )
                found.problems.append(Problem("no language decides", what, (label, lang) in ours))


def _odds(rows: int, positives: int) -> float:
    return (positives + 0.5) / (rows - positives + 0.5)


def _shortcuts(rows: Sequence[Row], found: Checked, seed: int) -> None:
    """Probes of the labels: those that stand for a check have limits; of the others it is told what gives them away."""
    # Imported here, since this alone needs scikit-learn, and all else is wanted where that is missing.
    from guardproxy.evaluation.shortcuts import probe

    random = np.random.default_rng(seed)
    for label in (label for check in CHECKS for label in LABELS[check]):
        known = [row for row in rows if label in row.labels and not row.weak]
        if len(known) > _ROWS:
            known = [known[number] for number in sorted(random.choice(len(known), _ROWS, replace=False))]
        truth = np.array([row.labels[label] == 1 for row in known], bool)
        if min(truth.sum(), (~truth).sum()) < MANY_ROWS:
            continue
        told = probe([row.text for row in known], truth, [row.set or row.id for row in known], seed)
        found.probes[label] = asdict(told)
        union = any(label in labels for labels in UNIONS.values())
        if abs(told.length - 0.5) > MOST_LENGTH - 0.5:
            what = f"{label}: length alone tells it, area {told.length:.2f}; the limit is {MOST_LENGTH} either way"
            found.problems.append(Problem("length decides nothing", what, union))
        if told.surface > MOST_SURFACE:
            what = f"{label}: its surface tells it, area {told.surface:.2f}; the limit is {MOST_SURFACE}"
            found.problems.append(Problem("the surface decides nothing", what, union))
