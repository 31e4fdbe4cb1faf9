"""`guardproxy policy`: check that policies load, test them on the cases beside them, show the ones that come along."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from guardproxy.checks.registry import specs
from guardproxy.config import Settings
from guardproxy.errors import PolicyError
from guardproxy.policy.evaluate import combine, evaluate, needed
from guardproxy.policy.lint import lint
from guardproxy.policy.load import load, locate, shipped
from guardproxy.policy.model import Policy
from guardproxy.policy.points import Points
from guardproxy.policy.verify import Case, decide, differences, read_cases
from guardproxy.server.assembly import BACKENDS, backends_of, points_of, runner_of
from guardproxy.types import Decision

_PATIENCE = 60.0  # seconds for one case: what is tested is the policy, not this machine's speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    actions = parser.add_subparsers(dest="policy_action", metavar="ACTION", title="actions", required=True)
    check = actions.add_parser(
        "check",
        help="load policies; print every mistake with its line, and what is probably not meant",
        description="Loads policies and prints every mistake with its line and column (exit status 1), then warnings.",
    )
    test = actions.add_parser(
        "test",
        help="run the cases in NAME_test.yaml beside each policy",
        description=(
            "Runs the cases in NAME_test.yaml beside each policy; exit status 1 if one fails.\n"
            "A case that gives no verdicts is judged by the checks themselves. Judges are not asked."
        ),
    )
    for action in (check, test):
        action.add_argument(
            "policies",
            nargs="+",
            metavar="POLICY",
            help="a policy's file, a folder of them, or the name of one that comes along",
        )
        action.add_argument(
            "--adapters",
            default="",
            metavar="DIR",
            help="the release of adapters whose calibration stands behind `fpr` (default: the packaged one)",
        )
    show = actions.add_parser(
        "show",
        help="print a policy that comes along, to start one's own from",
        description="Prints a policy that comes along. Start your own from it: guardproxy policy show > my-policy.yaml",
    )
    show.add_argument("name", nargs="?", default="default", metavar="NAME", help="which one (default: default)")


def run(arguments: argparse.Namespace) -> int:
    """Runs one action. Raises PolicyError where there is nothing to look at, ConfigError for adapters that are none."""
    if arguments.policy_action == "show":
        sys.stdout.write(shipped(arguments.name).read_text("utf-8"))
        return 0
    files = [file for given in arguments.policies for file in _files(given)]
    settings = Settings(adapters=arguments.adapters)
    points = points_of(settings)  # shared, so that a release is read once for however many policies
    act = _check if arguments.policy_action == "check" else _test
    return max([act(file, settings, points) for file in files])


def _files(given: str) -> list[Path]:
    path = locate(given)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.glob("*.yaml") if not file.stem.endswith("_test"))
    if not files:
        raise PolicyError("there are no policies (*.yaml) in this folder", place=str(path))
    return files


def _check(file: Path, settings: Settings, points: Points) -> int:
    try:
        policy = load(file, specs(), backends=BACKENDS, points=points)
    except PolicyError as error:
        print(error)
        return 1
    for warning in lint(policy, settings.backend):
        print(f"{file}: warning: {warning}")
    print(f"{file}: ok, {policy.ref}, {len(policy.rules)} rules")
    return 0


def _test(file: Path, settings: Settings, points: Points) -> int:
    cases_file = file.with_name(f"{file.stem}_test.yaml")
    if not cases_file.exists():
        print(f"{file}: no cases; expected them in {cases_file.name} beside it")
        return 1
    try:
        policy = load(file, specs(), backends=BACKENDS, points=points)
        cases = read_cases(cases_file)
    except PolicyError as error:
        print(error)
        return 1
    failed = 0
    for case, decision in zip(cases, asyncio.run(_decisions(policy, cases, settings)), strict=True):
        found = differences(case, decision)
        failed += bool(found)
        for line in found:
            print(f"{case.place}: {case.name}: {line}")
    print(f"{file}: {len(cases) - failed} of {len(cases)} cases as expected")
    return 1 if failed else 0


async def _decisions(policy: Policy, cases: Sequence[Case], settings: Settings) -> list[Decision]:
    """What the policy says of each case."""
    if all(case.verdicts is not None for case in cases):
        return [decide(policy, case) for case in cases]
    runner, names = runner_of(policy, settings.backend, backends_of(settings), deadline=_PATIENCE), needed(policy)
    decisions: list[Decision] = []
    try:
        for case in cases:
            if case.verdicts is not None:
                decisions.append(decide(policy, case))
                continue
            judged = await runner.run(names[case.scope], case.segment, _PATIENCE)
            parts = [evaluate(policy, case.scope, case.role, each.verdicts, each.window) for each in judged]
            decisions.append(combine(parts, policy))
    finally:
        await runner.close()
    return decisions
