"""Rows as a model is taught them: slices of tokens, and what is right for each.

A slice is cut as at serving time. Where a text is longer than one, an offence is taught on its first slice, or on the
slices that its marked attack touches; harmless text is taught on any slice. What is not known is NaN (labels) or
IGNORE (tags), and costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardproxy.backends.onnx.encode import Encoder, Slice
from guardproxy.evaluation.datasets import ENTITIES, IGNORED, LABELS, Row, Span
from guardproxy.normalise import normalise
from guardproxy.training.augment import augmented
from guardproxy.training.config import Source
from guardproxy.training.sampling import offends

IGNORE = -100
BEGINNING = 0.25  # of the harmless completions are cut off somewhere, since streams are judged as they grow
_LOWER = np.array([0, 1, 1, 1, 1, 1, 6, 7, 8, 9, 9, 11, 12, 13])  # the shapes of the same text in small letters
_UPPER = np.array([0, 3, 3, 3, 4, 3, 6, 7, 8, 10, 10, 11, 12, 13])


@dataclass(frozen=True, slots=True)
class Example:
    """A slice and its lessons. `targets` by task: [labels] for a classifier, [tokens] for a tagger."""

    ids: NDArray[np.int64]
    shapes: NDArray[np.int64]
    targets: dict[str, NDArray[np.float32]]
    tags: NDArray[np.int64] | None
    weight: float


def example(
    row: Row, source: Source, tasks: Sequence[str], encoder: Encoder, weak: float, random: np.random.Generator
) -> Example:
    """One slice of the row, as `random` has it."""
    if "pii" in tasks and row.split == "train":
        row = augmented(row, random)
    text = normalise(row.text).text
    role = str(random.choice(source.roles)) if source.roles else row.role
    if role == "completion" and row.spans is None and not offends(row) and random.random() < BEGINNING:
        text = text[: int(random.integers(40, max(len(text), 41)))]
    slices = encoder.encode(text, role)
    number = _choose(row, text, slices, random)
    chosen = slices[number]
    wanted = source.tasks or tasks
    targets = {task: _labels(row, task, chosen, text) for task in tasks if task != "pii" and task in wanted}
    targets = {task: values for task, values in targets.items() if not np.isnan(values).all()}
    tags = None
    if "pii" in tasks and "pii" in wanted and row.spans is not None and text == row.text:
        tags = tags_of(row.spans, chosen)
    shapes = chosen.shapes
    if tags is not None and (dice := random.random()) < 0.15:
        shapes = (_LOWER if dice < 0.11 else _UPPER)[shapes]
    return Example(chosen.ids, shapes, targets, tags, source.weight * (weak if row.weak else 1.0))


def tags_of(spans: Sequence[Span], piece: Slice) -> NDArray[np.int64]:
    """0 outside, 1 + 2k at the beginning and 2 + 2k within an entity of label k; IGNORE for frame and unknown kinds."""
    tags = np.zeros(len(piece.ids), dtype=np.int64)
    for place, (start, end) in enumerate(piece.offsets):
        if end == 0:
            tags[place] = IGNORE
            continue
        span = next((s for s in spans if s.start < end and start < s.end), None)
        if span is None:
            continue
        if span.label == IGNORED or span.label not in ENTITIES:
            tags[place] = IGNORE
            continue
        inside = place > 0 and piece.offsets[place - 1][1] > span.start
        tags[place] = 1 + 2 * ENTITIES.index(span.label) + int(inside)
    return tags


def _choose(row: Row, text: str, slices: Sequence[Slice], random: np.random.Generator) -> int:
    if len(slices) == 1:
        return 0
    if row.attack and text == row.text:
        return int(random.integers(len(slices)))
    return 0 if offends(row) else int(random.integers(len(slices)))


def _labels(row: Row, task: str, piece: Slice, text: str) -> NDArray[np.float32]:
    values = np.array([row.labels.get(label, np.nan) for label in LABELS[task]], dtype=np.float32)
    if task == "injection" and row.attack and text == row.text:
        start = next(a for a, b in piece.offsets if b)
        end = max(b for _, b in piece.offsets)
        hit = any(min(end, b) - max(start, a) > (b - a) / 3 for a, b in row.attack)
        values[:] = np.where(np.isnan(values), np.nan, values * hit)
        if not hit:
            values[:] = 0
    return values
