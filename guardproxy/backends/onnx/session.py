"""Compiled graphs: one for each set of checks that is asked for together, made at start and never on a request.

One thread a pass and no spinning: as many passes run side by side as there are cores, and the proxy's event loop wants
its share of them. The same set of the same release is compiled once a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from time import perf_counter
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from guardproxy.backends.onnx import outputs
from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.backends.onnx.encode import Slice
from guardproxy.errors import ConfigError

MOST_GRAPHS = 3
"""Graphs that one backend compiles, the largest included: each holds its own copy of the weights."""

_WARM_UP = (8, 32, 128, 128)  # tokens; the first passes of a length allocate
_compiled: WeakValueDictionary[tuple[str, frozenset[str]], Graph] = WeakValueDictionary()
_compiling = Lock()


class Graph:
    """A session for some checks. Safe to run from several threads at once."""

    def __init__(self, model: bytes, checks: frozenset[str]) -> None:
        """Raises ConfigError for a model that cannot be run, or has other inputs than ids and shapes."""
        self.checks = checks
        try:
            self._session = ort.InferenceSession(
                model, _options(), providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
            )
        except Exception as error:  # noqa: BLE001 - the runtime's own kinds have no common ancestor
            raise ConfigError(f"the graph cannot be run: {type(error).__name__}") from None
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = [each.name for each in self._session.get_outputs()]
        if not {"ids"} <= set(self._inputs) <= {"ids", "shapes"}:
            raise ConfigError("the graph has other inputs than ids and shapes")

    def run(self, piece: Slice) -> Mapping[str, NDArray[np.float32]]:
        """The logits by check: [labels], or [tokens, tags]. Raises whatever the runtime raises."""
        feed = {"ids": piece.ids, "shapes": piece.shapes}
        found: list[Any] = self._session.run(self._outputs, {name: feed[name] for name in self._inputs})
        return dict(zip(self._outputs, found, strict=True))


def graphs_of(artefact: Artefact, sets: Iterable[frozenset[str]]) -> tuple[Graph, ...]:
    """A graph for each of the sets, smallest first, or for as many as MOST_GRAPHS allows and one for all of them.

    The sets are served in their order. Raises ConfigError.
    """
    wanted = list(dict.fromkeys(sets))
    union = frozenset[str]().union(*wanted)
    kept = wanted if len(wanted) <= MOST_GRAPHS else [*wanted[: MOST_GRAPHS - 1], union]
    if len(kept) > 1 and union not in kept and len(kept) < MOST_GRAPHS:
        kept.append(union)  # for a set that nobody announced
    model: bytes | None = None
    graphs: list[Graph] = []
    for checks in dict.fromkeys(kept):
        with _compiling:
            graph = _compiled.get((artefact.digest, checks))
            if graph is None:
                model = model or artefact.model()
                graph = Graph(outputs.only(model, checks), checks)
                _compiled[artefact.digest, checks] = graph
        graphs.append(graph)
    return tuple(sorted(graphs, key=lambda graph: len(graph.checks)))


def warm_up(graphs: Iterable[Graph], max_tokens: int) -> float:
    """Runs each graph some times; seconds a token of the slowest one."""
    slowest = 0.0
    for graph in graphs:
        for tokens in (min(tokens, max_tokens) for tokens in _WARM_UP):
            piece = Slice(np.zeros(tokens, np.int64), np.zeros(tokens, np.int64), [(0, 0)] * tokens, 0)
            started = perf_counter()
            graph.run(piece)
            pace = (perf_counter() - started) / tokens
        slowest = max(slowest, pace)
    return slowest


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # made for one length, and every text has its own
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
