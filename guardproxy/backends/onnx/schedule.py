"""Which text is read next: the one with the least work, unless another has waited too long. Pure; no clock, no lock.

A job's key is the time of its arrival plus PATIENCE for each token of the work that it belongs to. So a short text
overtakes a long one, and a long one that came early enough is before every short one that comes now: nothing starves,
and a key never has to change.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 0.001
"""Seconds that a token of a job's work lets it be overtaken for: 0.1 s for a prompt of 100 tokens."""


@dataclass(slots=True, eq=False)
class Job:
    """One text to be read for some checks.

    `tokens`: what it is thought to take; `work`: the same for all the texts that are asked about with it. `deadline`:
    when nobody waits for it any more, by the pool's clock. `done` is told the result or the error, from any thread.
    """

    text: str = field(repr=False)
    role: str
    checks: frozenset[str]
    tokens: int
    work: int
    done: Callable[[Any], None] = field(repr=False)
    deadline: float = math.inf
    key: float = 0.0
    queued: bool = False
    dropped: bool = False


class Schedule:
    """Jobs that wait. `tokens`: of all of them."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._heap: list[tuple[float, int, Job]] = []
        self._count = 0  # of all jobs ever, so that equal keys keep their order
        self._waiting = 0
        self.tokens = 0

    def __len__(self) -> int:
        return self._waiting

    def key(self, work: int, now: float) -> float:
        """The place of a job that comes now; a lower one is earlier."""
        return now + self._patience * work

    def ahead(self, key: float) -> int:
        """Tokens of the jobs that would be read before one with this key. Linear in the jobs that wait."""
        return sum(job.tokens for other, _, job in self._heap if other <= key and not job.dropped)

    def put(self, job: Job, now: float) -> None:
        """Adds a job."""
        job.key, job.queued = self.key(job.work, now), True
        self._count += 1
        heapq.heappush(self._heap, (job.key, self._count, job))
        self._waiting += 1
        self.tokens += job.tokens

    def pop(self) -> Job | None:
        """Takes the next job, None if there is none."""
        while self._heap:
            _, _, job = heapq.heappop(self._heap)
            if not job.dropped:
                self._left(job)
                return job
        return None

    def drop(self, jobs: Iterable[Job]) -> None:
        """Takes out jobs that nobody waits for. Those that are being read, or have been, are only marked."""
        for job in jobs:
            if job.queued:
                self._left(job)
            job.dropped = True
        if len(self._heap) > 2 * self._waiting + 64:  # what has been dropped must not pile up behind a hung reader
            self._heap = [entry for entry in self._heap if not entry[2].dropped]
            heapq.heapify(self._heap)

    def _left(self, job: Job) -> None:
        job.queued = False
        self._waiting -= 1
        self.tokens -= job.tokens
