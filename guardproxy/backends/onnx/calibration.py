"""Logits into probabilities that mean what they say, and thresholds that keep a promise about false positives.

Each label has its own map, fitted on data held apart from training, on the very graph that serves (PLATT: Platt 1999,
a sigmoid of a scaled and shifted logit; temperature scaling is the case without a shift). The prior of the data it was
fitted on is kept, so that the same scores can be read for traffic in which the event is rare.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardproxy.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Curve:
    """One label's map: probability = sigmoid(scale * logit + shift), for traffic with the prior it was fitted for."""

    scale: float = 1.0
    shift: float = 0.0
    prior: float = 0.5

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities, of the same form as the logits."""
        z = self.scale * logits.astype(np.float64) + self.shift
        return np.asarray(0.5 * (1 + np.tanh(z / 2)))

    def at(self, prior: float) -> Curve:
        """The same evidence read where the event has another prior (Saerens et al. 2002)."""
        return Curve(self.scale, self.shift + _logit(prior) - _logit(self.prior), prior)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The threshold that keeps false positives at `fpr` on held-apart negatives, and what it finds there."""

    fpr: float
    threshold: float
    recall: float
    recall_low: float
    recall_high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """An adapter's calibration. `curves` by label; `points` by label and false-positive rate, e.g. "1%"."""

    curves: Mapping[str, Curve] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, OperatingPoint]] = field(default_factory=dict)


def load(path: Path) -> Calibration:
    """Raises ConfigError where the file is not one."""
    try:
        data = json.loads(path.read_text("utf-8"))
        return Calibration(
            {label: Curve(**curve) for label, curve in data["curves"].items()},
            {
                label: {name: OperatingPoint(**point) for name, point in points.items()}
                for label, points in data["points"].items()
            },
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path.name} of {path.parent.parent.name}: {type(error).__name__}") from None


def dump(calibration: Calibration, path: Path) -> None:
    """Writes what load() reads."""

    def plain(value: Curve | OperatingPoint) -> dict[str, float]:
        # Nine digits, not decimals: thresholds for rare events are small.
        return {name: float(f"{getattr(value, name):.9g}") for name in type(value).__dataclass_fields__}

    data = {
        "curves": {label: plain(curve) for label, curve in calibration.curves.items()},
        "points": {
            label: {name: plain(point) for name, point in points.items()}
            for label, points in calibration.points.items()
        },
    }
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
