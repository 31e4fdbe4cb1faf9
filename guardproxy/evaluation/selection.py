"""Which rows may say something of an adapter: none that it has learnt from, and none nearly the same as one of those.

An author's own rows have their splits. Of a public source that was trained on, only the rows set aside by
datasets.parted() count; a source that was never trained on counts as a whole, for measuring alone.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from guardproxy.evaluation.data_check import leaked
from guardproxy.evaluation.datasets import LABELS, Row

MOST = 600
"""Rows of a public source that are looked at; which ones is decided by their ids."""

TRAINED, NEVER = "trained on", "never trained on"


def own(row: Row) -> bool:
    """Whether the row is one of the project's own, with a set and a split of its author's."""
    return bool(row.set)


def development(rows: Sequence[Row], trained: Collection[str], most: int = MOST) -> list[Row]:
    """The rows to calibrate with: own ones of "dev", and those set aside of the public sources trained on."""
    held = [row for row in rows if row.split == "dev" and not row.weak and (own(row) or row.source in trained)]
    return _sound(rows, _some(held, most), trained)


def measured(
    rows: Sequence[Row], trained: Collection[str], splits: Collection[str] = ("dev", "test"), most: int = MOST
) -> list[Row]:
    """The rows to measure with: own ones of the splits, those set aside, and sources never trained on."""
    held = []
    for row in rows:
        if own(row):
            counts = row.split in splits
        else:
            counts = not row.weak and (("dev" in splits and row.split == "dev") or row.source not in trained)
        if counts:
            held.append(row)
    return _sound(rows, _some(held, most), trained)


def status(row: Row, trained: Collection[str]) -> str:
    """What a reader must know of a row's source."""
    if own(row):
        return f"own, {row.split}"
    return f"{TRAINED}, rows set aside" if row.source in trained else NEVER


def about(rows: Iterable[Row], check: str) -> list[Row]:
    """The rows of which something is known for the check."""
    labels = set(LABELS[check])
    return [row for row in rows if (row.spans is not None if check == "pii" else row.labels.keys() & labels)]


def _some(rows: Iterable[Row], most: int) -> list[Row]:
    """At most so many rows of each public source, drawn by id."""
    by_source: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row)
    chosen: list[Row] = []
    for its in by_source.values():
        chosen += its if own(its[0]) or len(its) <= most else sorted(its, key=lambda row: _draw(row.id))[:most]
    return chosen


def _sound(rows: Sequence[Row], held: Sequence[Row], trained: Collection[str]) -> list[Row]:
    """Those that are held, less what is nearly the same as something learnt."""
    learnt = [row for row in rows if row.split == "train" and (own(row) or row.source in trained)]
    ids = {row.id for row in held}
    bad = leaked([*(row for row in learnt if row.id not in ids), *held])
    return [row for row in held if row.id not in bad]


def _draw(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=8, salt=b"measure").digest()
