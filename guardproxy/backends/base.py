"""The seam between checks and whatever judges text for them.

A backend never decides anything and never invents an answer: it returns one Answer for every reading, in order, or raises
BackendError, and the runner falls to the next rung. An Answer may abstain, with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

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

    async def classify(self, check: str, readings: Sequence[Reading]) -> Sequence[Answer]:
        """One answer for each reading, in order. Raises BackendError."""
        ...

    async def health(self) -> str:
        """"" when it can answer, else why not, in a few words for operators."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class LocalBackend(Protocol):
    """A backend that answers within microseconds and without waiting; the runner calls it without a task or a timer."""

    def classify_now(self, check: str, readings: Sequence[Reading]) -> Sequence[Answer]: ...
