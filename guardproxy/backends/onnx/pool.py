"""Threads that read texts, as many as cores, from one bounded queue; the event loop never waits for them.

- Work that would come too late is refused at once, so that a lower rung has the time to answer. How long it would take
  is the tokens before it and its own, at the pace that was measured last.
- A job whose deadline has passed, or that nobody waits for any more, is not read.
- A reader that hangs holds up its own text alone; when all of them do, everything is refused, and health() says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Thread
from typing import Any, Protocol

from guardproxy.backends.onnx.schedule import Job, Schedule
from guardproxy.errors import BackendError

MOST_JOBS = 4096
OVERLOADED, TOO_LATE, STUCK, CLOSED = "overloaded", "too late", "not answering", "closed"

_HUNG = 5.0  # seconds in one text: no pass takes that long
_WEIGHT = 0.05  # of the newest measurement of the pace
_OUTLIER = 10.0  # times the pace: a measurement beyond is taken for that, since threads are sometimes stopped
_JOIN = 2.0  # seconds to wait for a reader at the end


class Reader(Protocol):
    """What the threads do with a job. Called from several threads at once."""

    def encode(self, job: Job) -> tuple[int, Any]:
        """Makes the text ready; how many tokens will be read, and what read() wants of it."""
        ...

    def read(self, job: Job, encoded: Any, given_up: Callable[[], bool]) -> Any:
        """The result. Asks `given_up()` between its steps, and then raises BackendError."""
        ...


class Pool:
    """The threads and their queue. `submit` and `drop` may be called from any thread, and never wait for a pass."""

    def __init__(
        self,
        reader: Reader,
        workers: int,
        pace: float,
        *,
        most: int = MOST_JOBS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pace`: seconds a token, of one thread, to begin with."""
        self._reader, self._clock, self._most = reader, clock, most
        self._best = self.pace = max(pace, 1e-7)
        self._schedule = Schedule()
        self._changed = Condition()
        self._running: dict[int, tuple[float, int]] = {}  # by thread: since when, and tokens
        self._closed = False
        self.shed = self.finished = 0
        self._threads = [
            Thread(target=self._work, args=(number,), name=f"guardproxy-onnx-{number}", daemon=True)
            for number in range(max(workers, 1))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, jobs: Sequence[Job], deadline: float) -> None:
        """Queues all of the jobs or none. `deadline`: by the pool's clock, for all of them.

        Raises BackendError, saying why, where they would not be done by then.
        """
        with self._changed:
            now = self._clock()
            problem = self._refusal(jobs, deadline, now)
            if problem:
                self.shed += 1
                raise BackendError(problem)
            for job in jobs:
                job.deadline = deadline
                self._schedule.put(job, now)
            self._changed.notify(len(jobs))

    def drop(self, jobs: Iterable[Job]) -> None:
        """Nobody waits for these any more. Their `done` may still be called for what is being read just now."""
        with self._changed:
            self._schedule.drop(jobs)

    def health(self) -> str:
        """ "" when texts are being read, else why not."""
        with self._changed:
            if self._closed:
                return CLOSED
            return STUCK if self._stuck(self._clock()) else ""

    def close(self) -> None:
        """Refuses what waits, and waits for the threads to end, a few seconds at most."""
        with self._changed:
            self._closed = True
            left = list(iter(self._schedule.pop, None))
            self._changed.notify_all()
        for job in left:
            job.done(BackendError(CLOSED))
        for thread in self._threads:
            thread.join(_JOIN)

    @property
    def outstanding(self) -> int:
        """Tokens that wait or are being read."""
        with self._changed:
            return self._schedule.tokens + sum(tokens for _, tokens in self._running.values())

    # -- with the lock held -------------------------------------------------------------------------------------------

    def _refusal(self, jobs: Sequence[Job], deadline: float, now: float) -> str:
        if self._closed:
            return CLOSED
        if self._stuck(now):
            return STUCK
        if len(self._schedule) + len(jobs) > self._most:
            return OVERLOADED
        own = sum(job.tokens for job in jobs)
        own_time = own * self.pace / min(len(self._threads), max(len(jobs), 1))
        running = sum(tokens for _, tokens in self._running.values())
        before = self._schedule.tokens + running
        if self._time(before) + own_time <= deadline - now:
            return ""
        if self._schedule.tokens:  # a closer look: what is longer would wait for this one
            work = max((job.work for job in jobs), default=0)
            before = self._schedule.ahead(self._schedule.key(work, now)) + running
            if self._time(before) + own_time <= deadline - now:
                return ""
        if not before:  # nothing else will measure the pace again; a slow spell must not refuse everything ever after
            self.pace = max(self._best, self.pace * (1 - _WEIGHT))
        return OVERLOADED

    def _time(self, tokens: int) -> float:
        return tokens * self.pace / len(self._threads)

    def _stuck(self, now: float) -> bool:
        since = [started for started, _ in self._running.values()]
        return len(since) == len(self._threads) and now - max(since) > _HUNG

    # -- the threads --------------------------------------------------------------------------------------------------

    def _work(self, number: int) -> None:
        while self._one(number):
            pass

    def _one(self, number: int) -> bool:
        """Reads the next text; False if the pool is closed. Nothing of the text outlives this call."""
        with self._changed:
            while (job := self._schedule.pop()) is None:
                if self._closed:
                    return False
                self._changed.wait()
            started = self._clock()
            self._running[number] = (started, job.tokens)
        result = self._result(number, job, started)
        with self._changed:
            del self._running[number]
            self.finished += 1
        job.done(result)
        return True

    def _result(self, number: int, job: Job, started: float) -> Any:
        def given_up() -> bool:
            return job.dropped or self._closed or self._clock() > job.deadline

        try:
            if given_up():
                return BackendError(TOO_LATE)
            tokens, encoded = self._reader.encode(job)
            with self._changed:
                self._running[number] = (started, tokens)
                hopeless = tokens > job.tokens and self._clock() + tokens * self.pace > job.deadline
            if hopeless:
                return BackendError(OVERLOADED)
            result = self._reader.read(job, encoded, given_up)
        except BackendError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever a pass raises is this text's failure, and nobody else's
            return BackendError(f"the model failed: {type(error).__name__}")
        if tokens:
            self._measured(tokens, self._clock() - started)
        return result

    def _measured(self, tokens: int, elapsed: float) -> None:
        with self._changed:
            newest = min(elapsed / tokens, _OUTLIER * self.pace)
            self.pace = max(self.pace + _WEIGHT * (newest - self.pace), 1e-7)
            self._best = min(self._best, self.pace)
