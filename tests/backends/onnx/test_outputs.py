"""Cutting a graph down: against the onnx package, which does the same with the whole schema in hand."""

from contextlib import suppress
from itertools import combinations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from guardproxy.backends.onnx import outputs
from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.backends.onnx.encode import Slice
from guardproxy.backends.onnx.session import Graph
from guardproxy.errors import ConfigError

CHECKS = ("injection", "pii", "toxicity")
SUBSETS = [frozenset(names) for size in (1, 2, 3) for names in combinations(CHECKS, size)]


@pytest.mark.parametrize("names", SUBSETS, ids=sorted)
def test_as_the_onnx_package_cuts_it(artefact: Artefact, names: frozenset[str]) -> None:
    whole = onnx.load_from_string(artefact.model())
    cut = onnx.load_from_string(outputs.only(artefact.model(), names))
    onnx.checker.check_model(cut, full_check=True)
    inputs = ["ids", "shapes"] if "pii" in names else ["ids"]
    asked = [each.name for each in whole.graph.output if each.name in names]
    expected = onnx.utils.Extractor(whole).extract_model(inputs, asked)
    assert [each.name for each in cut.graph.input] == inputs
    assert [each.name for each in cut.graph.output] == asked
    assert [each.name for each in cut.graph.node] == [each.name for each in expected.graph.node]
    assert sorted(cut.graph.node, key=str) == sorted(expected.graph.node, key=str)
    assert {each.name for each in cut.graph.initializer} == {each.name for each in expected.graph.initializer}
    assert list(cut.opset_import) == list(whole.opset_import)


def test_all_of_it_is_what_it_was(artefact: Artefact) -> None:
    model = artefact.model()
    assert onnx.load_from_string(outputs.only(model, CHECKS)) == onnx.load_from_string(model)
    assert set(outputs.outputs(model)) == set(CHECKS)


@pytest.mark.parametrize("names", SUBSETS, ids=sorted)
def test_what_is_left_computes_exactly_the_same(artefact: Artefact, names: frozenset[str]) -> None:
    whole, cut = Graph(artefact.model(), frozenset(CHECKS)), Graph(outputs.only(artefact.model(), names), names)
    random = np.random.default_rng(1)
    for tokens in (1, 3, 17, 60):
        piece = Slice(random.integers(0, 100, tokens), random.integers(0, 14, tokens), [(0, 0)] * tokens, 0)
        full, some = whole.run(piece), cut.run(piece)
        assert set(some) == names
        for name in names:
            assert some[name].tobytes() == full[name].tobytes()


@pytest.mark.parametrize("names", [[], ["other"], ["pii", "other"], ["ids"], ["table"]])
def test_an_output_that_is_none(artefact: Artefact, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="no output"):
        outputs.only(artefact.model(), names)


def test_a_graph_with_branches_is_refused() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["outer"], ["y"])], "g", [], [helper.make_tensor_value_info("y", 1, [1])]
    )
    node = helper.make_node("If", ["condition"], ["out"], then_branch=inner, else_branch=inner)
    inputs = [helper.make_tensor_value_info("condition", TensorProto.BOOL, [])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("out", 1, [1])])
    with pytest.raises(ConfigError, match="branches"):
        outputs.only(helper.make_model(graph).SerializeToString(), ["out"])


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_anything_else_is_refused(data: bytes) -> None:
    for act in (outputs.outputs, lambda raw: outputs.only(raw, ["x"])):
        with suppress(ConfigError):
            assert act(data) == ()


@given(at=st.integers(0, 10_000), length=st.integers(1, 40))
@settings(max_examples=60)
def test_a_torn_model_is_refused_or_still_parses(artefact: Artefact, at: int, length: int) -> None:
    model = artefact.model()
    torn = model[: at % len(model)] + model[at % len(model) + length :]
    with suppress(ConfigError):
        outputs.only(torn, ["pii"])
    with pytest.raises(ConfigError):
        Graph(model[: len(model) // 2], frozenset(CHECKS))


def test_the_runtime_takes_it(artefact: Artefact) -> None:
    session = ort.InferenceSession(outputs.only(artefact.model(), ["toxicity"]), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["ids"]
