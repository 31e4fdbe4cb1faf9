"""A release is used as it was made, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardproxy.backends.onnx import artefact as artefacts
from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.errors import ConfigError

Maker = Callable[..., Path]
FILES = [
    "NOTICE",
    "model.onnx",
    "tokenizer.json",
    *(
        f"{check}/1/{name}"
        for check in ("toxicity", "injection", "pii")
        for name in ("card.yaml", "calibration.json", "adapter_model.safetensors")
    ),
]


def test_a_release_as_it_was_made(folder: Path) -> None:
    loaded = Artefact.load(folder)
    assert sorted(loaded.files) == sorted(FILES)
    assert list(loaded.adapters) == ["injection", "pii", "toxicity"]
    assert loaded.adapters["pii"].card.labels == ("PERSON", "ADDRESS")
    assert loaded.adapters["toxicity"].calibration.curves["toxic"].scale == 1.0
    assert (loaded.release, loaded.max_tokens, loaded.overlap) == ("tiny", 32, 8)
    assert loaded == Artefact.load(str(folder))


@pytest.mark.parametrize("name", FILES)
def test_every_file_must_be_the_one_that_was_tested(make: Maker, name: str) -> None:
    file = make() / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ConfigError, match=name):
        Artefact.load(file.parents[name.count("/")])
    file.unlink()
    with pytest.raises(ConfigError, match=name):
        Artefact.load(file.parents[name.count("/")])


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "pii/1/card.yaml", "injection/1/calibration.json"])
def test_a_file_that_the_manifest_forgets_is_not_used(make: Maker, name: str) -> None:
    folder = make()
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=f"does not list {name}"):
        Artefact.load(folder)


def test_a_file_that_changes_after_it_was_verified_is_not_read(make: Maker) -> None:
    loaded = Artefact.load(make())
    model = loaded.model()
    (loaded.folder / "model.onnx").write_bytes(model + b"\0")
    with pytest.raises(ConfigError, match=r"model\.onnx"):
        loaded.model()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"base": "x"},
        {"checks": {}},
        {"checks": {"pii": 1}},
        {"checks": {"pii": "2"}},
        {"files": []},
        {"files": {"../x": "0"}},
        {"files": {"/etc/hostname": "0"}},
        {"release": None},
    ],
)
def test_a_manifest_that_is_none(make: Maker, reseal: Callable[..., None], changes: dict[str, Any]) -> None:
    folder = make()
    reseal(folder, **changes)
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        Artefact.load(folder)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object(make: Maker, raw: bytes) -> None:
    folder = make()
    (folder / "manifest.json").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        Artefact.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"roles": {"prompt": "user"}},
        {"roles": {"prompt": "user", "completion": "assistant", "tool_result": "user"}},
        {"max_tokens": 3},
        {"max_tokens": 1024},
        {"overlap": 29},
        {"overlap": -1},
        {"base": "another"},
        {"check": "other"},
        {"version": "2"},
        {"labels": ()},
        {"labels": ("x", "x")},
        {"uncertain": (0.6, 0.4)},
        {"unknown": 0.0},
        {"kind": "novel"},
    ],
)
def test_a_card_for_something_else(make: Maker, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"card\.yaml"):
        Artefact.load(make(checks=("toxicity",), **changes))


@pytest.mark.parametrize("raw", [b"", b"- x", b"{", b"\xff", b"labels: 3\nlanguages: []"])
def test_a_card_that_is_none(make: Maker, reseal: Callable[..., None], raw: bytes) -> None:
    folder = make()
    (folder / "pii/1/card.yaml").write_bytes(raw)
    reseal(folder)
    with pytest.raises(ConfigError, match=r"card\.yaml"):
        Artefact.load(folder)


def test_checks_that_read_one_pass_want_the_same_slices(make: Maker, reseal: Callable[..., None]) -> None:
    folder = make()
    file = folder / "pii/1/card.yaml"
    file.write_text(file.read_text().replace("max_tokens: 32", "max_tokens: 64"))
    reseal(folder)
    with pytest.raises(ConfigError, match="max_tokens and overlap"):
        Artefact.load(folder)


@pytest.mark.parametrize(
    "raw", ["{", "[]", '{"curves": {}, "points": {}}', '{"curves": {"injection": {"scale": NaN}}, "points": {}}']
)
def test_a_calibration_that_does_not_calibrate(make: Maker, reseal: Callable[..., None], raw: str) -> None:
    folder = make()
    (folder / "injection/1/calibration.json").write_text(raw)
    reseal(folder)
    with pytest.raises(ConfigError, match=r"calibration\.json"):
        Artefact.load(folder)


def test_a_graph_without_a_check_s_output(make: Maker, reseal: Callable[..., None]) -> None:
    folder = make(checks=("toxicity",))
    other = folder.parent / "other"
    (folder / "injection/1").mkdir(parents=True)
    for name in ("card.yaml", "calibration.json"):
        text = (folder / "toxicity/1" / name).read_text()
        (folder / "injection/1" / name).write_text(text.replace("check: toxicity", "check: injection"))
    assert not other.exists()
    reseal(folder)
    with pytest.raises(ConfigError, match="injection"):
        Artefact.load(folder).model()


def test_no_release_comes_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(artefacts.guardproxy, "__file__", str(tmp_path / "guardproxy" / "__init__.py"))
    with pytest.raises(ConfigError, match="--adapters"):
        Artefact.load()
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        Artefact.load()
