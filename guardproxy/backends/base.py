"""The seam between checks and whatever judges text for them.

A backend never decides anything and never invents an answer: it returns one Answer for every reading, in order, or
raises BackendError, and the runner falls to the next rung. An Answer may abstain, with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from guardproxy.errors import BackendError
from guardproxy.reading import Reading
from guardproxy.types import Finding


@dataclass(frozen=True, slots=True)
class Answer:
    """What a backend says of one reading. Findings count in the reading's text (context included)."""

    scores: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    abstained: str = ""  # the reason, if it cannot judge this text


NOTHING = Answer()


class Backend(Protocol):
    """Judges texts for one or more checks. Safe to call concurrently."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    async def classify(self, check: str, readings: Sequence[Reading], *, budget: float = math.inf) -> Sequence[Answer]:
        """One answer for each reading, in order. Raises BackendError.

        `budget`: seconds until nobody waits for the answer any more. A backend that cannot keep it had better say so at
        once, so that the next rung has the time; it need not enforce it.
        """
        ...

    async def health(self) -> str:
        """ "" when it can answer, else why not, in a few words for operators."""
        ...

    async def close(self) -> None: ...


class LocalBackend:
    """Base of the backends that answer within microseconds and without waiting: called without a task or a timer."""

    name: str = ""
    version: str = ""

    def classify_now(self, check: str, readings: Sequence[Reading]) -> Sequence[Answer]:
        """One answer for each reading, in order. Raises BackendError."""
        raise BackendError("this backend answers nothing")

    def clean(self, check: str, reading: Reading) -> bool:
        """True only if no part of this text, read by itself, could have a score or a finding. Cheap, or False."""
        return False

    async def classify(self, check: str, readings: Sequence[Reading], *, budget: float = math.inf) -> Sequence[Answer]:
        """The same as classify_now()."""
        return self.classify_now(check, readings)

    async def health(self) -> str:
        """Always able to answer."""
        return ""

    async def close(self) -> None:
        """Nothing to close."""
