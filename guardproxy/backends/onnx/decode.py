"""Logits into judgements: calibrated probabilities and findings, in the text that the models read.

A judgement holds numbers and positions and no text, so that it may be remembered. For traffic it becomes an Answer,
with findings where the original has them. Where a model is neither sure that there is something nor that there is
nothing, that is an abstention, which keeps its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guardproxy.backends.base import NOTHING, Answer
from guardproxy.backends.onnx.artefact import Adapter
from guardproxy.backends.onnx.card import SEQUENCE, Card
from guardproxy.backends.onnx.encode import Slice
from guardproxy.backends.onnx.entities import Logits, entities
from guardproxy.errors import BackendError
from guardproxy.reading import Reading
from guardproxy.types import Finding

UNSURE = "low confidence"
LEAST = 0.5  # what is less likely than not is no finding, so an operating point below this gives what this gives


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one check says of one text. `findings` count in the plain text; `scores` are in the card's order."""

    abstained: str = ""
    scores: tuple[float, ...] = ()
    findings: tuple[Finding, ...] = ()


class Decoder:
    """One check's way from logits to judgements. Immutable."""

    def __init__(self, adapter: Adapter) -> None:
        card, calibration = adapter.card, adapter.calibration
        self.card = card
        curves = [calibration.curves[label] for label in card.labels]
        self._curves = dict(enumerate(curves))
        self._scale = np.array([curve.scale for curve in curves])
        self._shift = np.array([curve.shift for curve in curves])

    def judge(self, text: str, slices: Sequence[Slice], logits: Sequence[Logits]) -> Judgement:
        """`logits`: one array for each slice. Raises BackendError for arrays of another form, and for NaN."""
        for piece, values in zip(slices, logits, strict=True):
            if not self.understands(piece, values) or not np.isfinite(values).all():
                raise BackendError("malformed scores")
        return self._scores(logits) if self.card.kind == SEQUENCE else self._findings(text, slices, logits)

    def understands(self, piece: Slice, values: Logits) -> bool:
        """Whether logits have the form that the card says, for a slice."""
        rows = () if self.card.kind == SEQUENCE else (piece.tokens,)
        return values.shape == (*rows, self.card.outputs)

    def _scores(self, logits: Sequence[Logits]) -> Judgement:
        """The highest probability that any slice gives each label."""
        z = self._scale * np.stack(logits).astype(np.float64) + self._shift
        scores = tuple((0.5 * (1 + np.tanh(z / 2))).max(axis=0).tolist())
        return Judgement(UNSURE if _unsure(self.card, max(scores)) else "", scores)

    def _findings(self, text: str, slices: Sequence[Slice], logits: Sequence[Logits]) -> Judgement:
        """The entities, and whether one of them is doubtful."""
        findings: list[Finding] = []
        unsure = False
        for label, start, end, logit in entities(text, slices, logits, self.card.overlap):
            score = float(self._curves[label](np.array(logit)))
            unsure = unsure or _unsure(self.card, score)
            if score >= LEAST:
                findings.append(Finding(self.card.labels[label], start, end, score))
        return Judgement(UNSURE if unsure else "", (), tuple(findings))


def answer(card: Card, judgement: Judgement, reading: Reading) -> Answer:
    """The judgement as it is told: labels by name, findings as positions in the text as it came."""
    if not judgement.scores and not judgement.findings and not judgement.abstained:
        return NOTHING
    return Answer(
        dict(zip(card.labels, judgement.scores, strict=False)),
        tuple(
            Finding(found.label, *reading.original(found.start, found.end), found.score) for found in judgement.findings
        ),
        judgement.abstained,
    )


def _unsure(card: Card, probability: float) -> bool:
    low, high = card.uncertain
    return low < probability < high
