"""The backend in a policy's ladder and behind the command line's --backend, from assembly to a real request."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from guardproxy.backends.base import Answer
from guardproxy.backends.onnx.backend import Onnx
from guardproxy.checks.registry import specs
from guardproxy.checks.runner import ConfiguredCheck, Runner
from guardproxy.checks.toxicity import Toxicity
from guardproxy.config import Settings
from guardproxy.errors import ConfigError, PolicyError
from guardproxy.policy.load import parse
from guardproxy.policy.model import Policy
from guardproxy.server.assembly import BACKENDS, backends_of, runner_of
from guardproxy.testing import Upstream
from guardproxy.testing.proxy import Proxy
from guardproxy.types import Outcome, Scope, Segment

RULES = """
  - {id: toxic, where: everywhere, if: {check: toxicity, labels: [toxic]}, then: block}
  - {id: injected, where: [tool_result], if: {check: injection}, then: block}
  - {id: failed, where: everywhere, if: {outcome: [abstained, timeout, error], checks: any}, then: block}
"""
LADDERS = "{toxicity: {ladder: [onnx, rules]}, injection: {ladder: [onnx]}}"


def text_of(checks: str = "{}", rules: str = RULES) -> str:
    return f'name: test\nversion: "1"\nchecks: {checks}\nrules:{rules}'


def policy(checks: str = "{}", rules: str = RULES) -> Policy:
    return parse(text_of(checks, rules), specs(), backends=BACKENDS)


def segment(text: str, scope: Scope = Scope.PROMPT) -> Segment:
    return Segment("c", (), "user", scope, text)


async def test_a_ladder_names_it(folder: Path) -> None:
    made = backends_of(Settings(adapters=str(folder)))
    runner = runner_of(policy(LADDERS), "", made)
    try:
        assert await runner.health() == {"onnx": "", "rules": ""}
        (judged,) = await runner.run(["toxicity"], segment("you rude man"), 20.0)
        (verdict,) = judged.verdicts
        assert (verdict.outcome, verdict.scores["toxic"] > 0.9) == (Outcome.OK, True)
        assert verdict.backend.startswith("onnx@tiny+")
    finally:
        await runner.close()


def backend_of(runner: Any, check: str) -> Any:
    return runner._configured[check].ladder[0]


async def test_graphs_are_compiled_for_what_each_scope_asks(folder: Path) -> None:
    rules = RULES + "  - {id: names, where: [completion], if: {check: pii, labels: [EMAIL_ADDRESS]}, then: flag}\n"
    checks = LADDERS.replace("}}", "}, pii: {ladder: [onnx]}}")
    runner = runner_of(policy(checks, rules), "", backends_of(Settings(adapters=str(folder))))
    backend = backend_of(runner, "toxicity")
    assert backend is backend_of(runner, "pii")
    graphs = [graph.checks for graph in backend.pool._reader._graphs]
    assert graphs == [{"toxicity", "injection"}, {"toxicity", "injection", "pii"}]
    await runner.close()


async def test_the_setting_puts_it_above_the_rules(folder: Path) -> None:
    runner = runner_of(policy(), "onnx", backends_of(Settings(adapters=str(folder), backend="onnx")))
    ladders = {name: [rung.name for rung in each.ladder] for name, each in runner._configured.items()}
    assert ladders == {"toxicity": ["onnx", "rules"], "injection": ["onnx", "rules"]}
    await runner.close()
    plain = runner_of(policy(), "rules")
    assert [rung.name for rung in plain._configured["toxicity"].ladder] == ["rules"]
    assert plain.waits is False


def test_a_check_that_the_release_lacks_is_the_policy_s_error(folder: Path) -> None:
    rules = "\n  - {id: c, where: everywhere, if: {check: compliance}, then: block}\n"
    with pytest.raises(PolicyError, match=r"onnx.*no compliance"):
        runner_of(policy(rules=rules), "onnx", backends_of(Settings(adapters=str(folder))))


def test_adapters_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        runner_of(policy(LADDERS), "", backends_of(Settings(adapters=str(tmp_path))))


def test_workers_share_the_cores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def load(*_: Any, workers: int) -> Any:
        asked.append(workers)

    monkeypatch.setattr(Onnx, "load", load)
    monkeypatch.setattr("guardproxy.backends.onnx.backend.cores", lambda: 8)
    for workers in (1, 2, 3, 16):
        backends_of(Settings(workers=workers))["onnx"]([])
    assert asked == [8, 4, 2, 1]


async def test_the_tenant_reaches_the_backend() -> None:
    seen: list[tuple[str, bool]] = []

    class Backend:
        name, version = "seeing", "1"

        async def classify(self, check: str, readings: Any, *, budget: float) -> Any:
            seen.extend((reading.tenant, 0 < budget <= 1.0) for reading in readings)
            return [Answer() for _ in readings]

    runner = Runner({"toxicity": ConfiguredCheck(Toxicity({}), (Backend(),), 1.0)})  # type: ignore[arg-type]
    await runner.run(["toxicity"], segment("hi"), 5.0, tenant="acme")
    await runner.run(["toxicity"], segment("hi"), 5.0)
    assert seen == [("acme", True), ("", True)]


async def said(client: openai.AsyncOpenAI, text: str) -> str:
    try:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    except openai.BadRequestError as error:
        return str(error.code)
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("how", ["ladder", "setting"])
async def test_through_the_proxy(folder: Path, how: str) -> None:
    settings = {"backend": "onnx"} if how == "setting" else {}
    checks = LADDERS if how == "ladder" else "{}"
    async with (
        Upstream() as upstream,
        Proxy(upstream.url, policy=text_of(checks), adapters=str(folder), **settings) as proxy,
        openai.AsyncOpenAI(base_url=proxy.url, api_key="any", max_retries=0) as client,
        aiohttp.ClientSession() as session,
    ):
        upstream.reply("good day to you all. " * 100)
        texts = ["hello world", "you rude man", "Привет, как дела сегодня"]
        fine, rude, foreign = await asyncio.gather(*(said(client, text) for text in texts))
        assert fine.startswith("good day")
        assert (rude, foreign) == ("content_filter", "content_filter")
        assert [request.document["messages"][0]["content"] for request in upstream.requests] == ["hello world"]
        upstream.reply("good day to you. " * 30 + "you rude man")
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi you"}], stream=True
        )
        events = [event async for event in stream]
        assert events[-1].choices[0].finish_reason == "content_filter"
        delivered = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
        assert delivered.startswith("good day")
        assert "rude" not in delivered
        async with session.get(f"{proxy.admin}/readyz") as response:
            assert (await response.json())["backends"]["onnx"] == ""
