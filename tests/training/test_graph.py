"""The graph gives what the models give from which it was built, and gives it alike every time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="building graphs is tested against torch: pip install guardproxy[train]")
pytest.importorskip("peft", reason="building graphs is tested against peft: pip install guardproxy[train]")

from guardproxy.backends.onnx import outputs
from guardproxy.errors import ConfigError
from guardproxy.training import lora, quantise
from guardproxy.training.graph import Branch, arranged, build, quantised
from guardproxy.training.graph_nodes import Nodes
from tests.training import tiny

LENGTHS = (3, 4, 17, 128, 300)
# peft asks transformers in a way that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def work(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_work(tmp_path_factory.mktemp("work"), base)


@pytest.fixture(scope="module")
def trunk(base: Path, work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    weights, config = tiny.weights(base)
    return lora.merged(weights, lora.read(work / "shared").deltas()), config


@pytest.fixture(scope="module")
def expected(base: Path, work: Path) -> tiny.Expected:
    return tiny.Expected(base, work)


def running(model: onnx.ModelProto) -> Callable[[dict[str, Any]], dict[str, np.ndarray[Any, Any]]]:
    session = quantise.run_session(model)
    inputs, names = [each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(names, {name: given[name] for name in inputs}), strict=True))


def run(model: onnx.ModelProto, given: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return running(model)(given)


def compact(weights: Any, config: Any, branches: list[Branch]) -> onnx.ModelProto:
    return quantised(arranged(weights, config, branches, samples()), samples())


def samples(count: int = 8) -> list[dict[str, Any]]:
    return [tiny.text(8 + 13 * seed, seed) for seed in range(count)]


def test_logits_are_those_of_the_models(trunk: Any, work: Path, expected: tiny.Expected) -> None:
    model = build(*trunk, tiny.branches(work))
    onnx.checker.check_model(model, full_check=True)
    judge = running(model)
    for tokens in LENGTHS:
        given = tiny.text(tokens, seed=tokens)
        found = judge(given)
        assert list(found) == list(tiny.CHECKS)
        for check, logits in found.items():
            np.testing.assert_allclose(logits, expected(check, given), atol=1e-4)
            assert logits.shape == ((tokens, 5) if check == "pii" else (len(tiny.CHECKS[check][2]),))


def test_columns_apart_change_how_and_not_what(trunk: Any, work: Path, expected: tiny.Expected) -> None:
    plain = build(*trunk, tiny.branches(work))
    apart = quantise.outlying(plain, samples())
    assert set(apart) == {f"shared/{n}" for n in range(5)} | {"pii/4", "pii/5"}
    assert all(len(set(columns)) == 8 for columns in apart.values())
    model = build(*trunk, tiny.branches(work), apart)
    onnx.checker.check_model(model, full_check=True)
    given = tiny.text(40)
    for check, logits in run(model, given).items():
        np.testing.assert_allclose(logits, expected(check, given), atol=1e-4)


def test_outlying_columns_are_the_greatest(trunk: Any, work: Path) -> None:
    weights, config = trunk
    loud = {
        **weights,
        "encoder.layer.2.intermediate.dense.bias": weights["encoder.layer.2.intermediate.dense.bias"].copy(),
    }
    loud["encoder.layer.2.intermediate.dense.bias"][[3, 77]] = 50
    assert {3, 77} <= set(quantise.outlying(build(loud, config, tiny.branches(work)), samples())["shared/2"])


@pytest.mark.parametrize("tokens", LENGTHS)
def test_first_token_alone_is_exact(trunk: Any, work: Path, tokens: int) -> None:
    """The last layer for one token gives what the layer gives for all."""
    [branch] = tiny.branches(work, ["toxicity"])
    zeros = {"shape.weight": np.zeros((14, tiny.HIDDEN)), "out.bias": np.zeros(tiny.HIDDEN)}
    states = Branch("states", "tokens", 6, {}, zeros | {"out.weight": np.eye(tiny.HIDDEN)})
    bare = replace(branch, name="bare", depth=6, deltas={})
    own = replace(branch, name="own", depth=0, deltas={})
    together, alone = build(*trunk, [states, bare]), build(*trunk, [bare])
    given = tiny.text(tokens)
    found = run(together, given)
    np.testing.assert_allclose(run(alone, given)["bare"], found["bare"], atol=1e-5)
    np.testing.assert_allclose(run(build(*trunk, [own]), given)["own"], found["bare"], atol=1e-5)
    assert found["states"].shape == (tokens, tiny.HIDDEN)


def test_nothing_is_computed_for_nobody(trunk: Any, work: Path) -> None:
    every = build(*trunk, tiny.branches(work))
    assert not any("shared/5" in node.name for node in every.graph.node)
    assert not any(node.name.startswith("toxicity/4") for node in every.graph.node)
    one = build(*trunk, tiny.branches(work, ["toxicity"]))
    assert [each.name for each in one.graph.input] == ["ids"]
    assert [each.name for each in every.graph.input] == ["ids", "shapes"]
    # In its last layer a classifier multiplies no map with all tokens.
    assert not any(node.name in ("toxicity/5/projected.product", "toxicity/5/key_turned") for node in every.graph.node)


def test_leaving_an_output_out_leaves_out_all_that_it_needs(trunk: Any, work: Path) -> None:
    every = quantised(build(*trunk, tiny.branches(work)))
    cut = onnx.load_from_string(outputs.only(every.SerializeToString(), ["toxicity"]))
    names = {node.name for node in quantised(build(*trunk, tiny.branches(work, ["toxicity"]))).graph.node}
    assert {node.name for node in cut.graph.node} == names
    given = tiny.text(30)
    np.testing.assert_array_equal(run(cut, given)["toxicity"], run(every, given)["toxicity"])


@pytest.mark.parametrize("compacted", [False, True])
def test_eight_bits_stay_close(trunk: Any, work: Path, expected: tiny.Expected, *, compacted: bool) -> None:
    branches = tiny.branches(work)
    model = compact(*trunk, branches) if compacted else quantised(build(*trunk, branches))
    onnx.checker.check_model(model)
    texts = [tiny.text(tokens, seed=tokens) for tokens in (3, 40, 128, 300)]
    logits = [*map(running(model), texts)]
    for check in tiny.CHECKS:
        found = np.concatenate([each[check].ravel() for each in logits])
        wanted = np.concatenate([expected(check, given).ravel() for given in texts])
        assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) > 0.995


def test_eight_bits_are_eight_bits(trunk: Any, work: Path) -> None:
    model = compact(*trunk, tiny.branches(work))
    kept = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    maps = {node.input[1] for node in model.graph.node if node.op_type == "MatMulInteger"}
    assert len(maps) == 7 * 4 + 3 * 5
    for name in maps:
        assert kept[name].dtype == np.int8
        assert 0 < np.abs(kept[name]).max() <= 63  # 7 bits: two products of 8 overflow 16 bits
    assert kept["shared/words.table.whole"].dtype == np.int8
    floats = sum(value.nbytes for value in kept.values() if value.dtype == np.float32)
    assert model.ByteSize() < 0.5 * build(*trunk, tiny.branches(work)).ByteSize()
    assert floats < 0.5 * model.ByteSize()


def test_great_columns_cost_no_precision(trunk: Any, work: Path) -> None:
    """What BERTs have and random weights have not: a unit of a layer that is dozens of times the others."""
    weights, config = dict(trunk[0]), trunk[1]
    for number in range(6):
        bias, narrow = (f"encoder.layer.{number}.{name}" for name in ("intermediate.dense.bias", "output.dense.weight"))
        weights |= {bias: weights[bias].copy(), narrow: weights[narrow].copy()}
        weights[bias][9] += 60
        weights[narrow][:, 9] /= 60
    branches = [replace(branch, deltas={}) for branch in tiny.branches(work)]
    exact = build(weights, config, branches)
    texts = [tiny.text(50, seed) for seed in range(100, 106)]
    wanted = [*map(running(exact), texts)]

    def error(model: onnx.ModelProto) -> float:
        found = map(running(model), texts)
        return float(
            np.mean([np.square(a["pii"] - b["pii"]).mean() for a, b in zip(found, wanted, strict=True)]) ** 0.5
        )

    assert error(compact(weights, config, branches)) < 0.25 * error(quantised(exact))


def test_columns_of_unlike_size_are_evened_out() -> None:
    random = np.random.default_rng(0)
    sizes = np.exp2(random.integers(-3, 4, 32)).astype(np.float32)
    weight = random.normal(size=(32, 48)).astype(np.float32) / sizes[:, None]
    nodes = Nodes()
    table = nodes.constant("rows", random.normal(size=(50, 32)).astype(np.float32) * sizes)
    nodes.linear(nodes.node("Gather", [table, "ids"], "row"), weight, np.zeros(48, np.float32), "/wide", "out")
    model = nodes.model(["ids"], [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)])
    given = {"ids": np.arange(50)}
    exact = run(model, given)["out"]
    plain, evened = (np.abs(run(quantised(model, some), given)["out"] - exact).max() for some in ([], [given]))
    assert evened < 0.5 * plain


def test_same_inputs_same_bytes(trunk: Any, work: Path) -> None:
    def made() -> bytes:
        return compact(*trunk, tiny.branches(work)).SerializeToString(deterministic=True)

    once = made()
    assert made() == once
    assert b"20" + b"26-" not in once


def test_adapters_are_really_in_it(trunk: Any, base: Path, work: Path) -> None:
    given, branches = tiny.text(20), tiny.branches(work, ["toxicity", "pii"])
    whole = run(build(*trunk, branches), given)
    bare = run(build(*trunk, [replace(branch, deltas={}) for branch in branches]), given)
    unshared = run(build(*tiny.weights(base), branches), given)
    for check in ("toxicity", "pii"):
        assert np.abs(whole[check] - bare[check]).max() > 1e-2
        assert np.abs(whole[check] - unshared[check]).max() > 1e-2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "shared"}, "name"),
        ({"name": "ids"}, "name"),
        ({"name": "A check"}, "name"),
        ({"depth": 7}, "depth"),
        ({"depth": -1}, "depth"),
        ({"depth": 6}, "not its own"),
        ({"kind": "tokens"}, "head must have"),
        ({"kind": "other"}, "head must have"),
        ({"head": {}}, "head must have"),
        ({"deltas": {"encoder.layer.4.output.dense": np.zeros((32, 128))}}, "not its own"),
        ({"deltas": {"encoder.layer.5.output.dense": np.zeros((128, 32))}}, "does not fit"),
        ({"deltas": {"pooler.dense": np.zeros((32, 32))}}, "not its own"),
        ({"deltas": {"encoder.layer.5.output.dense.weight": np.zeros((32, 128))}}, "not its own"),
    ],
)
def test_branches_that_do_not_fit_are_refused(trunk: Any, work: Path, change: dict[str, Any], complaint: str) -> None:
    [branch] = tiny.branches(work, ["toxicity"])
    with pytest.raises(ConfigError, match=complaint):
        build(*trunk, [replace(branch, **change)])


@pytest.mark.parametrize("name", ["dense.weight", "dense.bias", "out.weight", "out.bias"])
def test_heads_of_another_width_are_refused(trunk: Any, work: Path, name: str) -> None:
    [branch] = tiny.branches(work, ["toxicity"])
    with pytest.raises(ConfigError, match="does not fit"):
        build(*trunk, [replace(branch, head={**branch.head, name: np.zeros((7,) * branch.head[name].ndim)})])


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "roberta"},
        {"hidden_act": "gelu_new"},
        {"position_embedding_type": "relative_key"},
        {"layer_norm_eps": None},
    ],
)
def test_other_bases_are_refused(trunk: Any, work: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        build(trunk[0], {**trunk[1], **config}, tiny.branches(work))


def test_missing_weights_and_missing_checks_are_refused(trunk: Any, work: Path) -> None:
    weights, config = trunk
    [branch] = tiny.branches(work, ["toxicity"])
    with pytest.raises(ConfigError, match=r"has no encoder\.layer\.3\.output\.dense\.weight"):
        build({k: v for k, v in weights.items() if k != "encoder.layer.3.output.dense.weight"}, config, [branch])
    for branches in ([], [branch, branch]):
        with pytest.raises(ConfigError, match="each once"):
            build(weights, config, branches)
