"""Compiled graphs: what the sets of checks that are asked for together need, made at start and never on a request.

- A graph holds its own copy of the weights, so a set gets one of its own only where that saves time: a check that
  judges tokens has whole layers to itself, while a further classifier costs next to nothing.
- One thread a pass and no spinning: as many passes run side by side as there are cores, and the proxy's event loop
  wants its share of them.
- The same graph of the same release is compiled once a process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from contextlib import suppress
from threading import Lock
from time import perf_counter
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from guardproxy.backends.onnx import outputs
from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.backends.onnx.card import TOKENS
from guardproxy.backends.onnx.encode import Slice
from guardproxy.errors import ConfigError

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
        # The session keeps the model in case somebody changes providers: as much memory as the weights once more.
        self._session._model_bytes = None
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
    """The graphs that answer the sets, smallest first; the last one has all their checks. Raises ConfigError."""
    wanted = [frozenset(each) for each in sets]
    union = frozenset[str]().union(*wanted)
    token_checks = {check for check in union if artefact.adapters[check].card.kind == TOKENS}
    lean = frozenset[str]().union(*(each for each in wanted if not each & token_checks))
    kept = [lean, union] if lean else [union]
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
    del model
    _trim()
    return tuple(graphs)


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


def _trim() -> None:
    """Gives the memory that compiling took back to the system: more than the graph keeps. Only the GNU library can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # made for one length, and every text has its own
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
