"""`guardproxy data`: look at labelled rows before anything is learnt from them or measured with them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from guardproxy.errors import ConfigError

if TYPE_CHECKING:
    from guardproxy.evaluation.data_check import Checked


def needs(*packages: str) -> None:
    """Raises ConfigError where a package of the extra `train` is missing."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigError(f"this needs {', '.join(missing)}: pip install 'guardproxy[train]'")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    actions = parser.add_subparsers(dest="data_action", metavar="ACTION", title="actions", required=True)
    check = actions.add_parser(
        "check",
        help="duplicates, leaks between splits, balance of languages, shortcuts, agreement",
        description="Looks for what makes rows unfit to learn from or to measure with; exit status 1 beyond a limit.",
    )
    check.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="rows to read, *.jsonl")
    check.add_argument("--json", action="store_true", help="everything that was found out, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Checks the rows. Raises ConfigError where they cannot be read."""
    needs("sklearn")
    from guardproxy.evaluation import data_check, datasets

    rows = datasets.parted(datasets.read_all(arguments.folders))
    if not rows:
        raise ConfigError("there are no rows in these folders")
    checked = data_check.check(rows, datasets.second(arguments.folders))
    if arguments.json:
        print(json.dumps({**asdict(checked), "failed": checked.failed}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_shown(checked)))
    return 1 if checked.failed else 0


def _shown(checked: Checked) -> Sequence[str]:
    lines = [f"{checked.rows} rows"]
    for title, table in (("the same text", checked.twice), ("nearly the same text", checked.pairs)):
        lines.append(f"\n{title}: {', '.join(f'{where} {n}' for where, n in sorted(table.items())) or 'none'}")
    if checked.probes:
        lines.append("\nwhat tells a label (area under the ROC curve, 0.5 is nothing)")
        lines.append(
            f"  {'label':<20}{'rows':>7}{'true':>7}{'length':>8}{'surface':>9}{'words':>7}  words for it | against it"
        )
    for label, told in checked.probes.items():
        words = f"{' '.join(told['for_it'][:6])} | {' '.join(told['against'][:6])}"
        areas = f"{told['length']:>8.2f}{told['surface']:>9.2f}{told['words']:>7.2f}"
        lines.append(f"  {label:<20}{told['rows']:>7}{told['positives']:>7}{areas}  {words}")
    if checked.kappas:
        agreed = ", ".join(f"{label} {value:.2f} ({n})" for label, (value, n) in checked.kappas.items())
        lines.append(f"\nagreement of two verdicts (kappa): {agreed}")
    lines += ["", "rows in a language that have the label", *_balance(checked), ""]
    for problem in checked.problems:
        lines.append(f"{'WRONG' if problem.fatal else 'note '}  {problem.rule}: {problem.what}")
    lines.append("not fit: see above" if checked.failed else "within all limits")
    return lines


def _balance(checked: Checked) -> Sequence[str]:
    totals: dict[tuple[str, str], list[int]] = {}
    for label, _, lang, rows, positives in checked.balance:
        cell = totals.setdefault((label, lang), [0, 0])
        cell[0] += rows
        cell[1] += positives
    labels = [label for label in ("unsafe", "injection", "noncompliant") if any(key[0] == label for key in totals)]
    lines = []
    for label in labels:
        mine = sorted(((cell, lang) for (its, lang), cell in totals.items() if its == label), reverse=True)[:12]
        lines.append(f"  {label:<14}" + ", ".join(f"{lang} {cell[1]}/{cell[0]}" for cell, lang in mine))
    return lines
