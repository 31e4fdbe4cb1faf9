"""Runs the rounds: direct, proxy, direct, proxy, …, so that whatever the machine does meanwhile befalls both alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp

from guardproxy.bench.load import Load, now, send, session
from guardproxy.bench.stats import Measured, Round, measure

_WARM_UP = 10  # requests to each target that are not counted: connections, caches, code paths


@dataclass(frozen=True, slots=True)
class Targets:
    """The two base URLs, and the key that both are sent ("" for none)."""

    direct: str
    proxy: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is."""

    round: int  # from 1; 0 while warming up
    target: str
    done: int
    requests: int


async def compare(
    targets: Targets, load: Load, rounds: int, limit: float, progress: Callable[[Step], None]
) -> list[Round]:
    """Up to `rounds` rounds; only those that were whole within `limit` seconds."""
    finished: list[Round] = []
    async with session(targets.key) as direct, session(targets.key) as proxy:
        pairs = (("direct", direct, targets.direct), ("proxy", proxy, targets.proxy))
        try:
            async with asyncio.timeout(limit):
                warm = replace(load, requests=min(_WARM_UP, load.requests), rate=0.0, concurrency=1)
                for name, client, url in pairs:
                    await _half(client, url, warm, 0, name, progress)
                for number in range(1, rounds + 1):
                    halves = [await _half(client, url, load, number, name, progress) for name, client, url in pairs]
                    finished.append(Round(*halves))
        except TimeoutError:
            pass  # what is finished is reported, with how much that is
    return finished


async def _half(
    client: aiohttp.ClientSession, url: str, load: Load, number: int, name: str, progress: Callable[[Step], None]
) -> Measured:
    progress(Step(number, name, 0, load.requests))
    start = now()
    samples = await send(
        client,
        url,
        load,
        number * load.requests,
        lambda done: progress(Step(number, name, done, load.requests)),
    )
    return measure(samples, now() - start, stream=load.stream)
