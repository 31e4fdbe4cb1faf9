"""The threads: refusal in time, nothing read in vain, a hung pass noticed. Passes here are what a test says."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from guardproxy.backends.onnx.pool import CLOSED, OVERLOADED, STUCK, TOO_LATE, Pool
from guardproxy.backends.onnx.schedule import Job
from guardproxy.errors import BackendError

FAR = 1e12


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Reads what the job's text names: `open` waits for the gate, `boom` raises, a number is how many tokens it has."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began: SimpleQueue[str] = SimpleQueue()
        self.read_texts: list[str] = []

    def encode(self, job: Job) -> tuple[int, Any]:
        return (int(job.text) if job.text.isdigit() else job.tokens), job.text

    def read(self, job: Job, encoded: Any, given_up: Callable[[], bool]) -> Any:
        self.began.put(job.text)
        if encoded.startswith("open"):
            self.gate.wait(10)
        if encoded == "boom":
            raise ValueError("content!")
        if given_up():
            raise BackendError(TOO_LATE)
        self.read_texts.append(encoded)
        return encoded.upper()


class Setup:
    def __init__(self, workers: int = 1, **more: Any) -> None:
        self.clock, self.reader = Clock(), Scripted()
        self.pool = Pool(self.reader, workers, 0.001, clock=self.clock, **more)
        self.results: SimpleQueue[Any] = SimpleQueue()

    def job(self, text: str = "x", tokens: int = 100) -> Job:
        return Job(text, "prompt", frozenset({"x"}), tokens, tokens, lambda result: self.results.put((text, result)))

    def submit(self, *jobs: Job, deadline: float = FAR) -> None:
        self.pool.submit(jobs, deadline)

    def block(self, number: int = 1) -> None:
        """Keeps that many threads busy until the gate opens."""
        for _ in range(number):
            self.submit(self.job("open"))
            assert self.reader.began.get(timeout=5) == "open"

    def result(self) -> Any:
        text, result = self.results.get(timeout=5)
        return text, (str(result) if isinstance(result, BackendError) else result)


@pytest.fixture
def setup() -> Iterator[Callable[..., Setup]]:
    made: list[Setup] = []

    def begin(workers: int = 1, **more: Any) -> Setup:
        made.append(Setup(workers, **more))
        return made[-1]

    yield begin
    for each in made:
        each.reader.gate.set()
        each.pool.close()
        assert not any(thread.is_alive() for thread in each.pool._threads)


def test_reads_and_reports(setup: Callable[..., Setup]) -> None:
    s = setup(2)
    s.submit(s.job("one"), s.job("two"))
    assert {s.result(), s.result()} == {("one", "ONE"), ("two", "TWO")}
    assert s.pool.health() == ""


def test_a_failing_pass_fails_its_own_text_alone_and_tells_no_content(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.submit(s.job("boom"), s.job("fine"))
    assert {s.result(), s.result()} == {("boom", "the model failed: ValueError"), ("fine", "FINE")}


def test_the_shortest_waiting_job_is_read_next(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.block()
    for tokens in (300, 30, 200):
        s.submit(s.job(f"t{tokens}", tokens))
    s.reader.gate.set()
    assert [s.result()[0] for _ in range(4)] == ["open", "t30", "t200", "t300"]


def test_what_would_come_too_late_is_refused_at_once(setup: Callable[..., Setup]) -> None:
    s = setup(2)
    s.block(2)  # 200 tokens at 1 ms, two threads: 0.1 s
    s.submit(s.job(tokens=100), deadline=0.2)
    with pytest.raises(BackendError, match=OVERLOADED):
        s.submit(s.job(tokens=100), deadline=0.2)
    assert s.pool.shed == 1
    s.submit(s.job(tokens=40), deadline=0.2)  # goes before the one that waits
    s.submit(s.job(tokens=100), deadline=0.5)
    with pytest.raises(BackendError, match=OVERLOADED):
        s.submit(*(s.job(tokens=300) for _ in range(2)), deadline=0.5)  # together too long: none of them is queued
    assert s.pool.outstanding == 200 + 100 + 40 + 100


def test_a_long_text_cannot_have_short_ones_refused(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.block()
    s.submit(*(s.job(tokens=1000) for _ in range(50)), deadline=FAR)
    s.submit(s.job(tokens=50), deadline=0.2)
    with pytest.raises(BackendError, match=OVERLOADED):
        s.submit(s.job(tokens=1000), deadline=10)


def test_the_queue_is_bounded(setup: Callable[..., Setup]) -> None:
    s = setup(most=3)
    s.block()
    s.submit(s.job(), s.job())
    with pytest.raises(BackendError, match=OVERLOADED):
        s.submit(s.job(), s.job())
    s.submit(s.job())
    with pytest.raises(BackendError, match=OVERLOADED):
        s.submit(s.job())


def test_what_nobody_waits_for_is_not_read(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.block()
    gone, kept = s.job("gone"), s.job("kept")
    s.submit(gone, kept)
    s.pool.drop([gone])
    assert s.pool.outstanding == 200
    s.reader.gate.set()
    assert [s.result()[0] for _ in range(2)] == ["open", "kept"]
    assert s.reader.read_texts == ["open", "kept"]
    assert s.results.empty()


def test_what_is_too_late_is_not_read(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.block()
    s.submit(s.job("late"), deadline=1.0)
    s.clock.now = 2.0
    s.reader.gate.set()
    assert [s.result(), s.result()] == [("open", "OPEN"), ("late", TOO_LATE)]
    assert s.reader.read_texts == ["open"]


def test_a_text_that_turns_out_far_longer_is_not_begun(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.submit(s.job("9000", tokens=10), deadline=1.0)
    assert s.result() == ("9000", OVERLOADED)
    s.submit(s.job("900", tokens=10), deadline=1.0)
    assert s.result() == ("900", "900")


def test_a_pass_is_given_up_between_its_steps(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.submit(s.job("open"), deadline=1.0)
    assert s.reader.began.get(timeout=5) == "open"
    s.clock.now = 2.0
    s.reader.gate.set()
    assert s.result() == ("open", TOO_LATE)


def test_hung_threads_are_noticed_and_refused_at_once(setup: Callable[..., Setup]) -> None:
    s = setup(2)
    s.block(2)
    s.clock.now = 4.0
    assert s.pool.health() == ""
    s.clock.now = 6.0
    assert s.pool.health() == STUCK
    with pytest.raises(BackendError, match=STUCK):
        s.submit(s.job())
    s.reader.gate.set()
    s.result(), s.result()
    for _ in range(100):
        if not s.pool.health():
            break
        time.sleep(0.01)
    assert s.pool.health() == ""


def test_one_hung_thread_is_not_all(setup: Callable[..., Setup]) -> None:
    s = setup(2)
    s.block(1)
    s.clock.now = 100.0
    assert s.pool.health() == ""
    s.submit(s.job("fine"))
    assert s.result() == ("fine", "FINE")


def test_the_pace_follows_and_an_outlier_does_not_rule(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.submit(s.job("open", 100))
    s.reader.began.get(timeout=5)
    s.clock.now = 1000.0  # a machine that slept
    s.reader.gate.set()
    s.result()
    assert 0.001 < s.pool.pace < 0.002
    for _ in range(200):
        s.submit(s.job("y", 100))
        s.result()
    assert s.pool.pace < 1e-5  # no time passed


def test_a_slow_spell_does_not_refuse_for_ever(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.pool.pace = 0.1
    for _ in range(100):  # nothing runs, so nothing measures
        try:
            s.submit(s.job(tokens=100), deadline=1.0)
            break
        except BackendError:
            continue
    assert s.result() == ("x", "X")


def test_closing_refuses_what_waits_and_ends_the_threads(setup: Callable[..., Setup]) -> None:
    s = setup()
    s.block()
    s.submit(s.job("waits"))
    s.reader.gate.set()
    s.pool.close()
    outcomes = {s.result(), s.result()}
    assert ("waits", CLOSED) in outcomes or ("waits", "WAITS") in outcomes
    assert s.pool.health() == CLOSED
    with pytest.raises(BackendError, match=CLOSED):
        s.submit(s.job())


def test_a_finished_text_is_forgotten(setup: Callable[..., Setup]) -> None:
    s = setup()
    job = s.job()
    s.submit(job)
    s.result()
    for _ in range(100):
        if len(gc.get_referrers(job)) <= 1:
            break
        time.sleep(0.01)
    assert len(gc.get_referrers(job)) <= 1  # this test's own frame
