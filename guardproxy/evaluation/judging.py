"""Rows through the serving graph: the very windows, tokens, slices and passes of the proxy, with the logits kept.

A probability is a rising function of its logit, so the highest logit of a text's windows and slices has the highest
probability: what is fitted and measured here is what serving says. Entities are cut and placed as serving does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from guardproxy.backends.onnx.artefact import TOKENIZER, Artefact
from guardproxy.backends.onnx.calibration import Calibration, Curve
from guardproxy.backends.onnx.card import Card
from guardproxy.backends.onnx.encode import FRAME, Encoder, Slice
from guardproxy.backends.onnx.entities import Logits, entities
from guardproxy.backends.onnx.fitness import unfit
from guardproxy.backends.onnx.session import graphs_of
from guardproxy.backends.rules import CHECKS as RULED
from guardproxy.backends.rules import Rules
from guardproxy.checks.pii import Pii
from guardproxy.evaluation.datasets import ENTITIES, LABELS, Row
from guardproxy.evaluation.metrics import Floats
from guardproxy.reading import Reading
from guardproxy.types import Finding, Scope, Segment, Window
from guardproxy.windows import windows_of

PII = "pii"
_SURE = 1e-6  # probabilities of rules are kept this far from 0 and 1, so that they have logits
_SCOPES = {"prompt": Scope.PROMPT, "completion": Scope.COMPLETION, "tool_result": Scope.TOOL_RESULT}
_ACCOUNTS = frozenset({"IBAN_CODE", "US_BANK_NUMBER", "ABA_ROUTING_NUMBER", "CRYPTO"})
_NO_ENTITY = frozenset({"MAC_ADDRESS"})  # has no counterpart among the marked ones

Track = Callable[[Iterable[int], int], Iterable[int]]
"""Watches numbers go by, of which there are so many."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entity at [start, end) of a row's text, by one of ENTITIES.

    `logit`: not calibrated for a model's; that of the confidence for one that has a form (`formed`).
    """

    label: str
    start: int
    end: int
    logit: float
    formed: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What a backend says of one row. Of checks that were asked: logits by label, NaN where it abstained.

    `found`: the model's entities; `merged`: those and the ones that have a form, as serving puts them together.
    """

    logits: Mapping[str, Floats] = field(default_factory=dict)
    found: tuple[Found, ...] = ()
    merged: tuple[Found, ...] = ()
    abstained: Mapping[str, str] = field(default_factory=dict)


class Judge(Protocol):
    """Judges rows. Safe to ask from several threads at once."""

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each check that it judges."""
        ...

    def judge(self, row: Row, checks: Collection[str]) -> Judged: ...


def wanted(row: Row, checks: Collection[str]) -> frozenset[str]:
    """The checks of which something is known for the row."""
    return frozenset(
        check for check in checks if (row.spans is not None if check == PII else row.labels.keys() & set(LABELS[check]))
    )


def judge_all(
    judge: Judge,
    rows: Sequence[Row],
    checks: Collection[str],
    threads: int = 2,
    track: Track = lambda numbers, _: numbers,
) -> list[Judged]:
    """What the judge says of each row, asked for the checks of which something is known."""
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda row: judge.judge(row, wanted(row, checks)), rows)
        return [result for result, _ in zip(results, track(range(len(rows)), len(rows)), strict=True)]


class Graph:
    """The embedded models of a release."""

    def __init__(self, artefact: Artefact, checks: Collection[str]) -> None:
        """Raises ConfigError for a release that is not sound."""
        self.cards: Mapping[str, Card] = {check: artefact.adapters[check].card for check in checks}
        self.labels = {check: card.labels for check, card in self.cards.items()}
        self.encoder = Encoder(Path(artefact.folder) / TOKENIZER, artefact.max_tokens, artefact.overlap)
        self._graph = graphs_of(artefact, [frozenset(checks)])[-1]
        self._forms = Pii({})

    def judge(self, row: Row, checks: Collection[str]) -> Judged:
        """One row, window by window."""
        most = {check: np.full(len(self.labels[check]), -np.inf) for check in checks if check != PII}
        abstained: dict[str, str] = {}
        read: set[str] = set()
        found: list[Found] = []
        merged: list[Found] = []
        for reading in readings(row):
            slices = self.encoder.encode(reading.plain, row.role)
            reasons = {check: unfit(self.cards[check], reading.plain, slices, self.encoder.unknown) for check in checks}
            abstained |= {check: reason for check, reason in reasons.items() if reason}
            fit = [check for check, reason in reasons.items() if not reason]
            read.update(fit)
            logits = [self._graph.run(piece) for piece in slices] if fit else []
            for check in fit:
                if check != PII:
                    most[check] = np.maximum(most[check], np.max([values[check] for values in logits], axis=0))
            if PII in checks:
                own = self._entities(reading, slices, [values[PII] for values in logits]) if PII in fit else []
                found += _placed(own, reading.window)
                merged += _placed(together(self._forms, reading, own), reading.window)
        return Judged(
            {check: values if check in read else values * np.nan for check, values in most.items()},
            once(found),
            once(merged),
            {check: reason for check, reason in abstained.items() if check not in read},
        )

    def _entities(self, reading: Reading, slices: Sequence[Slice], logits: Sequence[Logits]) -> list[Found]:
        card = self.cards[PII]
        return [
            Found(card.labels[label], *reading.original(start, end), logit)
            for label, start, end, logit in entities(reading.plain, slices, logits, card.overlap)
        ]

    def tokens(self, row: Row) -> int:
        """The tokens of a row's text, frame left out."""
        slices = self.encoder.encode(row.text, row.role)
        again = self.encoder.overlap * (len(slices) - 1)
        return sum(piece.tokens - FRAME for piece in slices) - again

    def seconds(self, row: Row, checks: Collection[str]) -> float:
        """What judging the row takes, on one thread: tokenising, passes and decoding."""
        started = perf_counter()
        self.judge(row, checks)
        return perf_counter() - started


class Ruled:
    """The rules, for comparison: their confidences as logits."""

    def __init__(self) -> None:
        self._rules, self._forms = Rules.load(), Pii({})
        self.labels = {check: LABELS[check] for check in RULED} | {PII: ENTITIES}

    def judge(self, row: Row, checks: Collection[str]) -> Judged:
        """One row, window by window."""
        scores: dict[str, NDArray[np.float64]] = {}
        for check in checks:
            if check != PII:
                answers = self._rules.classify_now(check, readings(row))
                table = [[answer.scores.get(label, 0.0) for label in LABELS[check]] for answer in answers]
                scores[check] = logit(np.max([*table, [0.0] * len(LABELS[check])], axis=0))
        merged: list[Found] = []
        for reading in readings(row) if PII in checks else ():
            merged += _placed(together(self._forms, reading, ()), reading.window)
        return Judged(scores, (), once(merged))


def identity(judge: Judge) -> Mapping[str, Calibration]:
    """Calibrations that leave logits as they are."""
    return {check: Calibration({label: Curve() for label in labels}) for check, labels in judge.labels.items()}


def readings(row: Row) -> list[Reading]:
    """A row's text as serving reads it."""
    segment = Segment("text", ("text",), "", _SCOPES[row.role], row.text)
    return [Reading(window) for window in windows_of(segment)]


def together(forms: Pii, reading: Reading, own: Sequence[Found]) -> list[Found]:
    """What has a form in a reading, and what a model found there, put together by the check itself."""
    formed = forms.find(reading)
    modelled = {Finding(each.label, each.start, each.end, 0.0): each for each in own}
    result: list[Found] = []
    for finding in forms.merged(reading, formed, list(modelled)):
        mine = modelled.get(finding)
        label = coarse(finding.label)
        if mine is not None or label:
            confidence = float(logit(np.array(finding.score)))
            result.append(mine or Found(label, finding.start, finding.end, confidence, formed=True))
    return result


def coarse(label: str) -> str:
    """The one of ENTITIES that a recogniser's label belongs to; "" for none."""
    if label in ENTITIES:
        return label
    if label in _NO_ENTITY:
        return ""
    return "BANK_ACCOUNT" if label in _ACCOUNTS else "ID_NUMBER"


def once(found: Iterable[Found]) -> tuple[Found, ...]:
    """In the order of the text; what two windows found, as the surer one says."""
    surest: dict[tuple[int, int, str], Found] = {}
    for each in found:
        key = (each.start, each.end, each.label)
        if key not in surest or each.logit > surest[key].logit:
            surest[key] = each
    return tuple(surest[key] for key in sorted(surest))


def logit(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logits of probabilities, finite."""
    p = np.clip(probabilities, _SURE, 1 - _SURE)
    return np.asarray(np.log(p / (1 - p)))


def _placed(found: Iterable[Found], window: Window) -> Iterator[Found]:
    """Counted in the row's text, without what another window answers for."""
    for each in found:
        start, end = max(each.start + window.context_start, window.start), each.end + window.context_start
        if start < window.release and end > window.start:
            yield replace(each, start=start, end=end)
