"""A graph under construction: nodes and constants by name, in the order in which they were added.

Names come from the caller and order from the calls, so the same calls give the same bytes. A constant that was added
once under a name is not added again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
PRODUCER = "guardproxy"
LENGTH = "tokens"
"""The name of the one axis whose size is not fixed."""


class Nodes:
    """Collects nodes and constants. Its methods return the name of the value that they make."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[Any] | Sequence[int] | float) -> str:
        """A constant; lists of integers become int64, numbers a scalar of 32 bits."""
        if name not in self._constants:
            if isinstance(value, float):
                value = np.array(value, dtype=np.float32)
            array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.int64)
            self._constants[name] = numpy_helper.from_array(array.copy(order="C"), name)
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node with one output, which gives the node its name."""
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def parts(self, value: str, outputs: Sequence[str], axis: int) -> list[str]:
        """`value` in equal parts along `axis`."""
        self._nodes.append(helper.make_node("Split", [value], list(outputs), name=outputs[0], axis=axis))
        return list(outputs)

    def shaped(self, value: str, shape: Sequence[int], output: str) -> str:
        """`value` in another shape; 0 keeps an axis, -1 takes what is left."""
        name = "/shape" + "".join(f"_{size}" for size in shape)
        return self.node("Reshape", [value, self.constant(name, shape)], output)

    def linear(self, value: str, weight: NDArray[Any], bias: NDArray[Any], name: str, output: str = "") -> str:
        """[n, in] times [in, out] plus [out]; the result is called `output`, or `name`."""
        product = self.node("MatMul", [value, self.constant(f"{name}.weight", weight)], f"{name}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias", bias)], output or name)

    def gelu(self, value: str, output: str) -> str:
        """The exact form, x / 2 * (1 + erf(x / sqrt 2)); the runtime makes one operator of it."""
        scaled = self.node("Div", [value, self.constant("/sqrt_2", 2.0**0.5)], f"{output}.scaled")
        erf = self.node("Erf", [scaled], f"{output}.erf")
        raised = self.node("Add", [erf, self.constant("/one", 1.0)], f"{output}.raised")
        doubled = self.node("Mul", [value, raised], f"{output}.doubled")
        return self.node("Mul", [doubled, self.constant("/half", 0.5)], output)

    def norm(self, value: str, weight: NDArray[Any], bias: NDArray[Any], epsilon: float, output: str) -> str:
        """Layer normalisation of the last axis."""
        inputs = [value, self.constant(f"{output}.weight", weight), self.constant(f"{output}.bias", bias)]
        return self.node("LayerNormalization", inputs, output, axis=-1, epsilon=epsilon)

    def model(self, inputs: Sequence[str], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The finished model; each input is int64 [n]."""
        given = [helper.make_tensor_value_info(name, TensorProto.INT64, [LENGTH]) for name in inputs]
        constants = list(self._constants.values())
        return finished(helper.make_graph(self._nodes, PRODUCER, given, list(outputs), constants))


def finished(graph: onnx.GraphProto) -> onnx.ModelProto:
    """The model of `graph`; nothing in it depends on the day or on the versions of what wrote it."""
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, producer_name=PRODUCER, ir_version=IR_VERSION, opset_imports=[opset])
