"""`guardproxy calibrate`: probabilities that mean what they say, and thresholds that keep their false-positive rate."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from guardproxy.cli.data import needs
from guardproxy.errors import ConfigError
from guardproxy.strict import suggest

if TYPE_CHECKING:
    from guardproxy.backends.onnx.artefact import Artefact
    from guardproxy.evaluation.calibrate import Report
    from guardproxy.evaluation.judging import Track


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="all of the release if none is named")
    parser.add_argument("--adapters", type=Path, required=True, metavar="DIR", help="the release, written to")
    add_rows(parser)
    parser.add_argument(
        "--prior", type=float, metavar="P", help="how often what a classifier looks for occurs in traffic"
    )
    parser.add_argument("--method", choices=("platt", "temperature"), default="", help="the better one by default")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for the pictures (default: DIR of --adapters/report)"
    )


def add_rows(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which rows there are, and how they are gone through."""
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="FOLDER", help="rows to read, *.jsonl; repeatable"
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="passes side by side (default: %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Calibrates. Raises ConfigError where the release, the rows or the packages are not there."""
    needs("sklearn", "matplotlib")
    if arguments.prior is not None and not 0 < arguments.prior < 1:
        raise ConfigError("--prior must be between 0 and 1")
    from guardproxy.backends.onnx.artefact import Artefact
    from guardproxy.evaluation import calibrate, datasets, judging, release, selection

    artefact = Artefact.load(arguments.adapters)
    checks = named(arguments.checks, artefact.adapters)
    rows = datasets.parted(datasets.read_all(arguments.data))
    how = calibrate.How(arguments.method, arguments.prior)
    output = arguments.output or arguments.adapters / "report"
    for check in checks:
        trained = release.trained_on(artefact.folder, check, artefact.adapters[check].card.version)
        held = selection.about(selection.development(rows, trained or frozenset(r.source for r in rows)), check)
        if not held:
            raise ConfigError(f"{check}: there are no rows to calibrate with, held apart from training")
        graph = judging.Graph(artefact, [check])
        judged = judging.judge_all(graph, held, [check], arguments.threads, tracker(check, arguments.quiet))
        report = calibrate.calibrate(check, graph.labels[check], held, judged, how)
        _write(report, artefact, output)
        print("\n".join(_shown(report, len(held))))
    return 0


def named(checks: Sequence[str], there: Collection[str]) -> Sequence[str]:
    """The checks asked for, or all that there are. Raises ConfigError for one that is not there."""
    for check in checks:
        if check not in there:
            raise ConfigError(f"there is no model for {check}{suggest(check, there)}; there are {', '.join(there)}")
    return list(checks) or sorted(there)


def tracker(what: str, quiet: bool) -> Track:
    """Shows how far it is, on standard error: a line that changes on a terminal, ten lines elsewhere."""

    def track(numbers: Iterable[int], total: int) -> Iterable[int]:
        live = sys.stderr.isatty()
        step = max(total // (100 if live else 10), 1)
        for number in numbers:
            yield number
            if not quiet and ((number + 1) % step == 0 or number + 1 == total):
                end = "\r" if live and number + 1 < total else "\n"
                print(f"{what}: {number + 1} of {total} rows", end=end, file=sys.stderr, flush=True)

    return track


def _write(report: Report, artefact: Artefact, output: Path) -> None:
    from guardproxy.backends.onnx import calibration
    from guardproxy.backends.onnx.artefact import CALIBRATION
    from guardproxy.evaluation import pictures, release

    version = artefact.adapters[report.check].card.version
    name = f"{report.check}/{version}/{CALIBRATION}"
    calibration.dump(report.calibration, artefact.folder / name)
    release.refresh(artefact.folder, [name])
    output.mkdir(parents=True, exist_ok=True)
    told = [asdict(each) for each in report.told]
    (output / f"calibration-{report.check}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    panels = [
        (
            each.label,
            each.before,
            each.after,
            f"before, error {each.ece_before.value:.3f}",
            f"calibrated, error {each.ece_after.value:.3f}",
        )
        for each in report.told
        if each.before
    ]
    if panels:
        title = f"{report.check}: what a probability is worth"
        pictures.reliability(title, panels[:9], output / f"reliability-{report.check}")


def _shown(report: Report, rows: int) -> Sequence[str]:
    lines = [f"{report.check}: {rows} rows held apart"]
    heads = f"  {'label':<22}{'rows':>6}{'true':>6}  {'method':<12}{'error before':>13}{'after':>7}"
    lines.append(f"{heads}   recall at 0.5/1/2/5 % false")
    for each in report.told:
        points = report.calibration.points.get(each.label, {})
        recalls = " ".join(
            f"{points[name].recall:.2f}" if name in points else "-" for name in ("0.5%", "1%", "2%", "5%")
        )
        lines.append(
            f"  {each.label:<22}{each.rows:>6}{each.positives:>6}  {each.method:<12}{each.ece_before.value:>13.3f}"
            f"{each.ece_after.value:>7.3f}   {recalls}"
        )
        lines += [f"    {warning}" for warning in each.warnings]
    return lines
