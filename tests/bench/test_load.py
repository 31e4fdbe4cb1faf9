"""Load against the pretend upstream: nothing is lost, nothing is left out, and what waits is charged for waiting."""

from __future__ import annotations

import json

import pytest

from guardproxy.bench.compare import Step, Targets, compare
from guardproxy.bench.load import Load, now, send, session
from guardproxy.bench.stats import Sample
from guardproxy.testing import Cut, Delivery, Hang, Upstream, faults


async def sent(upstream: Upstream, load: Load, key: str = "") -> list[Sample]:
    async with session(key) as client:
        return await send(client, upstream.url, load, 0, lambda done: None)


@pytest.mark.parametrize("load", [Load(20, rate=500), Load(20, concurrency=3)])
async def test_every_request_is_sent_once_with_its_own_prompt_and_the_key(load: Load) -> None:
    async with Upstream() as upstream:
        samples = await sent(upstream, load, "pretend-key")
        prompts = {each.document["messages"][0]["content"] for each in upstream.requests}
        assert len(samples) == len(upstream.requests) == len(prompts) == 20
        assert {len(prompt) for prompt in prompts} == {700}
        assert {each.headers["Authorization"] for each in upstream.requests} == {"Bearer pretend-key"}
        assert not any(sample.error or sample.declined for sample in samples)


async def test_latency_counts_from_when_a_request_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only one may be in flight, each answer takes 20 ms, and all are due at once: the fifth waited for four others.
    monkeypatch.setattr("guardproxy.bench.load._IN_FLIGHT", 1)
    async with Upstream() as upstream:
        upstream.reply("ab", delivery=Delivery(writes=200, pause=0.02))
        samples = await sent(upstream, Load(5, rate=20_000))
    latencies = [sample.latency for sample in samples]
    assert latencies == sorted(latencies)
    assert latencies[-1] >= 5 * 0.02


async def test_the_rate_is_kept_when_nothing_comes_back() -> None:
    async with Upstream() as upstream:
        upstream.reply(Hang())
        start = now()
        samples = await sent(upstream, Load(20, rate=200, timeout=0.3))
        assert now() - start < 4.0  # twenty time-outs one after another would take six seconds
        assert [sample.error for sample in samples] == ["timeout"] * 20


async def test_streams() -> None:
    async with Upstream() as upstream:
        upstream.reply("abcdef", delivery=Delivery(split=1, pause=0.005))
        samples = await sent(upstream, Load(3, concurrency=3, stream=True))
        for sample in samples:
            assert (sample.events, sample.error) == (8, "")
            assert sample.last - sample.first >= 0.025
            assert 0.005 <= sample.first < sample.last <= sample.latency


@pytest.mark.parametrize(
    ("fault", "stream", "error"),
    [
        (faults.status(500), False, "HTTP 500"),
        (faults.status(429), True, "HTTP 429"),
        (Cut(), False, "ServerDisconnectedError"),
        (Delivery(error_after=2), True, "error event"),
        (Delivery(done=False), True, "no [DONE]"),
        (Delivery(cut_after=2), True, "ClientPayloadError"),
    ],
)
async def test_errors_are_named(fault: object, stream: bool, error: str) -> None:
    async with Upstream() as upstream:
        if isinstance(fault, Delivery):
            upstream.reply("some text", delivery=fault)
        else:
            upstream.reply(fault)  # type: ignore[arg-type]
        assert [sample.error for sample in await sent(upstream, Load(1, stream=stream))] == [error]


async def test_refusals_are_told_from_errors() -> None:
    body = json.dumps({"error": {"message": "no", "code": "content_filter"}}, separators=(",", ":")).encode()
    async with Upstream() as upstream:
        upstream.reply(faults.Raw(body, 400))
        (sample,) = await sent(upstream, Load(1))
        assert (sample.error, sample.declined) == ("", True)
        upstream.reply("a", finish="content_filter")
        (sample,) = await sent(upstream, Load(1, stream=True))
        assert (sample.error, sample.declined) == ("", True)


async def test_rounds_take_turns_after_a_warm_up() -> None:
    steps: list[Step] = []
    async with Upstream() as direct, Upstream() as proxy:
        rounds = await compare(Targets(direct.url, proxy.url), Load(4, concurrency=2), 2, 30, steps.append)
        assert [(step.round, step.target) for step in steps if step.done == 0] == [
            (number, target) for number in range(3) for target in ("direct", "proxy")
        ]
        said = [[each.document["messages"][0]["content"] for each in target.requests] for target in (direct, proxy)]
        assert sorted(said[0]) == sorted(said[1])
        assert len(set(said[0])) == len(said[0]) == 12
    assert len(rounds) == 2
    assert all(each.direct.answered == each.proxy.answered == 4 for each in rounds)


async def test_only_whole_rounds_count_when_time_is_up() -> None:
    async with Upstream() as direct, Upstream() as proxy:
        proxy.reply(Hang())
        assert await compare(Targets(direct.url, proxy.url), Load(1), 2, 0.3, lambda step: None) == []
