"""The checks that are asked about the same readings in one turn of the event loop, answered by one pass.

The runner asks check by check. What is asked of the same readings before the loop comes round becomes one group, and
the group's texts become jobs, queued together or refused together. A group lives as long as somebody waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from guardproxy.backends.onnx.decode import Judgement
from guardproxy.backends.onnx.schedule import Job
from guardproxy.errors import BackendError
from guardproxy.reading import Reading

Judgements = Mapping[str, Judgement]
Start = Callable[["Group"], None]


class Group:
    """Some readings and the checks that wait for them. For the thread of its event loop alone, but for `deliver`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, readings: Sequence[Reading]) -> None:
        self.loop = loop
        self.readings = readings
        self.results: list[Judgements | None] = [None] * len(readings)
        self.jobs: list[Job] = []
        self.deadline = 0.0  # by time.monotonic(); the latest that anybody waits for
        self.checks: frozenset[str] = frozenset()  # those that asked, once the turn is over
        self._waiting: dict[asyncio.Future[Sequence[Judgements]], str] = {}
        self._open = 0  # readings without a result

    @property
    def waited_for(self) -> bool:
        """Whether anybody still waits."""
        return bool(self._waiting)

    def ask(self, check: str, budget: float) -> asyncio.Future[Sequence[Judgements]]:
        """A future of the results of all readings, in order."""
        future: asyncio.Future[Sequence[Judgements]] = self.loop.create_future()
        self._waiting[future] = check
        self.deadline = max(self.deadline, time.monotonic() + budget)
        return future

    def close(self) -> None:
        """No further check joins."""
        self.checks = frozenset(self._waiting.values())

    def leave(self, future: asyncio.Future[Sequence[Judgements]]) -> None:
        """One does not wait any more."""
        self._waiting.pop(future, None)

    def expect(self) -> None:
        """To be called when all results that are known at once are in; those may be all."""
        self._open = sum(result is None for result in self.results)
        if not self._open:
            self._settle(None)

    def deliver(self, number: int, result: Judgements | BackendError, then: Callable[[], None]) -> None:
        """The result of a reading, from any thread. `then` is called in the loop's thread."""
        with suppress(RuntimeError):  # the loop has ended, and everybody with it
            self.loop.call_soon_threadsafe(self._arrived, number, result, then)

    def fail(self, error: BackendError) -> None:
        """Nothing will come."""
        self._settle(error)

    def _arrived(self, number: int, result: Judgements | BackendError, then: Callable[[], None]) -> None:
        if isinstance(result, BackendError):
            self._settle(result)
        else:
            self.results[number] = result
            self._open -= 1
            if not self._open:
                self._settle(None)
        then()

    def _settle(self, error: BackendError | None) -> None:
        for future in self._waiting:
            if future.done():
                continue
            if error is not None:
                future.set_exception(BackendError(str(error)))  # one each, for tracebacks grow
            else:
                future.set_result([result for result in self.results if result is not None])


class Gatherer:
    """Groups that are still open. `start` is called with each when its turn of the loop is over."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._groups: dict[tuple[Any, ...], Group] = {}

    def join(self, readings: Sequence[Reading]) -> Group:
        """The group of exactly these readings that is open in this turn of the running loop."""
        loop = asyncio.get_running_loop()
        key = tuple(map(id, readings))  # the group holds them, so no other can come by their ids meanwhile
        group = self._groups.get(key)
        if group is None or group.loop is not loop:
            group = self._groups[key] = Group(loop, readings)
            loop.call_soon(self._close, key, group)
        return group

    def _close(self, key: tuple[Any, ...], group: Group) -> None:
        if self._groups.get(key) is group:
            del self._groups[key]
        if group.waited_for:
            group.close()
            self._start(group)
