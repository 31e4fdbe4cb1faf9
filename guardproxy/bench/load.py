"""Sends the requests of one round: at a fixed rate whatever comes back, or so many at a time.

At a fixed rate, latency counts from when a request was due, not from when it could be sent, so that a target that
stalls pays for all who wait (no coordinated omission). Every request has a limit, and so has their number in flight.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from guardproxy.bench.reading import Tally
from guardproxy.bench.stats import Sample
from guardproxy.testing.replies import filler

now = time.perf_counter
Progress = Callable[[int], None]
"""Told how many requests of the round have ended."""

_IN_FLIGHT = 2000
_COARSE = 0.002  # seconds; an event loop's timers are only good to a millisecond


@dataclass(frozen=True, slots=True)
class Load:
    """What each round sends. `rate` (requests a second) 0: closed loop with `concurrency` requests at a time."""

    requests: int
    rate: float = 0.0
    concurrency: int = 1
    stream: bool = False
    prompt_bytes: int = 700
    model: str = "pretend"
    max_tokens: int = 64
    timeout: float = 30.0  # seconds for one request

    def body(self, number: int) -> bytes:
        """The request's JSON. No two numbers give the same prompt, so that no cache on the way can answer."""
        label = f"Request {number:06d}. "
        document = {
            "model": self.model,
            "messages": [{"role": "user", "content": label + filler(max(self.prompt_bytes - len(label), 0))}],
            "max_completion_tokens": self.max_tokens,
            "stream": self.stream,
        }
        return json.dumps(document).encode()


def session(key: str) -> aiohttp.ClientSession:
    """A client for one target: as many connections as it takes, kept alive."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar())


async def send(client: aiohttp.ClientSession, url: str, load: Load, first: int, progress: Progress) -> list[Sample]:
    """One round of requests, numbered from `first`; returns when all have ended."""
    samples: list[Sample] = []

    async def one(number: int, due: float) -> None:
        samples.append(await ask(client, f"{url}/chat/completions", load, number, due))
        progress(len(samples))

    await (_open(one, load, first) if load.rate else _closed(one, load, first))
    return samples


_One = Callable[[int, float], Awaitable[None]]


async def _open(one: _One, load: Load, first: int) -> None:
    slots = asyncio.Semaphore(_IN_FLIGHT)

    async def release(number: int, due: float) -> None:
        try:
            await one(number, due)
        finally:
            slots.release()

    start = now() + _COARSE
    async with asyncio.TaskGroup() as tasks:
        for index in range(load.requests):
            due = start + index / load.rate
            await _until(due)
            await slots.acquire()
            tasks.create_task(release(first + index, due))


async def _until(due: float) -> None:
    """Waits to within some tens of microseconds: a thread's sleep is finer than an event loop's."""
    if (coarse := due - now() - _COARSE) > 0:
        await asyncio.sleep(coarse)
    if (fine := due - now()) > 0:
        await asyncio.to_thread(time.sleep, fine)


async def _closed(one: _One, load: Load, first: int) -> None:
    numbers = iter(range(first, first + load.requests))

    async def worker() -> None:
        for number in numbers:
            await one(number, now())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(load.concurrency, load.requests)):
            tasks.create_task(worker())


async def ask(client: aiohttp.ClientSession, url: str, load: Load, number: int, due: float) -> Sample:
    """One request; whatever goes wrong is the sample's error, in words that hold nothing of the answer."""
    try:
        async with asyncio.timeout(load.timeout), client.post(url, data=load.body(number)) as response:
            if load.stream and response.status == 200:
                return await _stream(response, due)
            body = await response.read()
            declined = b'"content_filter"' in body
            error = "" if response.status == 200 or declined else f"HTTP {response.status}"
            return Sample(now() - due, error=error, declined=declined)
    except TimeoutError:
        return Sample(now() - due, error="timeout")
    except aiohttp.ClientError as error:
        return Sample(now() - due, error=type(error).__name__)


async def _stream(response: aiohttp.ClientResponse, due: float) -> Sample:
    tally = Tally()
    async for data in response.content.iter_any():
        tally.feed(data, now() - due)
    end = now() - due
    error = "error event" if tally.failed else "" if tally.ended else "no [DONE]"
    return Sample(end, tally.first or 0.0, tally.last or 0.0, tally.events, error, tally.declined)
