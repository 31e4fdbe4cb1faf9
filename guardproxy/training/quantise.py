"""The graph in 8 bits: a quarter of the size, and two thirds of the time or less.

- Maps are signed, one scale a column, symmetric; what they multiply is measured as it comes, one scale for a text
  (dynamic quantisation). They use 7 of their 8 bits: on x86 without VNNI the kernels add two products in 16 bits,
  which 8 would overflow.
- One scale for a text has to hold its greatest value, and BERT has a few columns that are dozens of times the others
  (Dettmers et al. 2022). Given samples, columns are brought nearer to each other before they are measured, and the map
  undoes it (Xiao et al. 2023); of the widest state, the few greatest columns are multiplied in floats instead.
  Together they halve the error of the logits for some hundredths of the time.
- What is small or decides by itself stays in floats: the maps that give the logits, norms, biases. Tables, and the maps
  that are applied by head, are stored in 8 bits and computed with as floats.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from guardproxy.training.graph_nodes import finished

Array = NDArray[Any]
Sample = Mapping[str, NDArray[np.int64]]
"""A text as the graph reads it, by input."""

LOGITS, WORDS, PLACES = "/logits.weight", "/words.table", "/places.table"
"""How the names of constants end that are left as they are, or are tables."""
EVENED, NARROW = ("/projected.weight", "/wide.weight"), ("/narrow.weight",)
"""Maps before which columns are evened out, and those of which some columns stay in floats."""
GELU, WHOLE = "/gelu", "/projected"
"""How the names end of a layer's widest state, and of a node that only layers of whole texts have."""
APART = 16  # columns that stay in floats, and at most one in sixteen

_SEVEN, _EIGHT = 63, 127


def quantised(model: onnx.ModelProto, samples: Sequence[Sample] = ()) -> onnx.ModelProto:
    """The same graph with its maps and tables in 8 bits; `model` stays as it is."""
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    rewriting = _Rewriting(constants, dict(constants), _greatest(model, samples, EVENED) if samples else {})
    nodes = [new for node in model.graph.node for new in rewriting.node(node)]
    kept = [numpy_helper.from_array(value.copy(order="C"), name) for name, value in rewriting.kept.items()]
    graph = model.graph
    return finished(helper.make_graph(nodes, graph.name, graph.input, graph.output, kept))


@dataclass(frozen=True, slots=True)
class _Rewriting:
    constants: Mapping[str, Array]  # before
    kept: dict[str, Array]  # after
    greatest: Mapping[str, Array]  # by value, each column's greatest size in the samples

    def node(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """What takes the place of `node`."""
        constant = next((name for name in node.input if name in self.constants), "")
        if node.op_type == "Gather" and constant.endswith(WORDS):
            yield from self._table(node, constant)
        elif constant.endswith(PLACES):
            yield from self._restored(constant, axis=-1)
            yield node
        elif node.op_type != "MatMul" or not constant or constant.endswith(LOGITS):
            yield node
        elif self.constants[constant].ndim == 2:
            yield from self._product(node, constant)
        else:
            yield from self._restored(constant, axis=-2)
            yield node

    def _table(self, node: onnx.NodeProto, table: str) -> Iterator[onnx.NodeProto]:
        """Rows are taken in 8 bits and then made floats."""
        out, rows = node.output[0], node.input[1]
        whole, scale = self._stored(table, -1, _EIGHT)
        yield _made("Gather", [whole, rows], f"{out}.whole")
        yield _made("Gather", [scale, rows], f"{out}.scale")
        yield _made("Cast", [f"{out}.whole"], f"{out}.float", to=TensorProto.FLOAT)
        yield _made("Mul", [f"{out}.float", f"{out}.scale"], out)

    def _restored(self, name: str, axis: int) -> Iterator[onnx.NodeProto]:
        """The runtime makes floats of it when it loads the graph."""
        whole, scale = self._stored(name, axis, _EIGHT)
        yield _made("Cast", [whole], f"{name}.float", to=TensorProto.FLOAT)
        yield _made("Mul", [f"{name}.float", scale], name)

    def _product(self, node: onnx.NodeProto, name: str) -> Iterator[onnx.NodeProto]:
        value, out = node.input[0], node.output[0]
        greatest = self.greatest.get(value)
        if greatest is not None and name.endswith(EVENED):
            value = yield from self._evened(value, name, greatest)
        yield from self._integer_product(value, name, out)

    def _evened(self, value: str, name: str, greatest: Array) -> Generator[onnx.NodeProto, None, str]:
        """Half of a column's size goes into the map. Powers of two, so that dividing and multiplying are exact."""
        rows = np.abs(self.kept[name]).max(axis=1)
        size = np.log2(np.maximum(greatest, 1e-6)) - np.log2(np.maximum(rows, 1e-6))
        factor = np.exp2(np.rint((size - size.mean()) / 2)).astype(np.float32)
        self.kept[name] = self.kept[name] * factor[:, None]
        self.kept[f"{name}.factor"] = 1 / factor
        yield _made("Mul", [value, f"{name}.factor"], f"{name}.input")
        return f"{name}.input"

    def _integer_product(self, value: str, name: str, out: str) -> Iterator[onnx.NodeProto]:
        whole, scale = self._stored(name, 0, _SEVEN)
        self.kept[scale] = self.kept[scale].reshape(-1)
        seen = [f"{out}.seen", f"{out}.seen_scale", f"{out}.seen_zero"]
        yield helper.make_node("DynamicQuantizeLinear", [value], seen, name=seen[0])
        yield _made("MatMulInteger", [seen[0], whole, seen[2]], f"{out}.sum")
        yield _made("Cast", [f"{out}.sum"], f"{out}.float", to=TensorProto.FLOAT)
        yield _made("Mul", [seen[1], scale], f"{out}.scale")
        yield _made("Mul", [f"{out}.float", f"{out}.scale"], out)

    def _stored(self, name: str, axis: int, top: int) -> tuple[str, str]:
        """Replaces a constant by whole numbers from -top to top and a scale along `axis`."""
        values = self.kept.pop(name).astype(np.float64)
        scale = (np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-12) / top).astype(np.float32)
        self.kept[f"{name}.whole"] = np.clip(np.rint(values / scale), -top, top).astype(np.int8)
        self.kept[f"{name}.scale"] = scale
        return f"{name}.whole", f"{name}.scale"


def _made(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], name=output, **attributes)


def outlying(model: onnx.ModelProto, samples: Sequence[Sample]) -> dict[str, list[int]]:
    """By layer, the columns of its widest state that should stay in floats, in order."""
    whole = {node.name.removesuffix(WHOLE) for node in model.graph.node if node.name.endswith(WHOLE)}
    found = {}
    for name, greatest in _greatest(model, samples, NARROW).items():
        if name.removesuffix(GELU) in whole:
            few = np.argsort(-greatest, kind="stable")[: min(APART, len(greatest) // APART)]
            found[name.removesuffix(GELU)] = sorted(int(column) for column in few)
    return found


def _greatest(model: onnx.ModelProto, samples: Sequence[Sample], ends: tuple[str, ...]) -> dict[str, Array]:
    """Each column's greatest size in what maps multiply, for the maps whose names end in `ends`."""
    names = sorted({n.input[0] for n in model.graph.node if n.op_type == "MatMul" and n.input[1].endswith(ends)})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = run_session(watched)
    inputs = [each.name for each in session.get_inputs()]
    states = (session.run(names, {name: sample[name] for name in inputs}) for sample in samples)
    seen = [[np.abs(state).max(axis=0) for state in each] for each in states]
    return {name: np.max(columns, axis=0) for name, columns in zip(names, zip(*seen, strict=True), strict=True)}


def run_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session on one thread: sums are made in one order, so the same graph gives the same numbers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
