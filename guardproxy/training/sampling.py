"""Which rows an epoch sees.

Sources are weighted by hand, since the largest is not the most telling one. Within a source, a language counts by the
square root of its rows, and within a language what is an offence and what is none count alike, so that neither a
language nor a source gives the label away.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from guardproxy.evaluation.datasets import LABELS, Row
from guardproxy.training.config import Source

_UNIONS = ("unsafe", "toxic", "injection", "noncompliant")


def offends(row: Row) -> bool:
    """Whether any check would say something of it."""
    return any(row.labels.get(label) == 1 for label in _UNIONS)


def teaches(row: Row, tasks: Sequence[str]) -> bool:
    """Whether something is known of the row that one of the tasks is about."""
    return any(row.spans is not None if task == "pii" else any(x in row.labels for x in LABELS[task]) for task in tasks)


def weights(rows: Sequence[Row]) -> NDArray[np.float64]:
    """How likely each row of one source is to be drawn, summing to 1. [rows]"""
    langs = Counter(row.lang for row in rows)
    groups = Counter((row.lang, offends(row)) for row in rows)
    sides = Counter(lang for lang, _ in groups)
    each = np.array(
        [np.sqrt(langs[row.lang]) / sides[row.lang] / groups[row.lang, offends(row)] for row in rows], dtype=np.float64
    )
    return np.asarray(each / each.sum())


class Sampler:
    """Draws epochs. The same seed draws the same epochs."""

    def __init__(self, rows: Sequence[Row], sources: Sequence[Source], tasks: Sequence[str], seed: int) -> None:
        by_source: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_source[row.source].append(row)
        self.missing = tuple(source.name for source in sources if source.name not in by_source)
        self._pools = [
            (source, pool, weights(pool))
            for source in sources
            if (pool := [row for row in by_source[source.name] if teaches(row, source.tasks or tasks)])
        ]
        self._seed = seed

    def epoch(self, number: int) -> list[tuple[Row, Source]]:
        """The rows of an epoch, in a random order; a source's rows repeat only where it has fewer than it gives."""
        random = np.random.default_rng((self._seed, number))
        drawn: list[tuple[Row, Source]] = []
        for source, pool, chances in self._pools:
            for start in range(0, source.take, len(pool)):
                some = min(len(pool), source.take - start)
                drawn += [(pool[i], source) for i in random.choice(len(pool), some, replace=False, p=chances)]
        order = random.permutation(len(drawn))
        return [drawn[i] for i in order]
