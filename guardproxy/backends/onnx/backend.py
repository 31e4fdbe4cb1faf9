"""Small models on the CPU, in the proxy's own process: the backend `onnx`.

    classify ─► gather (one turn of the loop) ─► cache ─► pool ─► tokenise, one pass, decode ─► answers

It answers from the pass or the cache, abstains where the cards say so, and refuses at once what it could not do in
time; it never guesses. Everything that takes time happens on the pool's threads.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Self

from guardproxy.backends.base import Answer
from guardproxy.backends.onnx.artefact import MODEL, TOKENIZER, Artefact
from guardproxy.backends.onnx.cache import ENTRIES, Cache
from guardproxy.backends.onnx.decode import Decoder, answer
from guardproxy.backends.onnx.encode import Encoder
from guardproxy.backends.onnx.gather import Gatherer, Group, Judgements
from guardproxy.backends.onnx.passes import Passes, estimate
from guardproxy.backends.onnx.pool import Pool, Reader
from guardproxy.backends.onnx.schedule import Job
from guardproxy.backends.onnx.session import Graph, graphs_of, warm_up
from guardproxy.errors import BackendError, ConfigError
from guardproxy.reading import Reading
from guardproxy.types import Scope

_BREATH = 16  # texts made ready in a row before others get their turn of the loop
_ROLES: Mapping[Scope, str] = {
    Scope.PROMPT: "prompt",
    Scope.COMPLETION: "completion",
    Scope.TOOL_CALL: "completion",
    Scope.TOOL_RESULT: "tool_result",
    Scope.TOOL_DEFINITION: "tool_result",
}


class Onnx:
    """The backend. `decoders` by check; what is not among them is not answered. Close it, for it has threads."""

    name = "onnx"

    def __init__(
        self, version: str, decoders: Mapping[str, Decoder], reader: Reader, *, workers: int, pace: float, cache: Cache
    ) -> None:
        self.version = version
        self._decoders = decoders
        self._gatherer = Gatherer(self._start)
        self.pool, self.cache = Pool(reader, workers, pace), cache

    @classmethod
    def load(
        cls,
        directory: str | Path | None = None,
        sets: Collection[Collection[str]] | None = None,
        *,
        workers: int | None = None,
        entries: int = ENTRIES,
    ) -> Self:
        """The release in `directory`, or the one that comes with the package, compiled and warm: takes a second or two.

        `sets`: the checks that will be asked for, as they will be asked together; all together if not given.
        `workers`: threads, as many as there are cores if not given. `entries`: of the cache. Raises ConfigError for a
        release that is not sound, BackendError for a check that it lacks.
        """
        artefact = Artefact.load(directory)
        wanted = [frozenset(each) for each in sets if each] if sets else [frozenset(artefact.adapters)]
        checks = frozenset[str]().union(*wanted)
        missing = checks - set(artefact.adapters)
        if missing:
            have = ", ".join(artefact.adapters)
            raise BackendError(
                f"the adapters {artefact.release} have no {', '.join(sorted(missing))}; there are {have}"
            )
        try:
            encoder = Encoder(artefact.folder / TOKENIZER, artefact.max_tokens, artefact.overlap)
        except Exception as error:  # noqa: BLE001 - the tokenizer library raises plain Exception
            raise ConfigError(f"{TOKENIZER}: {type(error).__name__}: cannot be used") from None
        graphs = graphs_of(artefact, wanted)
        decoders = {check: Decoder(artefact.adapters[check]) for check in sorted(checks)}
        _agreed(graphs, decoders, encoder)
        reader = Passes(encoder, graphs, decoders)
        return cls(
            f"{artefact.release}+{artefact.digest[:8]}",
            decoders,
            reader,
            workers=workers or cores(),
            pace=warm_up(graphs, artefact.max_tokens),
            cache=Cache(artefact.digest, entries),
        )

    async def classify(self, check: str, readings: Sequence[Reading], *, budget: float = math.inf) -> Sequence[Answer]:
        """One answer for each reading, in order. Raises BackendError, at once where the budget cannot be kept."""
        decoder = self._decoders.get(check)
        if decoder is None:
            raise BackendError("no adapter for this check")
        if not readings:
            return []
        group = self._gatherer.join(readings)
        future = group.ask(check, budget)
        try:
            results = await future
        finally:
            group.leave(future)
            if not group.waited_for:
                self.pool.drop(group.jobs)
        return [answer(decoder.card, each[check], reading) for each, reading in zip(results, readings, strict=True)]

    async def health(self) -> str:
        """ "" when texts are being read, else why not."""
        return self.pool.health()

    async def close(self) -> None:
        """Ends the threads. What waits is refused."""
        await asyncio.to_thread(self.pool.close)

    def counts(self) -> Mapping[str, int]:
        """What happened so far: cache `hits` and `misses`, texts `read`, and requests `shed`."""
        return {
            "hits": self.cache.hits,
            "misses": self.cache.misses,
            "read": self.pool.finished,
            "shed": self.pool.shed,
        }

    def _start(self, group: Group, at: int = 0) -> None:
        """Looks up what is known of a group's texts, from number `at` on, and queues the rest."""
        for number in range(at, len(group.readings)):
            if number == at + _BREATH:
                group.loop.call_soon(self._start, group, number)
                return
            if not group.waited_for:
                return
            reading = group.readings[number]
            role, text = _ROLES[reading.window.segment.scope], reading.plain
            key = self.cache.key(reading.tenant, role, group.checks, text)
            known = self.cache.get(key)
            if known is None:
                group.jobs.append(self._job(group, number, role, key))
            else:
                group.results[number] = known
        self._queue(group)

    def _queue(self, group: Group) -> None:
        group.expect()
        if not group.jobs or not group.waited_for:
            return
        work = sum(job.tokens for job in group.jobs)
        for job in group.jobs:
            job.work = work
        try:
            self.pool.submit(group.jobs, group.deadline)
        except BackendError as error:
            group.fail(error)

    def _job(self, group: Group, number: int, role: str, key: bytes) -> Job:
        reading = group.readings[number]

        def done(result: Judgements | BackendError) -> None:
            def remember() -> None:
                if not isinstance(result, BackendError):
                    self.cache.put(key, result)

            group.deliver(number, result, remember)

        text = reading.plain
        return Job(text, role, group.checks, estimate(text, len(reading.data)), 0, done)


def _agreed(graphs: Sequence[Graph], decoders: Mapping[str, Decoder], encoder: Encoder) -> None:
    """Reads one text with each graph. Raises ConfigError where what comes out is not what the cards say."""
    (piece,) = encoder.encode(".", "prompt")
    for graph in graphs:
        try:
            found = graph.run(piece)
        except Exception as error:  # noqa: BLE001 - the runtime's own kinds have no common ancestor
            raise ConfigError(f"{MODEL} cannot be run: {type(error).__name__}") from None
        for check, values in found.items():
            if not decoders[check].understands(piece, values):
                raise ConfigError(f"{MODEL}: the output {check} is not of the form that its card says")


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
