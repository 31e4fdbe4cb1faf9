"""Asks the checks about a text, all at once, each within its deadline, and turns whatever happens into verdicts.

- Nothing that a check or a backend does gets past here: what raises, hangs or answers nonsense becomes a verdict with
  an outcome, for the policy to decide on. There is no way to a clean verdict but an answer.
- A complete text is first read once, as a whole, by the checks that can say "nothing in it" at a glance. What that
  leaves is judged window by window, the way the text would be judged in a stream.
- A lower rung of a ladder answers only for a higher one that failed, and its verdict says `degraded`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from guardproxy.backends.base import NOTHING, Answer, Backend, LocalBackend
from guardproxy.checks.base import Abstain, Check
from guardproxy.errors import BackendError
from guardproxy.reading import Reading
from guardproxy.types import Finding, Outcome, Segment, Verdict, Window
from guardproxy.windows import windows_of

GLANCE = 1 << 16  # longer texts are not read as a whole first: that would hold up everybody else
BREATH = 32  # windows judged in a row before others get their turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConfiguredCheck:
    """A check as the policy wants it run. `deadline` in seconds, for the whole ladder."""

    check: Check
    ladder: tuple[Backend, ...] = ()
    deadline: float = 1.0

    @property
    def local(self) -> bool:
        """Whether it answers without waiting."""
        return not self.ladder or isinstance(self.ladder[0], LocalBackend)


@dataclass(frozen=True, slots=True)
class Judged:
    """A window and what the checks say of it."""

    window: Window
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class _Rung:
    """What the model stage came to: an answer for each reading, or an outcome that is none."""

    answers: Sequence[Answer] = ()
    backend: str = ""
    outcome: Outcome = Outcome.OK
    reason: str = ""
    elapsed: float = 0.0


class Runner:
    """The checks of one policy. Safe to use concurrently; holds no state of any request."""

    def __init__(self, configured: Mapping[str, ConfiguredCheck]) -> None:
        self._configured = dict(configured)
        self._clean = {
            name: Verdict(name, backend=_ref(c.ladder[0]) if c.ladder else f"{name}@{c.check.version}")
            for name, c in self._configured.items()
        }
        self._looks = {name: _looks(c) for name, c in self._configured.items()}
        self.waits = not all(
            c.local for c in self._configured.values()
        )  # whether some check answers only after a while

    def clean(self, name: str) -> Verdict:
        """The verdict of a check that found nothing."""
        return self._clean[name]

    async def run(
        self, names: Sequence[str], subject: Segment | Window, budget: float, *, tenant: str = ""
    ) -> list[Judged]:
        """What the checks `names` say of a text: its windows in order, or nothing if all of them found it clean.

        `budget`: seconds for all of it; with none left nothing is judged, and every check's outcome is TIMEOUT. A
        Segment is complete; a Window is part of a text that still grows. `tenant`: whose text it is.
        """
        window = _one_window(subject) if isinstance(subject, Segment) else subject
        if budget <= 0 and names:
            return [Judged(window, tuple(self._late(name) for name in names))]
        names, whole = self._glance(names, Reading(window))
        if not names and not whole:
            return []
        windows = windows_of(subject) if isinstance(subject, Segment) and names else [window]
        until = time.monotonic() + budget
        readings = [Reading(window, tenant) for window in windows]
        waiting = [name for name in names if not self._configured[name].local]
        tasks = [asyncio.ensure_future(self._ladder(name, readings, until)) for name in waiting]
        try:
            table = [await self._judge_local(name, readings, until) for name in names if name not in waiting]
            for name, task in zip(waiting, tasks, strict=True):
                table.append(await self._judge_waited(name, readings, task))
        finally:
            for task in tasks:
                task.cancel()
        judged = [Judged(each, tuple(row[i] for row in table)) for i, each in enumerate(windows)] if names else []
        return [*judged, Judged(window, whole)] if whole else judged

    # -- a first look at a complete text ------------------------------------------------------------------------------

    def closer(self, names: Sequence[str], segments: Sequence[Segment]) -> Sequence[str]:
        """Those of the checks that have to look at each of these texts; for the others all of them are clean.

        One look at many texts together: white space between them hides nothing that occurs in one of them.
        """
        text = "\n\n".join([segment.text for segment in segments])
        if len(text) > GLANCE:
            return names
        reading = Reading(Window(segments[0], 0, 0, len(text), len(text), text))
        return [name for name in names if self._looks[name] is None or not self._seems_clean(name, reading)]

    def _glance(self, names: Sequence[str], reading: Reading) -> tuple[list[str], tuple[Verdict, ...]]:
        """The checks that have to look closer, and what those say that judge all of a text at once."""
        closer: list[str] = []
        whole: list[Verdict] = []
        for name in names:
            if self._looks[name] is None:
                verdict = self._judge_one(name, reading)
                if verdict is not self._clean[name]:
                    whole.append(verdict)
            elif len(reading.text) > GLANCE or not self._seems_clean(name, reading):
                closer.append(name)
        return closer, tuple(whole)

    def _seems_clean(self, name: str, reading: Reading) -> bool:
        """Whether no window of the text can have a finding. What cannot say so, or fails, is asked properly."""
        try:
            for look in self._looks[name] or ():
                if not look(reading):
                    return False
        except Exception:  # noqa: BLE001 - it fails again, and is recorded, where it is asked properly
            return False
        return True

    # -- window by window ---------------------------------------------------------------------------------------------

    async def _judge_local(self, name: str, readings: Sequence[Reading], until: float) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for number, reading in enumerate(readings):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
                if time.monotonic() > until:
                    return verdicts + [self._late(name)] * (len(readings) - number)
            verdicts.append(self._judge_one(name, reading))
        return verdicts

    def _judge_one(self, name: str, reading: Reading) -> Verdict:
        configured = self._configured[name]
        try:
            if configured.check.whole:
                return self._whole(name, reading)
            findings = configured.check.find(reading)
            answer, rung = NOTHING, _Rung()
            if configured.ladder:
                rung = self._climb_local(configured, reading)
                answer = rung.answers[0] if rung.answers else NOTHING
            return self._verdict(name, reading.window, reading, findings, answer, rung)
        except Abstain as abstained:
            return Verdict(name, Outcome.ABSTAINED, reason=str(abstained), backend=self._clean[name].backend)
        except Exception as error:  # noqa: BLE001 - the runner's very purpose: a failure is a verdict
            return self._failed(name, error)

    def _whole(self, name: str, reading: Reading) -> Verdict:
        """The verdict of a check that wants all of a text: of a growing one, what there is so far."""
        window = reading.window
        segment = window.segment
        if window.history:
            segment = replace(segment, text="".join(window.history)[: window.end])
        length = len(segment.text)
        findings = self._configured[name].check.find_whole(segment)
        if not findings:
            return self._clean[name]
        if not all(_is_finding(finding, length) for finding in findings):
            raise BackendError("a finding that cannot be")
        placed = tuple(_placed(findings, window, 0))
        return Verdict(name, findings=placed, backend=self._clean[name].backend) if placed else self._clean[name]

    @staticmethod
    def _climb_local(configured: ConfiguredCheck, reading: Reading) -> _Rung:
        failure = ""
        for number, backend in enumerate(configured.ladder):
            if not isinstance(backend, LocalBackend):
                continue
            try:
                answers = _checked(backend.classify_now(configured.check.name, [reading]), [reading])
            except Exception as error:  # noqa: BLE001 - the next rung answers for it
                failure = f"{backend.name}: {_why(error)}"
                continue
            outcome = Outcome.DEGRADED if number else Outcome.OK
            return _Rung(answers, _ref(backend), outcome, failure)
        return _Rung(outcome=Outcome.ERROR, reason=failure or "no rung answers")

    async def _judge_waited(self, name: str, readings: Sequence[Reading], climbing: Awaitable[_Rung]) -> list[Verdict]:
        rung = await climbing
        verdicts: list[Verdict] = []
        for number, reading in enumerate(readings):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            answer = rung.answers[number] if rung.answers else NOTHING
            try:
                findings = self._configured[name].check.find(reading)
                verdicts.append(self._verdict(name, reading.window, reading, findings, answer, rung))
            except Abstain as abstained:
                verdicts.append(
                    Verdict(name, Outcome.ABSTAINED, reason=str(abstained), backend=self._clean[name].backend)
                )
            except Exception as error:  # noqa: BLE001 - the runner's very purpose: a failure is a verdict
                verdicts.append(self._failed(name, error))
        return verdicts

    async def _ladder(self, name: str, readings: Sequence[Reading], until: float) -> _Rung:
        """Asks one rung after the other, each with its share of the time that is left; local ones need none."""
        configured = self._configured[name]
        started = time.monotonic()
        until = min(until, started + configured.deadline)
        failure, outcome = "", Outcome.ERROR
        for number, backend in enumerate(configured.ladder):
            try:
                if isinstance(backend, LocalBackend):
                    answers = backend.classify_now(name, readings)
                else:
                    slow = sum(not isinstance(other, LocalBackend) for other in configured.ladder[number:])
                    share = (until - time.monotonic()) / slow
                    answers = await _within(backend.classify(name, readings, budget=share), share)
                answers = _checked(answers, readings)
            except TimeoutError:
                failure, outcome = f"{backend.name}: deadline", Outcome.TIMEOUT
                continue
            except Exception as error:  # noqa: BLE001 - the next rung answers for it
                failure, outcome = f"{backend.name}: {_why(error)}", Outcome.ERROR
                continue
            outcome = Outcome.DEGRADED if number else Outcome.OK
            answers = _helped(name, readings, answers, configured.ladder[number + 1 :])
            return _Rung(answers, _ref(backend), outcome, failure, time.monotonic() - started)
        return _Rung((), "", outcome, failure, time.monotonic() - started)

    async def health(self) -> dict[str, str]:
        """What is wrong with each backend, by name; "" where nothing is."""
        backends = {backend.name: backend for each in self._configured.values() for backend in each.ladder}
        return {name: await backend.health() for name, backend in backends.items()}

    async def close(self) -> None:
        """Closes every backend."""
        for backend in {id(each): each for c in self._configured.values() for each in c.ladder}.values():
            await backend.close()

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def _verdict(
        self,
        name: str,
        window: Window,
        reading: Reading,
        found: Iterable[Finding],
        answer: Answer,
        rung: _Rung,
    ) -> Verdict:
        deterministic = list(found)
        if not deterministic and answer is NOTHING and rung.outcome is Outcome.OK:
            return self._clean[name]
        length = len(reading.text)
        if not all(_is_finding(finding, length) for finding in deterministic):
            raise BackendError("a finding that cannot be")
        merged = self._configured[name].check.merged(reading, deterministic, answer.findings)
        findings = tuple(_placed(merged, window, window.context_start))
        scores = answer.scores if findings or not answer.findings else {}
        outcome, reason = rung.outcome, rung.reason
        if answer.abstained:
            outcome, reason = Outcome.ABSTAINED, answer.abstained
        if not findings and not scores and outcome is Outcome.OK:
            return self._clean[name]
        backend = rung.backend or self._clean[name].backend
        return Verdict(name, outcome, findings, scores, reason, backend, rung.elapsed)

    def _late(self, name: str) -> Verdict:
        return Verdict(name, Outcome.TIMEOUT, reason="deadline", backend=self._clean[name].backend)

    def _failed(self, name: str, error: Exception) -> Verdict:
        return Verdict(name, Outcome.ERROR, reason=_why(error), backend=self._clean[name].backend)


def _looks(configured: ConfiguredCheck) -> tuple[Callable[[Reading], bool], ...] | None:
    """What must all say "clean" for a text to be clean at a glance; None for a check that judges whole texts anyway."""
    if configured.check.whole:
        return None
    if not configured.ladder:
        return (configured.check.clean,)
    first = configured.ladder[0]
    if isinstance(first, LocalBackend):
        return configured.check.clean, partial(first.clean, configured.check.name)
    return (lambda _: False,)


def _one_window(segment: Segment) -> Window:
    length = len(segment.text)
    return Window(segment, 0, 0, length, length, segment.text)


def _placed(findings: Iterable[Finding], window: Window, shift: int) -> Iterable[Finding]:
    """Findings as the window's segment counts, `shift` characters further on than theirs.

    Without those in the context, which an earlier window answered for, and those that the next window judges again.
    """
    for finding in findings:
        start, end = max(finding.start + shift, window.start), finding.end + shift
        if start < window.release and end > window.start:
            yield Finding(finding.label, start, end, finding.score)


def _checked(answers: Sequence[Answer], readings: Sequence[Reading]) -> Sequence[Answer]:
    """The answers, if they can be: one for each reading, scores that are probabilities, findings inside the text."""
    if not isinstance(answers, list | tuple) or len(answers) != len(readings):
        raise BackendError("malformed answer")
    for answer, reading in zip(answers, readings, strict=True):
        if answer is NOTHING:
            continue
        length = len(reading.text)
        if not (
            isinstance(answer, Answer)
            and all(isinstance(label, str) and _is_probability(score) for label, score in answer.scores.items())
            and all(_is_finding(finding, length) for finding in answer.findings)
        ):
            raise BackendError("malformed answer")
    return answers


def _helped(
    name: str, readings: Sequence[Reading], answers: Sequence[Answer], lower: Sequence[Backend]
) -> Sequence[Answer]:
    """The answers, and for those that abstained what lower rungs find at once: an abstention hides nothing.

    It stays one, since to find nothing is no answer for a text that the rung above could not judge.
    """
    local = next((backend for backend in lower if isinstance(backend, LocalBackend)), None)
    if local is None or not any(answer.abstained for answer in answers):
        return answers
    helped = list(answers)
    for number, (answer, reading) in enumerate(zip(answers, readings, strict=True)):
        if not answer.abstained:
            continue
        try:
            (other,) = _checked(local.classify_now(name, [reading]), [reading])
        except Exception:  # noqa: BLE001,S112 - the abstention stands by itself
            continue
        scores = {**answer.scores, **{k: max(v, answer.scores.get(k, 0.0)) for k, v in other.scores.items()}}
        helped[number] = Answer(scores, (*answer.findings, *other.findings), answer.abstained)
    return helped


def _is_finding(finding: object, length: int) -> bool:
    return (
        isinstance(finding, Finding)
        and isinstance(finding.label, str)
        and isinstance(finding.start, int)
        and isinstance(finding.end, int)
        and 0 <= finding.start < finding.end <= length
        and _is_probability(finding.score)
    )


def _is_probability(score: object) -> bool:
    return isinstance(score, int | float) and math.isfinite(score) and 0 <= score <= 1


async def _within(answer: Awaitable[T], seconds: float) -> T:
    """`answer`, or TimeoutError after so many seconds, even if what is awaited will not be cancelled."""
    task = asyncio.ensure_future(answer)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(seconds, 0))
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()


def _why(error: Exception) -> str:
    """What is said of a failure: our own errors' message, of others the kind alone, since a message may carry
    content.
    """
    return str(error) if isinstance(error, BackendError) else type(error).__name__


def _ref(backend: Backend) -> str:
    return f"{backend.name}@{backend.version}"
