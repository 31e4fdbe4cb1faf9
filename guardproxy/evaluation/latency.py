"""How long judging takes, by the length of the text: one thread, one text after another, in shuffled order."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardproxy.evaluation.datasets import Row
from guardproxy.evaluation.judging import Graph

EDGES = (16, 32, 64, 128, 256, 512)
_EACH = 30  # texts of a length
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for texts of more than `over` and up to `upto` tokens: tokenising, all passes, decoding."""

    over: int
    upto: int
    texts: int
    p50: float
    p95: float


def measure(graph: Graph, rows: Sequence[Row], checks: Collection[str], seed: int = 0) -> list[Latency]:
    """Times of some of the rows, each judged for all of the checks."""
    random = np.random.default_rng(seed)
    buckets: defaultdict[int, list[Row]] = defaultdict(list)
    for number in random.permutation(len(rows)).tolist():
        tokens = graph.tokens(rows[number])
        place = int(np.searchsorted(EDGES, tokens))
        if place < len(EDGES) and len(buckets[place]) < _EACH:
            buckets[place].append(rows[number])
    jobs = [(place, row) for place, its in buckets.items() for row in its] * _ROUNDS
    for _, row in jobs[: _EACH // 3]:
        graph.seconds(row, checks)
    times: defaultdict[int, list[float]] = defaultdict(list)
    for number in random.permutation(len(jobs)).tolist():
        place, row = jobs[number]
        times[place].append(1000 * graph.seconds(row, checks))
    return [
        Latency(
            EDGES[place - 1] if place else 0,
            EDGES[place],
            len(buckets[place]),
            *(float(value) for value in np.quantile(times[place], (0.5, 0.95))),
        )
        for place in sorted(times)
    ]


def hardware() -> str:
    """The processor, how many cores of it may be used, and whether it has instructions for 8-bit products."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = set(fields.get("flags", "").split())
    kind = next((said for flag, said in _FLAGS if flag in flags), "")
    return f"{name}, {cores} core{'s' if cores > 1 else ''}{kind}"


_FLAGS = (("avx512_vnni", ", AVX-512 VNNI"), ("avx_vnni", ", AVX VNNI"), ("avx2", ", AVX2 without VNNI"))
