"""`guardproxy bench`: what the proxy adds in the user's own set-up. Sends nothing over a network unasked, since that
costs.

Status 0: measured, and every request answered. 1: measured, but some failed or were declined, or no round was finished.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from guardproxy.bench import report
from guardproxy.bench.compare import Step, Targets, compare
from guardproxy.bench.load import Load
from guardproxy.bench.stats import Round
from guardproxy.errors import ConfigError
from guardproxy.testing.processes import proxy_process, upstream_process

_DESCRIPTION = """\
Sends the same chat completions directly and through the proxy, in turn, and says what the proxy
adds. Without URLs it measures a proxy of its own before a pretend upstream on this machine; with
--direct alone, a proxy of its own before that. Figures are medians over the rounds, with
[smallest, largest]; added and ratio are taken within each round.
"""
_RATE, _STREAM_RATE = 40.0, 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = _DESCRIPTION
    targets = parser.add_argument_group("what is measured")
    targets.add_argument("--direct", metavar="URL", default="", help="base URL of the upstream itself, ending in /v1")
    targets.add_argument("--proxy", metavar="URL", default="", help="base URL of a running proxy; needs --direct")
    targets.add_argument("--policy", metavar="FILE", default="", help="policy of a proxy that bench starts itself")
    targets.add_argument("--model", default="pretend", help="model to ask for (default: pretend)")
    targets.add_argument(
        "--api-key-env", metavar="NAME", default="", help="environment variable that holds the key for both URLs"
    )
    targets.add_argument("--yes", action="store_true", help="send to other machines too, although it costs real tokens")
    _add_load(parser.add_argument_group("load"))
    answers = parser.add_argument_group("answers of the pretend upstream")
    answers.add_argument(
        "--answer-bytes", type=_number(1, 1 << 20), metavar="N", default=600, help="length (default: 600)"
    )
    answers.add_argument(
        "--events", type=_number(1, 10_000), metavar="N", default=50, help="events a stream (default: 50)"
    )
    answers.add_argument(
        "--pause-ms", type=_real(0, 10_000), metavar="MS", default=10.0, help="between events (default: 10)"
    )
    parser.add_argument(
        "--json", metavar="FILE", default="", help="write all figures here as well; - for standard output"
    )


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--requests",
        type=_number(1, 100_000),
        metavar="N",
        default=200,
        help="to each target in each round (default: 200)",
    )
    group.add_argument("--rounds", type=_number(1, 100), metavar="N", default=5, help="(default: 5)")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument(
        "--rate",
        type=_real(0.01, 20_000),
        metavar="R",
        help="requests a second, whatever comes back; latency counts from when each was due (default: 40; streams: 10)",
    )
    pace.add_argument(
        "--concurrency",
        type=_number(1, 1000),
        metavar="C",
        help="so many requests at a time instead, each after another",
    )
    group.add_argument(
        "--stream", action="store_true", help="ask for streams; measure the first token and events a second"
    )
    group.add_argument(
        "--prompt-bytes", type=_number(1, 1 << 24), metavar="N", default=700, help="length of the prompt (default: 700)"
    )
    group.add_argument(
        "--max-tokens", type=_number(1, 100_000), metavar="N", default=64, help="most that is asked for (default: 64)"
    )
    group.add_argument(
        "--timeout", type=_real(0.1, 3600), metavar="S", default=30.0, help="seconds for a request (default: 30)"
    )
    group.add_argument(
        "--limit", type=_real(1, 86_400), metavar="S", default=600.0, help="seconds for everything (default: 600)"
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table, and says by its status whether the figures are sound."""
    key = _key(args.api_key_env)
    _permit(args)
    load = _load(args)
    rounds, setting = asyncio.run(_measure(args, load, key))
    quiet = args.json == "-"
    if not rounds:
        print(f"no round was finished within {args.limit:g} seconds", file=sys.stderr)
        return 1
    if not quiet:
        _print(rounds, load, setting, args.rounds)
    if args.json:
        _write(args.json, report.document(rounds, stream=load.stream, setting=setting))
    return 0 if report.sound(rounds) else 1


def _load(args: argparse.Namespace) -> Load:
    rate = args.rate or (0.0 if args.concurrency else _STREAM_RATE if args.stream else _RATE)
    return Load(
        requests=args.requests,
        rate=rate,
        concurrency=args.concurrency or 1,
        stream=args.stream,
        prompt_bytes=args.prompt_bytes,
        model=args.model,
        max_tokens=args.max_tokens,
        timeout=args.timeout,
    )


async def _measure(args: argparse.Namespace, load: Load, key: str) -> tuple[list[Round], dict[str, Any]]:
    async with AsyncExitStack() as stack:
        direct = args.direct.rstrip("/") or await stack.enter_async_context(
            upstream_process(
                answer_bytes=args.answer_bytes, events=args.events, pause_ms=args.pause_ms if args.stream else 0.0
            )
        )
        proxy = args.proxy.rstrip("/") or await stack.enter_async_context(
            proxy_process(direct, *(["--policy", args.policy] if args.policy else []))
        )
        setting: dict[str, Any] = {
            "direct": direct,
            "proxy": proxy,
            "pace": f"{load.rate:g} requests a second" if load.rate else f"{load.concurrency} requests at a time",
            "stream": load.stream,
            "requests": load.requests,
            "prompt_bytes": load.prompt_bytes,
        }
        with _Progress(args.rounds) as progress:
            return await compare(Targets(direct, proxy, key), load, args.rounds, args.limit, progress), setting


def _permit(args: argparse.Namespace) -> None:
    """Refuses what cannot be meant, and what would cost money unasked."""
    if args.proxy and not args.direct:
        raise ConfigError("--proxy needs --direct: what is measured is the difference between the two")
    if args.proxy and args.policy:
        raise ConfigError("--policy is for a proxy that bench starts itself; the one at --proxy has its own")
    for flag, url in (("--direct", args.direct), ("--proxy", args.proxy)):
        if url and not args.yes and not _loopback(flag, url):
            count = 2 * args.requests * args.rounds
            raise ConfigError(
                f"{flag} is not on this machine: about {count} requests of {args.prompt_bytes} bytes, each for up to "
                f"{args.max_tokens} tokens, would be sent to it, and real tokens spent. Say --yes if that is meant."
            )


def _loopback(flag: str, url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{flag}: expected a base URL such as http://127.0.0.1:8080/v1")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key(name: str) -> str:
    if not name:
        return ""
    key = os.environ.get(name, "")
    if not key:
        raise ConfigError(f"--api-key-env: the environment variable {name} is not set")
    return key


def _print(rounds: list[Round], load: Load, setting: dict[str, Any], wanted: int) -> None:
    what = "streams" if load.stream else "answers"
    print(f"direct {setting['direct']}, proxy {setting['proxy']}")
    print(
        f"{len(rounds)} rounds of {load.requests} {what} each, {setting['pace']}, prompts of {load.prompt_bytes} bytes"
    )
    if len(rounds) < wanted:
        print(f"stopped by --limit after {len(rounds)} of {wanted} rounds")
    print()
    print(report.table(rounds, stream=load.stream))
    if not report.sound(rounds):
        print("\nNot every request was answered in full, so the two sides did not do the same work.")


def _write(target: str, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=2)
    if target == "-":
        print(text)
        return
    try:
        Path(target).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json: the file cannot be written: {error.strerror}") from None


class _Progress:
    """Says on standard error how far it is: one changing line on a terminal, else a line for each half of a round."""

    def __init__(self, rounds: int) -> None:
        self._rounds, self._live, self._shown = rounds, sys.stderr.isatty(), ""

    def __enter__(self) -> Callable[[Step], None]:
        return self._show

    def __exit__(self, *exc: object) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _show(self, step: Step) -> None:
        part = f"round {step.round} of {self._rounds}" if step.round else "warming up"
        if self._live:
            share = f"{step.done * 100 // step.requests:3d} %"
            line = f"{part}: {step.target} {share}"
            if line != self._shown:
                print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif (line := f"{part}: {step.target}") != self._shown:
            print(line, file=sys.stderr, flush=True)
        self._shown = line


def _number(low: int, high: int) -> Callable[[str], int]:
    def whole(word: str) -> int:
        value = int(word)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}")
        return value

    return whole


def _real(low: float, high: float) -> Callable[[str], float]:
    def number(word: str) -> float:
        value = float(word)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low:g} to {high:g}")
        return value

    return number
