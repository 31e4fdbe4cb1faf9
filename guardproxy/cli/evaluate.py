"""`guardproxy evaluate`: how good the adapters are on rows that they have not learnt from, as a report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from guardproxy.cli.calibrate import add_rows, named, tracker
from guardproxy.cli.data import needs
from guardproxy.errors import ConfigError

if TYPE_CHECKING:
    from guardproxy.backends.onnx.artefact import Artefact
    from guardproxy.backends.onnx.calibration import Calibration
    from guardproxy.evaluation.datasets import Row
    from guardproxy.evaluation.evaluate import Measured
    from guardproxy.evaluation.judging import Judge
    from guardproxy.evaluation.latency import Latency
    from guardproxy.evaluation.report import Evaluation

_PACKAGED = "packaged"
_SPLITS = ("train", "dev", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="all if none is named")
    parser.add_argument(
        "--adapters", default=_PACKAGED, metavar="DIR", help="a release; `packaged` for the one that comes along"
    )
    add_rows(parser)
    parser.add_argument("--splits", default="dev,test", metavar="A,B", help="of own rows (default: %(default)s)")
    parser.add_argument("--backend", choices=("onnx", "rules"), default="onnx", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for the report (default: DIR of --adapters/report)")
    parser.add_argument("--date", type=date.fromisoformat, help="that the report bears (default: today)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluates. Raises ConfigError where the release, the rows or the packages are not there."""
    needs("sklearn", "matplotlib")
    from guardproxy.backends.onnx.artefact import Artefact
    from guardproxy.evaluation import datasets, latency, release, report

    splits = arguments.splits.split(",")
    if not set(splits) <= set(_SPLITS):
        raise ConfigError(f"--splits: there are {', '.join(_SPLITS)}")
    artefact: Artefact | None = None
    if arguments.backend == "onnx":
        artefact = Artefact.load(None if arguments.adapters == _PACKAGED else arguments.adapters)
    checks = named(arguments.checks, artefact.adapters if artefact else datasets.LABELS)
    rows = datasets.parted(datasets.read_all(arguments.data))
    judge, calibrations = _judge(artefact, checks)
    trained = {
        check: release.trained_on(artefact.folder, check, artefact.adapters[check].card.version)
        if artefact
        else frozenset[str]()
        for check in checks
    }
    held = _held(rows, checks, trained, splits)
    measured = _measured(judge, calibrations, held, trained, arguments)
    told = report.Evaluation(
        f"onnx, adapters {artefact.release}" if artefact else "rules",
        (arguments.date or datetime.now(UTC).date()).isoformat(),
        latency.hardware(),
        measured,
        {check: len(its) for check, its in held.items()},
        {check: sorted(sources) for check, sources in trained.items()},
        _latency(artefact, held) if artefact else (),
    )
    output = arguments.output or (
        Path("build/report") if arguments.adapters == _PACKAGED or not artefact else Path(arguments.adapters) / "report"
    )
    report.write(told, output)
    if artefact and arguments.adapters != _PACKAGED:
        _keep(told, artefact)
    print(f"{output / 'report.md'}: {sum(len(each.cells) for each in measured)} groups of rows")
    return 0


def _judge(artefact: Artefact | None, checks: Sequence[str]) -> tuple[Judge, Mapping[str, Calibration]]:
    from guardproxy.evaluation import judging

    if artefact is None:
        ruled = judging.Ruled()
        return ruled, judging.identity(ruled)
    return judging.Graph(artefact, checks), {check: artefact.adapters[check].calibration for check in checks}


def _held(
    rows: Sequence[Row], checks: Sequence[str], trained: Mapping[str, frozenset[str]], splits: Sequence[str]
) -> Mapping[str, Sequence[Row]]:
    """The rows of each check. Checks that were trained on the same sources are gone through once."""
    from guardproxy.evaluation import selection

    found: dict[str, Sequence[Row]] = {}
    known: dict[frozenset[str], Sequence[Row]] = {}
    for check in checks:
        sources = trained[check]
        if sources not in known:
            known[sources] = selection.measured(rows, sources, splits)
        found[check] = selection.about(known[sources], check)
        if not found[check]:
            raise ConfigError(f"{check}: there are no rows to measure with in {', '.join(splits)}")
    return found


def _measured(
    judge: Judge,
    calibrations: Mapping[str, Calibration],
    held: Mapping[str, Sequence[Row]],
    trained: Mapping[str, frozenset[str]],
    arguments: argparse.Namespace,
) -> list[Measured]:
    from guardproxy.evaluation import judging
    from guardproxy.evaluation.evaluate import evaluate, evaluate_entities

    found = []
    for check, rows in held.items():
        said = judging.judge_all(judge, rows, [check], arguments.threads, tracker(check, arguments.quiet))
        labels = judge.labels[check]
        if check == judging.PII:
            found.append(evaluate_entities(labels, rows, said, calibrations[check], trained[check]))
        else:
            found.append(evaluate(check, labels, rows, said, calibrations[check], trained[check]))
    return found


def _latency(artefact: Artefact, held: Mapping[str, Sequence[Row]]) -> Sequence[Latency]:
    from guardproxy.evaluation import judging, latency

    graph = judging.Graph(artefact, list(artefact.adapters))
    rows = list({row.id: row for its in held.values() for row in its}.values())
    return latency.measure(graph, rows, list(artefact.adapters))


def _keep(told: Evaluation, artefact: Artefact) -> None:
    """The headline of each check beside its calibration."""
    from guardproxy.evaluation import release, report

    files = {
        f"{each.check}/{artefact.adapters[each.check].card.version}/{report.EVAL}": json.dumps(
            report.headline(told, each), indent=1
        )
        + "\n"
        for each in told.measured
    }
    release.put(artefact.folder, files)
