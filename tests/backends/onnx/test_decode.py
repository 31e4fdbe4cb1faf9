"""Probabilities, findings and doubts of one check."""

import math
from dataclasses import replace

import numpy as np
import pytest

from guardproxy.backends.base import NOTHING
from guardproxy.backends.onnx.artefact import TOKENIZER, Adapter, Artefact
from guardproxy.backends.onnx.calibration import Calibration, Curve, OperatingPoint
from guardproxy.backends.onnx.decode import UNSURE, Decoder, Judgement, answer
from guardproxy.backends.onnx.encode import Encoder, Slice
from guardproxy.errors import BackendError
from guardproxy.reading import Reading
from guardproxy.types import Finding, Scope, Segment, Window


def reading(text: str) -> Reading:
    return Reading(Window(Segment("c", (), "user", Scope.PROMPT, text), 0, 0, len(text), len(text), text))


@pytest.fixture
def toxicity(artefact: Artefact) -> Adapter:
    curves = {"toxic": Curve(2.0, -1.0), "unsafe": Curve()}
    return Adapter(artefact.adapters["toxicity"].card, Calibration(curves))


def pieces(number: int) -> list[Slice]:
    return [Slice(np.zeros(4, np.int64), np.zeros(4, np.int64), [(0, 0)] * 4, 0)] * number


def test_calibrated_and_the_highest_of_all_slices(toxicity: Adapter) -> None:
    logits = [np.array([1.0, -3.0], np.float32), np.array([-2.0, 0.5], np.float32)]
    judgement = Decoder(toxicity).judge("text", pieces(2), logits)
    sigmoid = [1 / (1 + math.exp(-z)) for z in (2.0 * 1.0 - 1.0, 0.5)]
    assert judgement.scores == pytest.approx(sigmoid)
    assert answer(toxicity.card, judgement, reading("text")).scores == {
        "toxic": pytest.approx(sigmoid[0]),
        "unsafe": pytest.approx(sigmoid[1]),
    }


@pytest.mark.parametrize(
    ("logits", "doubt"), [((0.1, -5), True), ((0.1, 5), False), ((-5, -5), False), ((-5, 0.1), True)]
)
def test_neither_sure_that_there_is_something_nor_that_there_is_nothing(
    toxicity: Adapter, logits: tuple[float, float], doubt: bool
) -> None:
    unsure = Adapter(replace(toxicity.card, uncertain=(0.4, 0.6)), Calibration({"toxic": Curve(), "unsafe": Curve()}))
    judgement = Decoder(unsure).judge("text", pieces(1), [np.array(logits, np.float32)])
    assert judgement.abstained == (UNSURE if doubt else "")
    assert len(answer(unsure.card, judgement, reading("text")).scores) == 2  # kept in any case


@pytest.mark.parametrize("logits", [[math.nan, 0.0], [0.0, math.inf], [0.0], [[0.0, 0.0]], [0.0, 0.0, 0.0]], ids=str)
def test_what_is_no_answer_is_an_error(toxicity: Adapter, logits: list[float]) -> None:
    with pytest.raises(BackendError, match="malformed"):
        Decoder(toxicity).judge("text", pieces(1), [np.array(logits, np.float32)])


def found(artefact: Artefact, calibration: Calibration, strength: float, uncertain: tuple[float, float]) -> Judgement:
    card = replace(artefact.adapters["pii"].card, uncertain=uncertain)
    text = "hello alice"
    slices = Encoder(artefact.folder / TOKENIZER, 32, 8).encode(text, "prompt")
    logits = np.zeros((slices[0].tokens, 5), np.float32)
    logits[:, 0] = 20
    logits[3] = [0, strength, -20, -20, -20]
    return Decoder(Adapter(card, calibration)).judge(text, slices, [logits])


def test_findings_have_their_label_s_calibrated_score(artefact: Artefact) -> None:
    calibration = Calibration({"PERSON": Curve(0.5, 1.0), "ADDRESS": Curve()})
    judgement = found(artefact, calibration, 3.0, (0.5, 0.5))
    assert judgement == Judgement(findings=(Finding("PERSON", 6, 11, judgement.findings[0].score),))
    assert judgement.findings[0].score == pytest.approx(1 / (1 + math.exp(-(0.5 * 3.0 + 1.0))), abs=1e-6)


@pytest.mark.parametrize(("shift", "reported"), [(-4.0, 0), (-3.01, 0), (-2.99, 1), (0.0, 1)])
def test_what_is_less_likely_than_not_is_no_finding(artefact: Artefact, shift: float, reported: int) -> None:
    """Not even where an operating point is lower."""
    curves = {"PERSON": Curve(1.0, shift), "ADDRESS": Curve()}
    points = {"PERSON": {"5%": OperatingPoint(0.05, 0.2, 0.9, 0.8, 1.0)}}
    for calibration in (Calibration(curves), Calibration(curves, points)):
        assert len(found(artefact, calibration, 3.0, (0.5, 0.5)).findings) == reported


def test_a_doubtful_finding_is_an_abstention_that_keeps_it(artefact: Artefact) -> None:
    curves = Calibration({"PERSON": Curve(), "ADDRESS": Curve()})
    judgement = found(artefact, curves, 0.5, (0.4, 0.7))
    assert (judgement.abstained, len(judgement.findings)) == (UNSURE, 1)


def test_nothing_is_nothing(artefact: Artefact) -> None:
    card = artefact.adapters["pii"].card
    assert answer(card, Judgement(), reading("x")) is NOTHING
    assert answer(card, Judgement("unsupported language"), reading("x")).abstained == "unsupported language"


def test_findings_are_where_the_original_has_them(artefact: Artefact) -> None:
    card = artefact.adapters["pii"].card
    text = "\u200bhi \uff41\u200blice!"
    its = reading(text)
    assert its.plain == "hi alice!"
    (there,) = answer(card, Judgement(findings=(Finding("PERSON", 3, 8, 0.9),)), its).findings
    assert text[there.start : there.end] == "\uff41\u200blice"
