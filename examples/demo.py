"""Shows what guardproxy does: sends requests through it with the official client and prints both sides of each.

Starts a pretend upstream in this process and the proxy as a process of its own, with the default policy. No key, no
model and no network are needed. The exit status is 0 only if all went as demo_scenarios.py says it should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
from demo_scenarios import HEADER, SCENARIOS, Got, Scenario
from rich.console import Console
from rich.table import Table
from rich.text import Text

from guardproxy.errors import GuardproxyError
from guardproxy.testing import Upstream
from guardproxy.testing.processes import proxy_process

_WIDTH = 120
_STRICTEST = ("allow", "rewrite", "block")
_COLOURS = {"allow": "green", "rewrite": "yellow", "block": "red"}
_INVISIBLE = {"\u200b": "‹ZWSP›", "\u200c": "‹ZWNJ›", "\u200d": "‹ZWJ›"}
_GO_ON = """\
Against a real endpoint:

  guardproxy serve --upstream https://api.openai.com/v1

and, in your application, the one line   client = OpenAI(base_url="http://127.0.0.1:8080/v1")
Your key goes on to the upstream. `guardproxy policy --help` says how to write a policy of your own; `guardproxy bench`
measures what the proxy adds in your set-up."""


@dataclass(slots=True)
class Outcome:
    """What came of one scenario. `records`: the decision log's lines about it; `upstream`: what it was sent."""

    scenario: Scenario
    got: Got
    upstream: list[Any]
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def action(self) -> str:
        """The strictest action of the exchange's decisions."""
        return max((record["action"] for record in self.records), key=_STRICTEST.index, default="")

    @property
    def rules(self) -> list[str]:
        """The rules that applied, in order, each once."""
        return list(dict.fromkeys(rule for record in self.records for rule in record.get("rules", ())))

    def complaints(self) -> list[str]:
        """What did not go as it should; nothing, if all went well."""
        expected, upstream = self.scenario.expected, json.dumps(self.upstream, ensure_ascii=False)
        checks: Iterable[tuple[bool, str]] = (
            (bool(self.got.decision), "no decision id was returned"),
            (self.action == expected.action, f"expected {expected.action}, the decision was {self.action or 'none'}"),
            (bool(self.upstream) == expected.asked, f"the upstream was {'not ' if expected.asked else ''}asked"),
            (self.got.refused == expected.refused, "refused" if self.got.refused else "not refused"),
            *((text not in upstream, "the upstream saw what it should not") for text in expected.hidden),
            *((text in self.got.text, "the application lacks a part of the answer") for text in expected.returned),
            *((text not in self.got.text, "the application got what it should not") for text in expected.withheld),
        )
        return [complaint for held, complaint in checks if not held]


async def play(scenario: Scenario, upstream: Upstream, client: openai.AsyncOpenAI) -> Outcome:
    """Sends one scenario's request and notes what either side saw."""
    upstream.reset()
    upstream.reply(**scenario.answer)
    try:
        got = await scenario.send(client)
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        text = f"HTTP {error.status_code} {body.get('code') or ''}: {body.get('message') or ''}"
        got = Got(text, error.response.headers.get(HEADER, ""), error=400 <= error.status_code < 500)
    except openai.APIError as error:
        got = Got(f"{type(error).__name__}: {error}", "")
    return Outcome(scenario, got, [received.document for received in upstream.requests])


async def play_all(policy: str) -> list[Outcome]:
    """All scenarios in turn, with what the decision log says of each once the proxy has stopped."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "decisions.jsonl"
        flags = ["--decision-log", str(log), "--log-allowed", *(["--policy", policy] if policy else [])]
        settings = {name: value for name, value in os.environ.items() if not name.startswith("GUARDPROXY_")}
        async with (
            Upstream() as upstream,
            proxy_process(upstream.url, *flags, env=settings) as url,
            openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0, timeout=20) as client,
        ):
            outcomes = [await play(scenario, upstream, client) for scenario in SCENARIOS]
        records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for outcome in outcomes:
        outcome.records = [record for record in records if record.get("id") == outcome.got.decision]
    return outcomes


def seen(documents: list[Any]) -> str:
    """What the upstream was sent, as a reader wants it: the last message, the input, or the prompt."""
    if not documents:
        return "— (was not asked)"
    document = documents[-1]
    content = document.get("input") or document.get("messages", [{}])[-1].get("content")
    if not isinstance(content, list):
        return str(content)
    return " ".join(part.get("text") or f"[{part.get('type')}]" for part in content)


def shown(text: str) -> Text:
    """A text with what is invisible named, and with stand-ins marked."""
    for character, name in _INVISIBLE.items():
        text = text.replace(character, name)
    styled = Text(text)
    styled.highlight_regex(r"\[[A-Z][A-Z_]+(?:[_:][0-9a-z_]+)?\]", "bold cyan")
    styled.highlight_regex(r"‹[A-Z]+›", "dim")
    return styled


def report(outcomes: list[Outcome]) -> Table:
    """The table: a row for each scenario, with both sides and the decision."""
    table = Table(show_lines=True, width=_WIDTH)
    table.add_column("", width=2, justify="right")
    table.add_column("Case and decision", width=42)
    table.add_column("What was sent, what the model saw, what the application got", ratio=1)
    for number, outcome in enumerate(outcomes, 1):
        complaints = outcome.complaints()
        mark = Text(f"{number}", style="bold red" if complaints else "bold green")
        case = Text(outcome.scenario.title + "\n")
        case.append(outcome.action or "no decision", f"bold {_COLOURS.get(outcome.action, 'red')}")
        case.append("".join(f"\n  {rule}" for rule in outcome.rules), "dim")
        sides = Table.grid()
        sides.add_column(width=10, style="dim")
        sides.add_column(overflow="fold")
        sides.add_row("sent", shown(outcome.scenario.sent))
        sides.add_row("model saw", shown(seen(outcome.upstream)))
        sides.add_row("returned", shown(outcome.got.text.strip()))
        if outcome.got.finish == "content_filter":
            sides.add_row("", Text("finish_reason: content_filter", style="dim"))
        for complaint in complaints:
            sides.add_row("WRONG", Text(complaint, style="bold red"))
        table.add_row(mark, case, sides)
    return table


def main() -> int:
    """Plays everything and prints it; 0 if all went as it should, 1 if not, 2 if it could not start."""
    parser = argparse.ArgumentParser(description="Shows what guardproxy does, against a pretend upstream.")
    parser.add_argument("--policy", default="", help="policy to show (default: the one that comes along)")
    policy = parser.parse_args().policy
    console = Console(width=_WIDTH, highlight=False)
    console.print("Starting a pretend upstream and the proxy …\n")
    try:
        outcomes = asyncio.run(play_all(policy))
    except GuardproxyError as error:
        console.print(f"The demo could not start: {error}", markup=False)
        return 2
    console.print(report(outcomes))
    wrong = sum(bool(outcome.complaints()) for outcome in outcomes)
    console.print(
        f"\n{len(outcomes) - wrong} of {len(outcomes)} went as they should.\n", style="red" if wrong else "green"
    )
    console.print(_GO_ON, markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
