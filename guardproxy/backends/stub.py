"""A backend that answers as it is told, for tests of policies, checks and the proxy itself. It never reads a model.

It fails in every way that a real one does: it raises, hangs, is slow, abstains and answers nonsense, so that what
happens then can be seen before it does. What it is asked is counted, never kept.

    stub = Stub({"rude": Answer({"toxic": 0.9}), "boom": BackendError("down"), "slow": Delay(0.2), "dead": HANG})

The first key that occurs in a text decides; a callable from text to reply may stand in the mapping's place.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from guardproxy.backends.base import NOTHING, Answer, LocalBackend
from guardproxy.errors import BackendError
from guardproxy.reading import Reading
from guardproxy.types import Finding


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits `seconds`, then replies with `then`."""

    seconds: float
    then: Reply = NOTHING


class Hang(Enum):
    """Never answers; ends when it is cancelled."""

    HANG = "hang"


class Nonsense(Enum):
    """Answers that cannot be. COUNT and WRONG_TYPE spoil the whole batch, the others one answer in it."""

    COUNT = "one answer too few"
    WRONG_TYPE = "no sequence of answers at all"
    NO_ANSWER = "something that is no answer, in an answer's place"
    NAN = "a score that is no number"
    ABOVE_ONE = "a score above 1"
    BELOW_ZERO = "a score below 0"
    TEXT_SCORE = "a score that is a string"
    BEYOND_THE_TEXT = "a finding that ends behind the text"
    BEFORE_THE_TEXT = "a finding that begins before it"
    BACKWARDS = "a finding that ends before it begins"


HANG = Hang.HANG
Reply = Answer | BaseException | Delay | Hang | Nonsense
Script = Mapping[str, Reply] | Callable[[str], Reply]


def abstain(reason: str) -> Answer:
    """The answer of a backend that cannot judge a text."""
    return Answer(abstained=reason)


class _Scripted:
    """What both stubs share: the script, the counters and how a reply becomes an answer.

    `calls` counts calls by check, `texts` the readings in them.
    """

    def __init__(self, script: Script, *, name: str = "stub", version: str = "1", unhealthy: str = "") -> None:
        self.name, self.version, self.unhealthy = name, version, unhealthy
        self.calls: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.closed = False
        self._script = script

    def _count(self, check: str, readings: Sequence[Reading]) -> None:
        self.calls[check] += 1
        self.texts[check] += len(readings)

    def _reply(self, reading: Reading) -> Reply:
        if callable(self._script):
            return self._script(reading.text)
        return next((reply for key, reply in self._script.items() if key in reading.text), NOTHING)


class Stub(_Scripted):
    """Answers like a remote model: asynchronously, perhaps late, perhaps never.

    `script`: what to reply to which text; a text that no key occurs in gets NOTHING. `unhealthy`: what health() says.
    """

    async def classify(self, check: str, readings: Sequence[Reading], *, budget: float = math.inf) -> Sequence[Answer]:
        """One answer for each reading, as the script says, whatever the budget. Raises what the script says."""
        self._count(check, readings)
        return _batch([await self._settle(self._reply(reading)) for reading in readings], readings)

    async def health(self) -> str:
        """What `unhealthy` says."""
        return self.unhealthy

    async def close(self) -> None:
        """Only remembers that it was called."""
        self.closed = True

    @staticmethod
    async def _settle(reply: Reply) -> Answer | Nonsense:
        while isinstance(reply, Delay):
            await asyncio.sleep(reply.seconds)
            reply = reply.then
        if reply is HANG:
            await asyncio.get_running_loop().create_future()
        return _final(reply)


class LocalStub(_Scripted, LocalBackend):
    """Answers like the rules: at once. A script with Delay or HANG makes it raise BackendError: it cannot wait.

    `seems_clean`: what clean() says. False makes the runner ask about every window.
    """

    def __init__(self, script: Script, *, seems_clean: bool = False, **more: str) -> None:
        super().__init__(script, **more)
        self.seems_clean = seems_clean

    def classify_now(self, check: str, readings: Sequence[Reading]) -> Sequence[Answer]:
        """One answer for each reading, as the script says. Raises what the script says."""
        self._count(check, readings)
        return _batch([_final(self._reply(reading)) for reading in readings], readings)

    def clean(self, check: str, reading: Reading) -> bool:
        """What `seems_clean` says."""
        return self.seems_clean

    async def health(self) -> str:
        """What `unhealthy` says."""
        return self.unhealthy

    async def close(self) -> None:
        """Only remembers that it was called."""
        self.closed = True


def _final(reply: Reply) -> Answer | Nonsense:
    if isinstance(reply, BaseException):
        raise reply
    if isinstance(reply, Delay | Hang):
        raise BackendError("a local stub cannot wait")
    return reply


def _batch(settled: list[Answer | Nonsense], readings: Sequence[Reading]) -> Sequence[Answer]:
    """The answers, nonsense worked in. Typed as what a real backend promises; breaking that is the point."""
    if Nonsense.WRONG_TYPE in settled:
        return cast("Sequence[Answer]", 42)
    answers = [
        _nonsense(a, len(r.text)) if isinstance(a, Nonsense) else a for a, r in zip(settled, readings, strict=True)
    ]
    return answers[:-1] if Nonsense.COUNT in settled else answers


def _nonsense(kind: Nonsense, length: int) -> Answer:
    answers: dict[Nonsense, Any] = {
        Nonsense.NO_ANSWER: {"toxic": 0.9},
        Nonsense.NAN: Answer({"nonsense": math.nan}),
        Nonsense.ABOVE_ONE: Answer({"nonsense": 1.5}),
        Nonsense.BELOW_ZERO: Answer({"nonsense": -0.1}),
        Nonsense.TEXT_SCORE: Answer({"nonsense": cast("float", "high")}),
        Nonsense.BEYOND_THE_TEXT: Answer(findings=(Finding("nonsense", 0, length + 1, 0.9),)),
        Nonsense.BEFORE_THE_TEXT: Answer(findings=(Finding("nonsense", -1, length, 0.9),)),
        Nonsense.BACKWARDS: Answer(findings=(Finding("nonsense", length, 0, 0.9),)),
    }
    return cast("Answer", answers.get(kind, NOTHING))
