"""Entities found against entities marked, counted row by row so that rows can be resampled.

Strict: the same label, start and end (CoNLL: Tjong Kim Sang and De Meulder 2003). Relaxed: the same label and at least
one character in common, one to one, so that an entity found in two halves is one hit and one false alarm (the type
match of SemEval 2013, task 9). What is found where something of an unknown kind is marked counts neither way. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from guardproxy.evaluation.metrics import RESAMPLES, Estimate, percentiles, resampled

IGNORED = "?"


class Marked(Protocol):
    """Something with a label at [start, end)."""

    @property
    def label(self) -> str: ...

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


class Matched(NamedTuple):
    """For each found entity: the number of the marked one that it hits, -1 for none, -2 where it does not count."""

    hits: tuple[int, ...]

    def right(self, number: int) -> bool:
        """Whether the found entity is one that was marked."""
        return self.hits[number] >= 0


def match(marked: Sequence[Marked], found: Sequence[Marked], *, strict: bool) -> Matched:
    """Pairs found entities with marked ones of the same label, each at most once; as many as can be."""
    hits = [-1] * len(found)
    taken: set[int] = set()
    known = [(number, each) for number, each in enumerate(marked) if each.label != IGNORED]
    # By their ends, each with the first that it can have: the most pairs there can be, for entities apart.
    for place in sorted(range(len(found)), key=lambda place: (found[place].end, found[place].start)):
        mine = found[place]
        fits = [number for number, each in known if number not in taken and _fits(each, mine, strict)]
        if fits:
            hits[place] = min(fits, key=lambda number: (marked[number].end, marked[number].start))
            taken.add(hits[place])
        elif any(each.label == IGNORED and _overlap(each, mine) for each in marked):
            hits[place] = -2
    return Matched(tuple(hits))


def counts(
    rows: Sequence[tuple[Sequence[Marked], Sequence[Marked]]], labels: Sequence[str], *, strict: bool
) -> NDArray[np.float64]:
    """[rows, labels, 3]: hits, found and marked entities. A row is (marked, found); other labels are left out."""
    place = {label: number for number, label in enumerate(labels)}
    table = np.zeros((len(rows), len(labels), 3))
    for number, (marked, found) in enumerate(rows):
        wanted = [each for each in marked if each.label in place or each.label == IGNORED]
        given = [each for each in found if each.label in place]
        for each in wanted:
            if each.label != IGNORED:
                table[number, place[each.label], 2] += 1
        for each, hit in zip(given, match(wanted, given, strict=strict).hits, strict=True):
            table[number, place[each.label], 0] += hit >= 0
            table[number, place[each.label], 1] += hit != -2
    return table


def f1(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of (hits, found, marked) in the last axis. NaN where nothing is marked and nothing found."""
    below = table[..., 1] + table[..., 2]
    result = np.full(below.shape, np.nan)
    np.divide(2 * table[..., 0], below, out=result, where=below > 0)
    return result


def precision_recall(table: NDArray[np.float64]) -> tuple[float, float]:
    """Precision and recall of one (hits, found, marked)."""
    hits, found, marked = (float(value) for value in table)
    return (hits / found if found else float("nan")), (hits / marked if marked else float("nan"))


def f1_interval(table: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """F1 of all rows, with its percentile interval over resampled rows. `table`: [rows, 3]."""
    value = float(f1(table.sum(axis=0))) if len(table) else float("nan")
    if np.isnan(value):
        return Estimate(value, value, value)
    return percentiles(value, np.concatenate([f1(w @ table) for w in resampled(len(table), resamples, seed)]))


def labels_in(rows: Collection[Sequence[Marked]]) -> Iterator[str]:
    """The labels that are marked anywhere, each once."""
    yield from dict.fromkeys(each.label for row in rows for each in row if each.label != IGNORED)


def _fits(marked: Marked, found: Marked, strict: bool) -> bool:
    if marked.label != found.label:
        return False
    return (marked.start, marked.end) == (found.start, found.end) if strict else _overlap(marked, found)


def _overlap(one: Marked, other: Marked) -> bool:
    return one.start < other.end and other.start < one.end
