"""The runner: whatever a check or a backend does, what comes out is a verdict, and never a clean one by mistake."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from guardproxy.backends.base import NOTHING, Answer, LocalBackend
from guardproxy.backends.stub import LocalStub, Stub
from guardproxy.checks.base import Abstain, Check
from guardproxy.checks.registry import specs
from guardproxy.checks.runner import ConfiguredCheck, Judged, Runner
from guardproxy.errors import BackendError
from guardproxy.reading import Reading
from guardproxy.types import Finding, Outcome, Scope, Segment, Verdict
from guardproxy.windows import Windower

LONG = "some words that go on. " * 100


def segment(text: str = LONG) -> Segment:
    return Segment("c", (), "user", Scope.PROMPT, text)


class Silent(Check):
    name = "silent"


class Doing(Check):
    """A check whose deterministic stage is whatever the test says."""

    name = "doing"

    def __init__(self, stage: Callable[[Reading], Sequence[Finding]]) -> None:
        self._stage = stage

    def find(self, reading: Reading) -> Sequence[Finding]:
        return self._stage(reading)


class Slow:
    """A backend that waits; it answers nothing found."""

    version = "1"

    def __init__(self, behaviour: Callable[[Sequence[Reading]], Any], name: str = "slow", pause: float = 0.0) -> None:
        self.name, self._behaviour, self._pause = name, behaviour, pause

    async def classify(self, check: str, readings: Sequence[Reading], *, budget: float = 0) -> Sequence[Answer]:
        await asyncio.sleep(self._pause)
        return self._behaviour(readings)

    async def health(self) -> str:
        return ""

    async def close(self) -> None:
        pass


class Local(LocalBackend):
    name, version = "local", "1"

    def __init__(self, behaviour: Callable[[Sequence[Reading]], Any]) -> None:
        self._behaviour = behaviour

    def classify_now(self, check: str, readings: Sequence[Reading]) -> Sequence[Answer]:
        return self._behaviour(readings)


def raising(error: Exception) -> Callable[[Any], Any]:
    def behave(_: Any) -> Any:
        raise error

    return behave


def clean(readings: Sequence[Reading]) -> Sequence[Answer]:
    return [NOTHING for _ in readings]


async def verdicts_of(check: Check, *ladder: Any, deadline: float = 1.0, text: str = LONG) -> list[Verdict]:
    runner = Runner({check.name: ConfiguredCheck(check, ladder, deadline)})
    judged = await runner.run([check.name], segment(text), 5.0)
    assert judged
    return [verdict for each in judged for verdict in each.verdicts]


@pytest.mark.parametrize(
    "error", [ValueError("content!"), BackendError("gone"), RecursionError(), KeyError("k"), MemoryError()]
)
async def test_a_stage_that_raises_is_an_error_and_tells_no_content(error: Exception) -> None:
    found = await verdicts_of(Doing(raising(error)))
    assert {verdict.outcome for verdict in found} == {Outcome.ERROR}
    assert all("content!" not in verdict.reason and verdict.reason for verdict in found)


@pytest.mark.parametrize(
    "nonsense",
    [
        [Finding("X", -1, 3, 0.9)],
        [Finding("X", 5, 5, 0.9)],
        [Finding("X", 0, 10**9, 0.9)],
        [Finding("X", 0, 3, float("nan"))],
        [Finding("X", 0, 3, 1.5)],
        [Finding("X", 0.0, 3, 0.5)],  # type: ignore[arg-type]
        ["X"],
        None,
        7,
    ],
)
async def test_a_stage_that_answers_nonsense_is_an_error(nonsense: Any) -> None:
    found = await verdicts_of(Doing(lambda _: nonsense))
    assert {verdict.outcome for verdict in found} == {Outcome.ERROR}


async def test_abstaining_says_why() -> None:
    found = await verdicts_of(Doing(raising(Abstain("language unknown"))))
    assert {(verdict.outcome, verdict.reason) for verdict in found} == {(Outcome.ABSTAINED, "language unknown")}
    beside = await verdicts_of(Doing(raising(Abstain("language unknown"))), Slow(clean))
    assert {(verdict.outcome, verdict.reason) for verdict in beside} == {(Outcome.ABSTAINED, "language unknown")}


@pytest.mark.parametrize("make", [Slow, Local])
@pytest.mark.parametrize(
    "behaviour",
    [
        raising(BackendError("down")),
        raising(ValueError("content!")),
        lambda readings: [NOTHING] * (len(readings) + 1),
        lambda readings: [],
        lambda readings: None,
        lambda readings: [{"score": 1}] * len(readings),
        lambda readings: [Answer({"x": float("nan")})] * len(readings),
        lambda readings: [Answer({"x": -0.1})] * len(readings),
        lambda readings: [Answer({"x": "high"})] * len(readings),  # type: ignore[dict-item]
        lambda readings: [Answer({}, (Finding("x", 0, 10**6, 0.5),))] * len(readings),
    ],
)
async def test_a_backend_that_fails_alone_is_an_error_and_with_a_rung_below_degraded(make: Any, behaviour: Any) -> None:
    alone = await verdicts_of(Silent(), make(behaviour))
    assert {verdict.outcome for verdict in alone} == {Outcome.ERROR}
    assert all("content!" not in verdict.reason for verdict in alone)
    below = await verdicts_of(Silent(), make(behaviour), Local(clean))
    assert {(verdict.outcome, verdict.backend) for verdict in below} == {(Outcome.DEGRADED, "local@1")}
    assert all(verdict.reason for verdict in below)


async def test_a_backend_that_hangs_times_out_and_a_lower_rung_still_answers() -> None:
    async def forever(_: Any, __: Any, *, budget: float) -> Any:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue  # one that will not even be cancelled

    stubborn = Slow(clean)
    stubborn.classify = forever  # type: ignore[method-assign]
    started = time.monotonic()
    runner = Runner({"silent": ConfiguredCheck(Silent(), (stubborn,), 0.05)})
    (judged, *_) = await runner.run(["silent"], segment(), 5.0)
    assert judged.verdicts[0].outcome is Outcome.TIMEOUT
    assert time.monotonic() - started < 2
    below = await verdicts_of(Silent(), Slow(clean, pause=30), Slow(clean, "second"), deadline=0.2)
    assert {(verdict.outcome, verdict.backend) for verdict in below} == {(Outcome.DEGRADED, "second@1")}
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.get_coro().close()  # type: ignore[union-attr]


async def test_checks_wait_side_by_side_and_keep_their_order() -> None:
    names = [f"check{number}" for number in range(8)]
    configured = {}
    for name in names:
        check = Silent()
        check.name = name
        configured[name] = ConfiguredCheck(check, (Slow(clean, pause=0.15),))
    started = time.monotonic()
    judged = await Runner(configured).run(names, segment("short"), 5.0)
    assert time.monotonic() - started < 0.15 * 4
    assert [verdict.check for verdict in judged[0].verdicts] == names


async def test_the_budget_of_a_request_ends_even_what_is_local() -> None:
    def dawdle(_: Reading) -> Sequence[Finding]:
        time.sleep(0.003)
        return ()

    runner = Runner({"doing": ConfiguredCheck(Doing(dawdle))})
    judged = await runner.run(["doing"], segment("word " * 60_000), 0.1)
    outcomes = [each.verdicts[0].outcome for each in judged]
    assert outcomes[0] is Outcome.OK
    assert outcomes[-1] is Outcome.TIMEOUT


async def test_findings_count_in_the_segment_and_only_where_the_window_answers_for_them() -> None:
    def every_go(reading: Reading) -> Sequence[Finding]:
        at = [i for i in range(len(reading.text)) if reading.text.startswith("go", i)]
        return [Finding("GO", i, i + 2, 1.0) for i in at]

    judged = await Runner({"doing": ConfiguredCheck(Doing(every_go))}).run(["doing"], segment(), 5.0)
    places = [(f.start, f.end) for each in judged for v in each.verdicts for f in v.findings]
    assert places == [(i, i + 2) for i in range(len(LONG)) if LONG.startswith("go", i)]


async def test_scores_that_come_from_the_context_alone_are_not_counted_again() -> None:
    def beginning(readings: Sequence[Reading]) -> Sequence[Answer]:
        at = [reading.text.find("START") for reading in readings]
        return [Answer({"bad": 0.9}, (Finding("bad", i, i + 5, 0.9),)) if i >= 0 else NOTHING for i in at]

    judged = await Runner({"silent": ConfiguredCheck(Silent(), (Local(beginning),))}).run(
        ["silent"], segment("START " + LONG), 5.0
    )
    assert len(judged) > 1
    assert [bool(each.verdicts[0].scores) for each in judged] == [True] + [False] * (len(judged) - 1)


async def test_a_clean_text_costs_no_windows() -> None:
    class Quick(Silent):
        def clean(self, reading: Reading) -> bool:
            return "bad" not in reading.plain

        def find(self, reading: Reading) -> Sequence[Finding]:
            raise AssertionError("not needed")

    runner = Runner({"silent": ConfiguredCheck(Quick())})
    assert await runner.run(["silent"], segment(), 5.0) == []
    judged = await runner.run(["silent"], segment(LONG + "bad"), 5.0)
    assert {each.verdicts[0].outcome for each in judged} == {Outcome.ERROR}


async def test_a_check_of_whole_texts_sees_a_stream_as_far_as_it_has_come() -> None:
    class Whole(Check):
        name, whole = "whole", True

        def find_whole(self, segment: Segment) -> Sequence[Finding]:
            return [Finding("LONG", 500, len(segment.text), 1.0)] if len(segment.text) > 500 else ()

    runner = Runner({"whole": ConfiguredCheck(Whole())})
    judged = await runner.run(["whole"], segment(), 5.0)
    assert [(f.start, f.end) for v in judged[0].verdicts for f in v.findings] == [(500, len(LONG))]

    windower = Windower(segment(""))
    windows = [*windower.feed(LONG), *windower.finish()]
    seen: list[Judged] = []
    for window in windows:
        seen += await runner.run(["whole"], window, 5.0)
    covered = {i for each in seen for v in each.verdicts for f in v.findings for i in range(f.start, f.end)}
    assert covered == set(range(500, len(LONG)))


async def test_an_abstention_hides_nothing_that_a_lower_rung_finds() -> None:
    """It stays an abstention: to find nothing is no answer for a text that could not be judged."""
    seen = LocalStub(lambda text: Answer({"toxic": 0.9}) if "bad" in text else NOTHING)
    ladder = (Stub(lambda _: Answer({"toxic": 0.2}, abstained="unsupported language")), seen)
    runner = Runner({"toxicity": ConfiguredCheck(specs()["toxicity"].build({}), ladder)})
    for text, scores in (("a bad word", {"toxic": 0.9}), ("a word", {"toxic": 0.2})):
        (judged,) = await runner.run(["toxicity"], Segment("c", ("t",), "user", Scope.PROMPT, text), 5)
        (verdict,) = judged.verdicts
        assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAINED, "unsupported language")
        assert verdict.scores == scores
