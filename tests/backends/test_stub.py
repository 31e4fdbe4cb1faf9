"""The stub does what its script says, and what it answers as nonsense is refused by the runner, every kind of it."""

from __future__ import annotations

import asyncio

import pytest

from guardproxy.backends.base import NOTHING, Answer, LocalBackend
from guardproxy.backends.stub import HANG, Delay, LocalStub, Nonsense, Stub, abstain
from guardproxy.checks.base import Check
from guardproxy.checks.runner import ConfiguredCheck, Runner
from guardproxy.errors import BackendError
from guardproxy.reading import Reading
from guardproxy.types import Finding, Outcome, Scope, Segment, Window

RUDE = Answer({"toxic": 0.9}, (Finding("toxic", 0, 4, 0.9),))


def reading(text: str) -> Reading:
    length = len(text)
    return Reading(Window(Segment("c", (), "user", Scope.PROMPT, text), 0, 0, length, length, text))


async def test_the_first_key_in_a_text_decides() -> None:
    stub = Stub({"rude": RUDE, "r": abstain("a reason")})
    assert await stub.classify("toxicity", [reading("rude"), reading("poor"), reading("fine")]) == [
        RUDE,
        Answer(abstained="a reason"),
        NOTHING,
    ]


async def test_a_callable_may_script_it() -> None:
    stub = Stub(lambda text: Answer({"length": len(text) / 10}))
    assert await stub.classify("x", [reading("abc")]) == [Answer({"length": 0.3})]


async def test_it_counts_and_keeps_nothing() -> None:
    stub = Stub({})
    await stub.classify("toxicity", [reading("a secret word"), reading("b")])
    await stub.classify("pii", [reading("c")])
    assert stub.calls == {"toxicity": 1, "pii": 1}
    assert stub.texts == {"toxicity": 2, "pii": 1}
    assert "secret" not in repr(vars(stub))


async def test_it_raises_what_it_is_told() -> None:
    with pytest.raises(BackendError, match="down"):
        await Stub({"a": BackendError("down")}).classify("x", [reading("a")])
    with pytest.raises(ZeroDivisionError):
        LocalStub({"a": ZeroDivisionError()}).classify_now("x", [reading("a")])


async def test_it_is_late() -> None:
    stub = Stub({"a": Delay(0.02, Delay(0.02, RUDE))})
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await stub.classify("x", [reading("a")]) == [RUDE]
    assert loop.time() - started >= 0.035


async def test_it_hangs_until_cancelled() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Stub({"a": HANG}).classify("x", [reading("a")]), 0.02)


async def test_health_and_close() -> None:
    for stub in (Stub({}, unhealthy="no replicas"), LocalStub({}, unhealthy="no replicas")):
        assert await stub.health() == "no replicas"
        assert not stub.closed
        await stub.close()
        assert stub.closed


async def test_the_local_one_answers_at_once() -> None:
    stub = LocalStub({"rude": RUDE}, name="quick", version="7")
    assert isinstance(stub, LocalBackend)
    assert (stub.name, stub.version) == ("quick", "7")
    assert stub.classify_now("x", [reading("rude")]) == [RUDE]
    assert await stub.classify("x", [reading("fine")]) == [NOTHING]
    assert not stub.clean("x", reading("fine"))
    assert LocalStub({}, seems_clean=True).clean("x", reading("fine"))


@pytest.mark.parametrize("reply", [HANG, Delay(1)])
def test_the_local_one_cannot_wait(reply: object) -> None:
    with pytest.raises(BackendError, match="cannot wait"):
        LocalStub({"a": reply}).classify_now("x", [reading("a")])  # type: ignore[dict-item]


class Plain(Check):
    name = "toxicity"


async def verdict(*ladder: Stub | LocalStub) -> Outcome:
    runner = Runner({"toxicity": ConfiguredCheck(Plain(), ladder, deadline=0.1)})
    judged = await runner.run(["toxicity"], Segment("c", (), "user", Scope.PROMPT, "some text"), 1.0)
    (only,) = [v for one in judged for v in one.verdicts]
    return only.outcome


@pytest.mark.parametrize("stub", [Stub, LocalStub])
@pytest.mark.parametrize("kind", list(Nonsense))
async def test_no_nonsense_is_taken_for_an_answer(kind: Nonsense, stub: type[Stub | LocalStub]) -> None:
    assert await verdict(stub({"text": kind})) is Outcome.ERROR
    assert await verdict(stub({"text": kind}), LocalStub({"text": RUDE})) is Outcome.DEGRADED


async def test_a_stub_shows_every_outcome() -> None:
    assert await verdict(Stub({})) is Outcome.OK
    assert await verdict(Stub({"text": RUDE})) is Outcome.OK
    assert await verdict(Stub({"text": HANG})) is Outcome.TIMEOUT
    assert await verdict(Stub({"text": abstain("language")})) is Outcome.ABSTAINED
    assert await verdict(Stub({"text": BackendError("down")})) is Outcome.ERROR
    assert await verdict(Stub({"text": HANG}), LocalStub({})) is Outcome.DEGRADED
