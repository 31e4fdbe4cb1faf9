"""Reads an operating point: a rate of false positives that a rule names in the place of a score.

    if: {check: injection, labels: injection, fpr: 1%}          or `score: {fpr: 1%}`, or `score: 'fpr: 1%'`

A rate stands for a threshold of each label, and each comes from the calibration of the model that gives the scores. A
point that the calibration lacks, because its rows had too few texts without the label, is an error: a threshold from
anywhere else would promise what nobody has measured. The promise is of the calibrated model's scores alone, and not of
what the rungs below it answer when it fails, nor of what a check finds by form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guardproxy.strict import Placed, Problems, Reader, clip, text

Points = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Thresholds by check, label and rate, the rate as it is written: {"injection": {"injection": {"1%": 0.93}}}."""

_FPR = "fpr"


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate as a rule asks for it; `place` is where to complain of it, and `prefix` how complaints begin."""

    word: str
    place: str
    prefix: str = ""


def take_rate(reader: Reader, problems: Problems) -> Rate | None:
    """Takes the rate that an `if` asks for, with the key that holds it; None where it asks for none, or wrongly."""
    score = reader.whole.value.get("score")
    written, place = reader.has(_FPR), reader.place(_FPR)
    word = reader.take(_FPR, text, None)
    if not written:
        return _within(score, reader, problems) if score is not None else None
    if score is not None:
        reader.node("score")
        problems.add(place, "`fpr` takes the place of `score`; write one of them")
        return None
    return None if word is None else Rate(_joined(word), place)


def thresholds(
    rate: Rate,
    check: str,
    labels: Sequence[tuple[str, Placed]] | None,
    points: Points | None,
    problems: Problems,
) -> dict[str, float]:
    """The threshold of each label at this rate. `labels`: those written and where, None where none are.

    What is missing goes to `problems`.
    """
    its = None if points is None else points.get(check)
    if not its:
        problems.add(rate.place, f"{rate.prefix}{_uncalibrated(check, points)}")
        return {}
    if labels is None:
        problems.add(rate.place, f"{rate.prefix}a rate needs `labels`: each label has a threshold of its own")
        return {}
    # Where rows were few, it is the low rates that are missing: the longest list is the whole one, in its order.
    rates = dict.fromkeys(word for known in sorted(its.values(), key=len, reverse=True) for word in known)
    if rate.word not in rates:
        there = ", ".join(rates) or "none"
        problems.add(rate.place, f"{rate.prefix}{check} has no operating point `{clip(rate.word)}`; it has {there}")
        return {}
    for label, node in labels:
        if rate.word not in its.get(label, {}):
            problems.add(node.place, _unpointed(label, rate.word, its))
    return {label: its[label][rate.word] for label, _ in labels if rate.word in its.get(label, {})}


def _within(score: Placed, reader: Reader, problems: Problems) -> Rate | None:
    """The rate in what is written at `score`, taken; None, and nothing taken, where there is none."""
    prefix = "`score`: "
    if isinstance(score.value, str) and _joined(score.value).startswith(f"{_FPR}:"):
        reader.node("score")
        return Rate(_joined(score.value).partition(":")[2], score.place, prefix)
    if not isinstance(score.value, dict) or _FPR not in score.value:
        return None
    reader.node("score")
    inner = Reader(score, problems, "an operating point")
    word = inner.take(_FPR, text, None)
    inner.finish()
    return None if word is None else Rate(_joined(word), inner.place(_FPR), prefix)


def _joined(word: str) -> str:
    return word.replace(" ", "")


def _uncalibrated(check: str, points: Points | None) -> str:
    others = ", ".join(other for other, its in (points or {}).items() if its)
    why = f"this release has none of {check}, only of {others}" if others else "no release of adapters here has one"
    return f"an operating point needs the check's calibration, and {why}; write a score instead, e.g. `score: 0.8`"


def _unpointed(label: str, rate: str, its: Mapping[str, Mapping[str, float]]) -> str:
    if label not in its:
        return f"the label {label} has no operating points: no calibrated model gives its scores"
    there = ", ".join(its[label]) or "none"
    return f"the label {label} has no operating point `{rate}`: too few texts without it; it has {there}"
