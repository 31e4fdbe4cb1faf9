"""`guardproxy scan`: judges a file of texts with the checks and the policy that guard live traffic."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from guardproxy import batch
from guardproxy.checks.registry import specs
from guardproxy.config import Settings
from guardproxy.errors import ConfigError
from guardproxy.policy.load import load, locate
from guardproxy.server.assembly import BACKENDS, backends_of, points_of, runner_of
from guardproxy.strict import suggest

_EPILOG = """\
In, one JSON object a line:   {"id": ..., "text": "...", "role": "prompt" | "completion" | "tool_result"}
Out, one for each, in order:  {"id": ..., "verdicts": [{"check", "outcome", "backend", "scores": {label: probability},
                              "findings": [{"label", "start", "end", "score"}]}], "decision": {"action", ...}}

Offsets are code points of the text as given. An outcome other than ok or degraded is no answer.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.epilog = _EPILOG
    parser.add_argument("input", type=Path, metavar="IN.jsonl", help="the rows")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT.jsonl", help="what is said of them")
    parser.add_argument(
        "--checks", default=",".join(batch.DEFAULT_CHECKS), metavar="A,B", help="(default: %(default)s)"
    )
    parser.add_argument("--backend", default="", metavar="NAME", help="of the checks' models (default: as served)")
    parser.add_argument(
        "--adapters", default="", metavar="DIR", help="a release of adapters (default: the packaged one)"
    )
    parser.add_argument("--policy", default="default", metavar="FILE", help="decides (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Scans. Raises ConfigError for rows, checks or backends that are none."""
    settings = Settings(adapters=arguments.adapters)
    checks = [name.strip() for name in arguments.checks.split(",") if name.strip()]
    for name in checks:
        if name not in specs():
            raise ConfigError(f"--checks: there is no check {name}{suggest(name, specs())}")
    backend = arguments.backend or settings.backend
    if backend not in BACKENDS:
        raise ConfigError(f"--backend: there is no {backend}; there are: {', '.join(BACKENDS)}")
    if not arguments.input.is_file():
        raise ConfigError(f"there is no file {arguments.input}")
    policy = load(locate(arguments.policy), specs(), backends=BACKENDS, points=points_of(settings))
    total = sum(1 for _ in batch.read(arguments.input))
    runner = runner_of(policy, backend, backends_of(settings), checks=checks, deadline=batch.DEADLINE)
    unfinished = arguments.output.with_name(arguments.output.name + ".part")

    async def write() -> None:
        began = shown = time.monotonic()
        try:
            with unfinished.open("w", encoding="utf-8") as output:
                done = 0
                async for row in batch.scan(batch.read(arguments.input), runner, policy, checks, parallel=8):
                    output.write(json.dumps(row, ensure_ascii=False) + "\n")
                    done += 1
                    if not arguments.quiet and (done == total or time.monotonic() - shown > 0.2):
                        shown = time.monotonic()
                        _show(done, total, shown - began)
        finally:
            await runner.close()

    asyncio.run(write())
    unfinished.replace(arguments.output)
    return 0


def _show(done: int, total: int, seconds: float) -> None:
    """A bar on a terminal, the last line alone elsewhere."""
    last = done == total
    if not (sys.stderr.isatty() or last):
        return
    pace = done / max(seconds, 1e-9)
    filled = "#" * (24 * done // total)
    print(f"\r[{filled:<24}] {done}/{total}  {pace:,.0f}/s", end="\n" if last else "", file=sys.stderr, flush=True)
