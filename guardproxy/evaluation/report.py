"""The report of an evaluation: tables for people, the same numbers for programs, pictures of both.

Each figure stands with the interval that it is in, and each source with whether it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from guardproxy.evaluation.data_check import UNIONS
from guardproxy.evaluation.evaluate import ALL, KINDS, LOOKALIKES, MERGED, MICRO, MODEL, POINT, STATUS, Cell, Measured
from guardproxy.evaluation.judging import PII
from guardproxy.evaluation.latency import Latency
from guardproxy.evaluation.metrics import Estimate

EVAL = "eval.json"
_TITLES = {
    "f1": "F1 at 0.5",
    "recall": "recall at 0.5",
    "fpr": "false positives at 0.5",
    "auprc": "AUPRC",
    "recall at 1% fpr": "recall at 1 % false",
    "ece": "calibration error",
    f"recall at point {POINT}": "recall at the 1 % point",
    f"fpr at point {POINT}": "false positives there",
}
_HEADS = {ALL: "### All rows", STATUS: "### By what was done with them", LOOKALIKES: "### Look-alikes"}
_MOST_BARS = 40  # of sets of look-alikes in a picture, the worst
_HEADLINE = ("f1", "auprc", "recall at 1% fpr", "fpr", "ece")
_HEADLINE_SPANS = (
    *(f"{how} f1, {whose}" for whose in (MERGED, MODEL) for how in ("strict", "relaxed")),
    f"false finds, {MERGED}",
)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured, and on what. `rows` by check."""

    backend: str
    date: str
    hardware: str
    measured: Sequence[Measured]
    rows: Mapping[str, int]
    trained: Mapping[str, Sequence[str]] = field(default_factory=dict)
    latency: Sequence[Latency] = ()


def write(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes report.md, report.json and the pictures. Needs matplotlib. The files that it made."""
    folder.mkdir(parents=True, exist_ok=True)
    made = _pictures(evaluation, folder)
    text, data = folder / "report.md", folder / "report.json"
    text.write_text(markdown(evaluation, [path.name for path in made if path.suffix == ".png"]), "utf-8")
    data.write_text(json.dumps(plain(evaluation), indent=1) + "\n", "utf-8")
    return [text, data, *made]


def plain(evaluation: Evaluation) -> Mapping[str, Any]:
    """Everything but the curves, as JSON can hold it; what could not be computed is null."""
    data = asdict(evaluation)
    for check in data["measured"]:
        del check["curves"]
    cleaned: Mapping[str, Any] = _without_nan(data)
    return cleaned


def headline(evaluation: Evaluation, measured: Measured) -> Mapping[str, Any]:
    """One check's eval.json: the figures of its union labels, for all rows and by what must be known of them."""
    cells = [asdict(c) for c in measured.cells if c.kind in (ALL, STATUS) and c.label in _main(measured.check)]
    said = {"backend": evaluation.backend, "date": evaluation.date, "hardware": evaluation.hardware}
    cleaned: Mapping[str, Any] = _without_nan({**said, "check": measured.check, "cells": cells})
    return cleaned


def markdown(evaluation: Evaluation, pictures: Sequence[str]) -> str:
    """The report for people."""
    lines = [
        "# Evaluation",
        "",
        f"Backend {evaluation.backend}, measured on {evaluation.date} on {evaluation.hardware}.",
        "",
        "In brackets: what 95 % of 1,000 resamples of the rows give; for shares of 0 and 1, which resampling cannot"
        " doubt, the exact interval. No model was trained on anything measured here. Rows *set aside* are of public"
        " sources whose other rows were; they and own rows of *dev* also gave calibration its curves and thresholds."
        " Own rows of *test* and sources *never trained on* gave nothing; the latter say most about other people's"
        " texts. Languages, lengths and look-alikes are of all rows together. The 1 % point is the threshold that"
        " calibration set for one false positive in a hundred.",
        "",
    ]
    for measured in evaluation.measured:
        lines += _summary(measured)
    if evaluation.latency:
        lines += _latency(evaluation.latency)
    for measured in evaluation.measured:
        lines += [f"## {measured.check}, in detail", "", f"{evaluation.rows[measured.check]} rows.", ""]
        trained = evaluation.trained.get(measured.check)
        if trained:
            lines += [f"Trained on: {', '.join(trained)}.", ""]
        lines += [f"![{name}]({name})\n" for name in pictures if name.removesuffix(".png").endswith(measured.check)]
        for kind in KINDS:
            lines += _table(measured, kind)
    return "\n".join(lines).rstrip() + "\n"


def _main(check: str) -> Sequence[str]:
    return (MICRO,) if check == PII else UNIONS[check]


def _summary(measured: Measured) -> list[str]:
    names = _HEADLINE_SPANS if measured.check == PII else _HEADLINE
    cells = [c for c in measured.cells if c.kind in (ALL, STATUS) and c.label in _main(measured.check)]
    return [f"## {measured.check}", "", *_rows(cells, [n for n in names if any(n in c.figures for c in cells)]), ""]


def _table(measured: Measured, kind: str) -> list[str]:
    cells = [cell for cell in measured.cells if cell.kind == kind]
    if not cells:
        return []
    names = list(dict.fromkeys(name for cell in cells for name in cell.figures))
    if kind == LOOKALIKES and measured.check != PII:
        names = [name for name in names if name.startswith("fpr")]
        cells = sorted((c for c in cells if "fpr" in c.figures), key=lambda c: (c.label, -c.figures["fpr"].value))
    return [_HEADS.get(kind, f"### By {kind}"), "", *_rows(cells, names), ""]


def _rows(cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    """A table in Markdown. A status stands behind the name of a source."""
    heads = " | ".join(_TITLES.get(name, name.replace("f1", "F1")) for name in names)
    lines = [f"| label | rows of | n | true | abstained | {heads} |"]
    lines.append("|---|---|" + "--:|" * (3 + len(names)))
    for cell in cells:
        group = f"{cell.group} ({cell.status})" if cell.status else cell.group
        figures = [_shown(cell.figures.get(name)) for name in names]
        lines.append(
            f"| {cell.label} | {group} | {cell.rows} | {cell.positives} | {cell.abstained} | {' | '.join(figures)} |"
        )
    return lines


def _latency(latency: Sequence[Latency]) -> list[str]:
    lines = ["## Time", "", "All checks of the release together, one thread, tokenising and decoding included.", ""]
    lines += ["| tokens | texts | p50 ms | p95 ms |", "|--:|--:|--:|--:|"]
    lines += [f"| {each.over + 1}-{each.upto} | {each.texts} | {each.p50:.1f} | {each.p95:.1f} |" for each in latency]
    return [*lines, ""]


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if np.isnan(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"


def _pictures(evaluation: Evaluation, folder: Path) -> list[Path]:
    # Imported here, since the tables and the JSON need no matplotlib.
    from guardproxy.evaluation import pictures

    made: list[Path] = []
    for measured in evaluation.measured:
        check = measured.check
        main = _main(check)[0]
        lines = {name: curve for name, curve in measured.curves.items() if name.startswith(f"{main}: ")}
        if lines:
            made += pictures.precision_recall(
                f"{check}: precision over recall", lines, folder / f"precision-recall-{check}"
            )
        panels = [
            (label, (), bins, "", f"error {_error(measured, label)}") for label, bins in measured.bins.items() if bins
        ]
        if panels:
            title = f"{check}: what a probability is worth"
            made += pictures.reliability(title, panels, folder / f"measured-reliability-{check}")
        wrong = "false finds, " + MERGED if check == PII else "fpr"
        alike = {
            cell.group.replace("/hard-", ": "): cell.figures[wrong]
            for cell in measured.cells
            if cell.kind == LOOKALIKES and cell.label == main and wrong in cell.figures and f"{check}/" in cell.group
        }
        alike = dict(sorted(alike.items(), key=lambda item: -item[1].value)[:_MOST_BARS])
        if alike:
            title, label = f"{check}: look-alikes taken for the real thing", "share flagged at 0.5"
            made += pictures.bars(title, label, alike, 0.1, folder / f"look-alikes-{check}")
    return made


def _error(measured: Measured, label: str) -> str:
    cell = measured.find(label, ALL, "all")
    return f"{cell.figures['ece'].value:.3f}" if cell and "ece" in cell.figures else ""


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
