"""The queue: short work first, nothing starves, and the counts are true. Time is a number here."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.backends.onnx.schedule import Job, Schedule


def job(tokens: int, work: int | None = None, name: str = "") -> Job:
    return Job(name, "prompt", frozenset({"x"}), tokens, tokens if work is None else work, lambda _: None)


def drained(schedule: Schedule) -> list[Job]:
    return list(iter(schedule.pop, None))


def test_the_shortest_is_first_and_equals_keep_their_order() -> None:
    schedule = Schedule()
    jobs = [job(tokens) for tokens in (90, 10, 50, 10)]
    for each in jobs:
        schedule.put(each, 0.0)
    assert (len(schedule), schedule.tokens) == (4, 160)
    assert drained(schedule) == [jobs[1], jobs[3], jobs[2], jobs[0]]
    assert (len(schedule), schedule.tokens, schedule.pop()) == (0, 0, None)


def test_a_long_job_is_overtaken_for_a_bounded_time() -> None:
    schedule = Schedule(patience=0.001)
    long = job(300)
    schedule.put(long, 0.0)
    before = 0
    for step in range(1000):  # a short one every ms, for ever, and room for just one of all
        schedule.put(job(10), step / 1000)
        if schedule.pop() is long:
            break
        before += 1
    assert before in (290, 291)  # until what comes now has a later key than 0.3 s


def test_a_text_of_a_long_request_is_long_however_short_it_is() -> None:
    schedule = Schedule()
    window, prompt = job(20, work=5000), job(100)
    schedule.put(window, 0.0)
    schedule.put(prompt, 1.0)
    assert drained(schedule) == [prompt, window]


def test_what_is_ahead() -> None:
    schedule = Schedule(patience=0.001)
    for tokens in (10, 20, 40):
        schedule.put(job(tokens), 0.0)
    assert [schedule.ahead(schedule.key(work, 0.0)) for work in (5, 10, 30, 40)] == [0, 10, 30, 70]
    assert schedule.ahead(schedule.key(1, 1.0)) == 70


steps = st.lists(st.tuples(st.sampled_from(["put", "pop", "drop"]), st.integers(1, 500)), max_size=200)


@given(steps)
def test_counts_are_true_whatever_is_done(done: list[tuple[str, int]]) -> None:
    schedule = Schedule()
    waiting: list[Any] = []
    every: list[Any] = []
    for now, (what, number) in enumerate(done):
        if what == "put":
            waiting.append(job(number))
            every.append(waiting[-1])
            schedule.put(waiting[-1], now / 100)
        elif what == "pop":
            taken = schedule.pop()
            assert (taken is None) == (not waiting)
            if taken is not None:
                assert taken.key == min(each.key for each in waiting)
                waiting.remove(taken)
        elif every:
            chosen = every[number % len(every)]  # perhaps one that has left, or was dropped before
            schedule.drop([chosen, chosen])
            if chosen in waiting:
                waiting.remove(chosen)
        assert len(schedule) == len(waiting)
        assert schedule.tokens == sum(each.tokens for each in waiting)
        assert schedule.ahead(1e9) == schedule.tokens


def test_what_is_dropped_does_not_pile_up() -> None:
    schedule = Schedule()
    kept = job(1)
    schedule.put(kept, 0.0)
    for _ in range(10_000):
        gone = job(100)
        schedule.put(gone, 0.0)
        schedule.drop([gone])
    assert len(schedule._heap) < 200
    assert drained(schedule) == [kept]
