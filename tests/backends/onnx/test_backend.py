"""The backend as the runner meets it: one pass a text, the same answer in any company, never clean by mistake."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from guardproxy.backends.base import NOTHING, Answer
from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.backends.onnx.backend import Onnx, cores
from guardproxy.backends.onnx.cache import Cache
from guardproxy.backends.onnx.decode import Decoder, Judgement
from guardproxy.backends.onnx.passes import MOST_CHARACTERS, estimate
from guardproxy.backends.onnx.pool import OVERLOADED
from guardproxy.backends.onnx.schedule import Job
from guardproxy.backends.rules import Rules
from guardproxy.checks.injection import Injection
from guardproxy.checks.pii import Pii
from guardproxy.checks.runner import ConfiguredCheck, Runner
from guardproxy.checks.toxicity import Toxicity
from guardproxy.errors import BackendError, ConfigError
from guardproxy.types import Outcome, Scope, Segment, Verdict

ALL = ("toxicity", "injection", "pii")
Load = Callable[..., Onnx]
Read = Callable[..., Any]


async def ask(backend: Onnx, checks: tuple[str, ...], *readings: Any, **more: Any) -> dict[str, list[Answer]]:
    """As the runner does it: all checks in one turn of the loop."""
    answers = await asyncio.gather(*(backend.classify(check, readings, **more) for check in checks))
    return {check: list(its) for check, its in zip(checks, answers, strict=True)}


class Recorder:
    """A reader that notes its jobs, and answers when the gate is open."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()

    def encode(self, job: Job) -> tuple[int, Any]:
        return job.tokens, None

    def read(self, job: Job, encoded: Any, given_up: Callable[[], bool]) -> Mapping[str, Judgement]:
        self.jobs.append(job)
        self.began.set()
        self.gate.wait(10)
        return {check: Judgement(scores=(0.25, 0.75)) for check in job.checks}


@pytest.fixture
async def recorded(artefact: Artefact) -> AsyncIterator[tuple[Onnx, Recorder]]:
    reader = Recorder()
    decoders = {check: Decoder(artefact.adapters[check]) for check in ALL}
    backend = Onnx("1", decoders, reader, workers=1, pace=1e-4, cache=Cache("digest"))
    yield backend, reader
    reader.gate.set()
    await backend.close()


# -- what it says -----------------------------------------------------------------------------------------------------


async def test_scores_and_findings(load: Load, read: Read) -> None:
    backend = load()
    assert backend.version.startswith("tiny+")
    assert len(backend.version) == len("tiny+") + 8
    text = "hello, you rude man; Alice Smith lives in Rome."
    found = await ask(backend, ALL, read(text))
    assert found["toxicity"][0].scores["toxic"] > 0.9
    assert found["injection"][0].scores["injection"] < 0.1
    findings = [(each.label, text[each.start : each.end]) for each in found["pii"][0].findings]
    assert findings == [("PERSON", "Alice Smith"), ("ADDRESS", "Rome")]
    assert all(each.score > 0.9 for each in found["pii"][0].findings)
    assert (await ask(backend, ALL, read("good day to you")))["pii"] == [NOTHING]


async def test_a_long_text_is_read_to_its_end(load: Load, read: Read) -> None:
    text = "all good words and some more of it. " * 40
    backend = load()
    for where in (0, len(text) // 2, len(text)):
        hidden = text[:where] + " rude bob " + text[where:]
        found = await ask(backend, ALL, read(hidden))
        assert found["toxicity"][0].scores["toxic"] > 0.9
        assert [hidden[f.start : f.end] for f in found["pii"][0].findings] == ["bob"]
    assert (await ask(backend, ALL, read(text)))["toxicity"][0].scores["toxic"] < 0.1


@pytest.mark.parametrize(
    "written",
    ["a\u200bl\u200bi\u200bc\u200be", "\uff41\uff4c\uff49\uff43\uff45", "al\\u0069ce", "аlісе", "\u00adalice"],
)
async def test_a_disguise_neither_hides_nor_shifts(load: Load, read: Read, written: str) -> None:
    text = f"\u200bplease call \U0001d41a {written}, good day"
    ((answer,),) = (await ask(load(), ("pii",), read(text))).values()
    assert [text[f.start : f.end].strip("\u00ad") for f in answer.findings] == [written.strip("\u00ad")]
    rude = "".join(chr(ord(char) + 0xFEE0) for char in "rude")
    ((answer,),) = (await ask(load(), ("toxicity",), read(f"you {rude} man"))).values()
    assert answer.scores["toxic"] > 0.9


async def test_control_tokens_in_a_text_are_text(load: Load, read: Read, artefact: Artefact) -> None:
    backend = load()
    hidden = "[CLS] document [SEP] [MASK] [PAD] alice [UNK] [SEP]"
    ((answer,),) = (await ask(backend, ("pii",), read(hidden))).values()
    assert [hidden[f.start : f.end] for f in answer.findings] == ["alice"]
    encoder = backend.pool._reader._encoder  # type: ignore[attr-defined]
    pieces = encoder.encode(hidden, "prompt")
    ids = [int(each) for piece in pieces for each in piece.ids]
    assert [ids.count(control) for control in range(5)] == [0, 0, len(pieces), len(pieces), 0]


@pytest.mark.parametrize(("text", "blank"), [("", True), (" \n\t", True), ("\u200b", True), (".", False)])
async def test_a_blank_text_has_nothing_to_judge(load: Load, read: Read, text: str, blank: bool) -> None:
    found = await ask(load(), ALL, read(text))
    assert (found["toxicity"] == [NOTHING]) == blank


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Привет, как дела сегодня у вас", "unsupported language"),
        ("\ue000\ue001\ue002", "unreadable characters"),
        ("x" * 5000, "unreadable characters"),
        ("word " * 4000, "too long"),
        ("a" * 10**6, "too long"),
        (("b" * 10_000 + " ") * 100, "too long"),
    ],
)
async def test_what_it_may_not_judge_it_says_so(load: Load, read: Read, text: str, reason: str) -> None:
    started = time.monotonic()
    found = await ask(load(), ALL, read(text))
    assert {each.abstained.replace("unreadable characters", reason) for (each,) in found.values()} == {reason}
    assert all(not each.scores and not each.findings for (each,) in found.values())
    assert time.monotonic() - started < 2


# -- one pass, in any company -----------------------------------------------------------------------------------------


async def test_checks_asked_in_one_turn_share_one_pass(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    one, two = read("one"), read("two")
    await ask(backend, ALL, one, two)
    assert sorted((job.text, sorted(job.checks)) for job in reader.jobs) == [("one", sorted(ALL)), ("two", sorted(ALL))]
    assert {job.work for job in reader.jobs} == {sum(job.tokens for job in reader.jobs)}


async def test_the_runner_s_checks_share_one_pass(recorded: Any) -> None:
    backend, reader = recorded
    rungs = (backend, Rules.load())
    runner = Runner(
        {
            "toxicity": ConfiguredCheck(Toxicity({}), rungs, 1.0),
            "injection": ConfiguredCheck(Injection({}), rungs, 0.5),
            "pii": ConfiguredCheck(Pii({}), (backend,), 2.0),
        }
    )
    text = "hello there. " * 300
    judged = await runner.run(ALL, Segment("c", (), "user", Scope.PROMPT, text), 5.0, tenant="t")
    assert len(judged) > 1
    assert sorted(job.text for job in reader.jobs) == sorted(each.window.text for each in judged)
    assert {job.checks for job in reader.jobs} == {frozenset(ALL)}


async def test_checks_asked_later_get_a_pass_of_their_own(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    its = read("one")
    await ask(backend, ("pii",), its)
    await ask(backend, ("toxicity",), its)
    assert [job.checks for job in reader.jobs] == [{"pii"}, {"toxicity"}]


async def test_scores_do_not_depend_on_company_or_order(load: Load, read: Read) -> None:
    random = Random(3)
    words = ["rude", "ignore", "alice", "smith", "lives", "in", "rome", "zanzibar", "x9", "the", ".", ",", "you"]
    texts = [" ".join(random.choices(words, k=random.randrange(1, 90))) for _ in range(60)]
    alone = load(workers=1, entries=0)
    expected = [await ask(alone, ALL, read(text)) for text in texts]
    crowd = load(workers=4, entries=0)
    order = list(range(len(texts)))
    random.shuffle(order)
    found = await asyncio.gather(*(ask(crowd, ALL, read(texts[number])) for number in order))
    assert [found[order.index(number)] for number in range(len(texts))] == expected
    together = await ask(crowd, ALL, *map(read, texts))
    assert [{check: [its[number]] for check, its in together.items()} for number in range(len(texts))] == expected


@pytest.mark.parametrize(
    "sets",
    [[{"toxicity"}], [{"pii"}], [{"toxicity", "injection"}, {"pii"}], [{"toxicity"}, {"pii"}, {"injection"}, set(ALL)]],
)
async def test_a_graph_for_fewer_checks_gives_the_same_scores(load: Load, read: Read, sets: Any) -> None:
    text = "you rude man, ignore alice in rome, " * 5
    whole, some = load(entries=0), load(sets=sets, entries=0)
    everything = await ask(whole, ALL, read(text))
    for checks in sets:
        assert await ask(some, tuple(checks), read(text)) == {check: everything[check] for check in checks}
    for graph in some.pool._reader._graphs:  # type: ignore[attr-defined]
        assert set(graph._outputs) == graph.checks


def compiled(backend: Onnx) -> list[Any]:
    return [graph.checks for graph in backend.pool._reader._graphs]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([{"toxicity"}], [{"toxicity"}]),
        ([{"pii"}], [{"pii"}]),
        ([set(ALL), {"toxicity"}], [{"toxicity"}, set(ALL)]),
        ([{"toxicity"}, {"injection"}, {"toxicity", "pii"}], [{"toxicity", "injection"}, set(ALL)]),
        ([{"toxicity"}, {"toxicity", "injection"}], [{"toxicity", "injection"}]),
        (None, [set(ALL)]),
    ],
)
def test_a_graph_of_its_own_where_that_saves_time(load: Load, sets: Any, expected: Any) -> None:
    assert compiled(load(sets=sets)) == expected


async def test_a_set_uses_the_smallest_graph_that_has_it(load: Load, read: Read) -> None:
    backend = load(sets=[{"toxicity", "injection"}, {"toxicity", "pii"}])
    graph = backend.pool._reader.graph  # type: ignore[attr-defined]
    for asked, used in (
        ("toxicity", {"toxicity", "injection"}),
        ("injection", {"toxicity", "injection"}),
        ("pii", ALL),
    ):
        assert graph(frozenset({asked})).checks == set(used)
    assert graph(frozenset({"injection", "pii"})).checks == set(ALL)  # a set that nobody announced
    found = await ask(backend, ("injection", "pii"), read("ignore alice"))
    assert found["injection"][0].scores["injection"] > 0.9
    assert len(found["pii"][0].findings) == 1


async def test_what_was_not_announced_at_all_is_not_answered(load: Load, read: Read) -> None:
    with pytest.raises(BackendError, match="no adapter"):
        await load(sets=[{"toxicity"}]).classify("pii", [read("x")])


def test_the_same_graph_is_compiled_once(load: Load) -> None:
    first, second = (load(sets=[{"toxicity"}]).pool._reader._graphs for _ in range(2))  # type: ignore[attr-defined]
    assert first[0] is second[0]


def test_it_may_serve_one_loop_after_another(load: Load, read: Read) -> None:
    backend = load()
    first = asyncio.run(ask(backend, ALL, read("you rude man")))
    assert asyncio.run(ask(backend, ALL, read("you rude man"))) == first


# -- the cache --------------------------------------------------------------------------------------------------------


async def test_a_text_that_comes_again_is_not_read_again(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    first = await ask(backend, ALL, read("one", "t"))
    reader.gate.clear()  # from here on nothing would be read
    assert await ask(backend, ALL, read("one", "t")) == first
    assert (len(reader.jobs), backend.counts()["hits"], backend.counts()["misses"]) == (1, 1, 1)


async def test_of_many_texts_only_the_new_ones_are_read(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    await ask(backend, ALL, *(read(str(number)) for number in range(40)))
    await ask(backend, ALL, *(read(str(number)) for number in range(60)))
    assert sorted(int(job.text) for job in reader.jobs) == list(range(60))


@pytest.mark.parametrize(
    ("tenant", "scope", "checks", "text"),
    [
        ("b", Scope.PROMPT, ALL, "one"),
        ("", Scope.PROMPT, ALL, "one"),
        ("a", Scope.COMPLETION, ALL, "one"),
        ("a", Scope.TOOL_RESULT, ALL, "one"),
        ("a", Scope.PROMPT, ALL[:2], "one"),
        ("a", Scope.PROMPT, ALL, "One"),
    ],
)
async def test_nothing_crosses(recorded: Any, read: Read, tenant: str, scope: Scope, checks: Any, text: str) -> None:
    backend, reader = recorded
    await ask(backend, ALL, read("one", "a"))
    await ask(backend, checks, read(text, tenant, scope))
    assert len(reader.jobs) == 2
    assert backend.counts()["hits"] == 0


async def test_a_failure_is_not_remembered(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    reader.read, kept = lambda *_: 1 / 0, reader.read
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        await backend.classify("pii", [read("one")])
    reader.read = kept
    assert (await backend.classify("toxicity", [read("one")]))[0].scores == {"toxic": 0.25, "unsafe": 0.75}


@pytest.mark.parametrize(
    ("scope", "role"),
    [
        (Scope.PROMPT, "prompt"),
        (Scope.COMPLETION, "completion"),
        (Scope.TOOL_CALL, "completion"),
        (Scope.TOOL_RESULT, "tool_result"),
        (Scope.TOOL_DEFINITION, "tool_result"),
    ],
)
async def test_roles(recorded: Any, read: Read, scope: Scope, role: str) -> None:
    backend, reader = recorded
    await ask(backend, ALL, read("x", scope=scope))
    assert [job.role for job in reader.jobs] == [role]


# -- when it cannot ---------------------------------------------------------------------------------------------------


async def verdicts(*ladder: Any, text: str = "hello there", deadline: float = 1.0) -> list[Verdict]:
    runner = Runner({"toxicity": ConfiguredCheck(Toxicity({}), ladder, deadline)})
    judged = await runner.run(["toxicity"], Segment("c", (), "user", Scope.PROMPT, text), 20.0)
    assert judged
    return [verdict for each in judged for verdict in each.verdicts]


async def test_overload_falls_to_the_rules_at_once(recorded: Any) -> None:
    backend, _ = recorded
    backend.pool.pace = backend.pool._best = 10.0
    started = time.monotonic()
    (verdict,) = await verdicts(backend, Rules.load(), deadline=5.0)
    assert time.monotonic() - started < 1
    assert (verdict.outcome, verdict.reason) == (Outcome.DEGRADED, f"onnx: {OVERLOADED}")
    assert verdict.backend.startswith("rules@")
    (alone,) = await verdicts(backend, deadline=5.0)
    assert (alone.outcome, alone.reason) == (Outcome.ERROR, f"onnx: {OVERLOADED}")
    assert backend.counts()["shed"] == 2


async def test_a_pass_that_hangs_is_a_timeout_and_never_clean(recorded: Any) -> None:
    backend, reader = recorded
    reader.gate.clear()
    (verdict,) = await verdicts(backend, deadline=0.1)
    assert (verdict.outcome, verdict.reason) == (Outcome.TIMEOUT, "onnx: deadline")
    (below,) = await verdicts(backend, Rules.load(), deadline=0.1)
    assert below.outcome is Outcome.DEGRADED
    assert backend.pool._schedule.tokens == 0  # nobody waits, so nothing is kept waiting


async def test_an_abstention_is_never_clean(load: Load) -> None:
    for text in ("Привет, как дела сегодня у вас", "y" * 300, "\ue000" * 9):
        found = await verdicts(load(), Rules.load(), text=text)
        assert {verdict.outcome for verdict in found} == {Outcome.ABSTAINED}
        assert all(verdict.reason for verdict in found)


async def test_who_leaves_takes_the_work_along(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    reader.gate.clear()
    busy = asyncio.ensure_future(backend.classify("pii", [read("busy")]))
    await asyncio.to_thread(reader.began.wait, 5)
    readings = [read("a"), read("b")]
    one, two = (asyncio.ensure_future(backend.classify(check, readings)) for check in ("toxicity", "injection"))
    await asyncio.sleep(0.01)
    assert len(backend.pool._schedule) == 2
    one.cancel()
    await asyncio.sleep(0.01)
    assert len(backend.pool._schedule) == 2  # one still waits
    two.cancel()
    await asyncio.sleep(0.01)
    assert len(backend.pool._schedule) == 0
    reader.gate.set()
    await busy
    assert [job.text for job in reader.jobs] == ["busy"]
    at_once = asyncio.ensure_future(backend.classify("pii", [read("gone")]))
    await asyncio.sleep(0)
    at_once.cancel()  # before the turn is over
    await asyncio.gather(at_once, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert [job.text for job in reader.jobs] == ["busy"]


async def test_one_text_of_many_that_fails_fails_them_all_and_drops_the_rest(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    kept = reader.read

    def failing(job: Job, *rest: Any) -> Any:
        if job.text == "7":
            raise ZeroDivisionError
        if job.text == "8":
            reader.gate.clear()  # until those who wait have been told
        return kept(job, *rest)

    reader.read = failing
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        await backend.classify("toxicity", [read(str(number)) for number in range(200)])
    assert len(backend.pool._schedule) == 0
    reader.gate.set()
    await backend.classify("toxicity", [read("after")])
    assert [job.text for job in reader.jobs] in (
        ["0", "1", "2", "3", "4", "5", "6", *rest, "after"] for rest in ([], ["8"])
    )


async def test_closing_refuses_what_waits(recorded: Any, read: Read) -> None:
    backend, reader = recorded
    reader.gate.clear()
    busy, waits = (asyncio.ensure_future(backend.classify("pii", [read(text)])) for text in ("busy", "waits"))
    await asyncio.to_thread(reader.began.wait, 5)
    await asyncio.sleep(0.01)
    threading.Timer(0.05, reader.gate.set).start()
    await backend.close()
    await busy
    with pytest.raises(BackendError, match="closed"):
        await waits
    assert await backend.health() == "closed"
    with pytest.raises(BackendError, match="closed"):
        await backend.classify("pii", [read("later")])


async def test_the_loop_stays_free(load: Load, read: Read) -> None:
    backend = load(entries=0)
    lags: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            lags.append(time.monotonic() - before - 0.001)

    ticking = asyncio.ensure_future(tick())
    texts = [f"you rude man, alice number {number}, " * 30 for number in range(60)]
    await asyncio.gather(*(ask(backend, ALL, read(text)) for text in texts))
    ticking.cancel()
    assert len(lags) > 20
    assert sorted(lags)[len(lags) // 2] < 0.02
    assert max(lags) < 0.5


@pytest.mark.parametrize(
    "text",
    ["all of it goes on. " * 52_000, ("b" * 10_000 + " ") * 100, "你好" * 500_000, "\\u0061" * 160_000, ". " * 500_000],
    ids=["prose", "long words", "ideographs", "escapes", "points"],
)
async def test_a_megabyte_is_refused_in_time_and_is_not_clean(load: Load, text: str) -> None:
    backend = load()
    backend.pool.pace = backend.pool._best = 1e-4  # as slow as a real one
    started = time.monotonic()
    found = await verdicts(backend, deadline=0.5, text=text)
    assert time.monotonic() - started < 8
    assert len(found) > 100 or text.startswith("\\")
    assert {verdict.outcome for verdict in found} <= {Outcome.ERROR, Outcome.TIMEOUT, Outcome.ABSTAINED}
    assert backend.pool._schedule.tokens == 0


def test_estimates() -> None:
    assert estimate("a" * 400, 400) == 103
    assert estimate("é" * 400, 800) == 303
    assert estimate("a" * (MOST_CHARACTERS + 1), MOST_CHARACTERS + 1) == 1


# -- loading ----------------------------------------------------------------------------------------------------------


def test_a_check_that_the_release_lacks_is_named(load: Load, folder: Path) -> None:
    with pytest.raises(BackendError, match=r"no compliance.*there are injection, pii, toxicity"):
        load(sets=[{"toxicity", "compliance"}])


def test_what_cannot_be_run_is_an_error_at_start(
    make: Callable[..., Path], reseal: Callable[..., None], load: Load
) -> None:
    folder = make(checks=("toxicity",))
    for name in ("model.onnx", "tokenizer.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept[: len(kept) // 2])
        reseal(folder)
        with pytest.raises(ConfigError):
            load(folder)
        (folder / name).write_bytes(kept)


@pytest.mark.parametrize("check", ["toxicity", "pii"])
def test_a_card_that_does_not_fit_the_graph_is_an_error_at_start(
    make: Callable[..., Path], reseal: Callable[..., None], load: Load, check: str
) -> None:
    folder = make()
    card = folder / check / "1/card.yaml"
    one = {"toxicity": "- unsafe\n", "pii": "- ADDRESS\n"}[check]
    card.write_text(card.read_text().replace(one, ""))
    reseal(folder)
    with pytest.raises(ConfigError, match=f"output {check}"):
        load(folder)


def test_as_many_threads_as_cores(folder: Path) -> None:
    backend = Onnx.load(folder)
    try:
        assert len(backend.pool._threads) == cores() >= 1
    finally:
        backend.pool.close()
