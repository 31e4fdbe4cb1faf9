"""A release is what its runs say, whole and the same every time, or there is none."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

pytest.importorskip("torch", reason="releases are tested against torch: pip install guardproxy[train]")
pytest.importorskip("peft", reason="releases are tested against peft: pip install guardproxy[train]")

from peft import PeftModel
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel

from guardproxy.backends.onnx import calibration, card
from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.backends.onnx.calibration import Calibration, Curve
from guardproxy.backends.onnx.encode import Encoder
from guardproxy.backends.onnx.session import Graph
from guardproxy.errors import ConfigError
from guardproxy.training import base as bases
from guardproxy.training import export, graph, lora, reference
from tests.training import tiny

# peft asks transformers in a way that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

FILES = {
    "manifest.json",
    "model.onnx",
    "tokenizer.json",
    "NOTICE",
    *(f"shared/3/{name}" for name in ("adapter_config.json", "adapter_model.safetensors", "train.yaml")),
    *(
        f"{check}/1/{name}"
        for check in tiny.CHECKS
        for name in (
            *("adapter_config.json", "adapter_model.safetensors", "head.safetensors"),
            *("card.yaml", "train.yaml", "calibration.json"),
        )
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def work(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that no test changes."""
    return tiny.make_work(tmp_path_factory.mktemp("work"), base)


@pytest.fixture(scope="module")
def released(base: Path, work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that no test changes."""
    return export.release(work, base, tmp_path_factory.mktemp("out") / "adapters", release="2026.11").parent


@pytest.fixture(scope="module")
def two(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_work(tmp_path_factory.mktemp("two"), base, ["toxicity", "pii"])


@pytest.fixture
def runs(two: Path, tmp_path: Path) -> Path:
    """Runs of two checks, to be changed."""
    return Path(shutil.copytree(two, tmp_path / "work"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_card(run: Path, **changes: Any) -> None:
    card.dump(replace(card.load(run / "card.yaml"), **changes), run / "card.yaml")


def change_tensors(path: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    save_file(dict(change(load_file(path))), path)


def test_a_release_has_all_its_files_with_their_hashes(base: Path, released: Path) -> None:
    files = contents(released)
    assert set(files) == FILES
    manifest = json.loads(files["manifest.json"])
    assert manifest == {
        "format": 1,
        "release": "2026.11",
        "base": {
            "name": tiny.NAME,
            "licence": "unknown",
            "sha256": sha256((base / "model.safetensors").read_bytes()).hexdigest(),
        },
        "checks": dict.fromkeys(tiny.CHECKS, "1"),
        "files": {name: sha256(data).hexdigest() for name, data in files.items() if name != "manifest.json"},
    }


def test_a_release_is_what_the_runtime_takes(released: Path) -> None:
    artefact = Artefact.load(released)
    assert set(artefact.adapters) == set(tiny.CHECKS)
    for check, (kind, depth, labels) in tiny.CHECKS.items():
        its = artefact.adapters[check].card
        assert (its.kind, its.depth, its.labels) == (kind, depth, labels)
        assert its.shared == artefact.files["shared/3/adapter_model.safetensors"]
        assert artefact.adapters[check].calibration == Calibration(dict.fromkeys(labels, Curve()))
    pieces = Encoder(released / "tokenizer.json", 64, 16).encode("word3 word5 a word7!", "prompt")
    found = Graph(artefact.model(), frozenset(tiny.CHECKS)).run(pieces[0])
    assert {check: logits.shape for check, logits in found.items()} == {
        "toxicity": (2,),
        "injection": (1,),
        "compliance": (3,),
        "pii": (8, 5),
    }


def test_the_model_serves_what_is_kept(base: Path, released: Path, tmp_path: Path) -> None:
    """peft, with the adapters of the release, comes to the logits of the release's graph."""
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("shared/3", *(f"{check}/1" for check in tiny.CHECKS)):
        (kept / name.split("/")[0]).symlink_to(released / name)
        tensors = load_file(released / name / "adapter_model.safetensors")
        assert {value.dtype for value in tensors.values()} == {np.dtype(np.float16)}
    for check in tiny.CHECKS:
        head = load_file(released / check / "1" / "head.safetensors")
        assert {value.dtype for value in head.values()} == {np.dtype(np.float16)}
    session = Graph((released / "model.onnx").read_bytes(), frozenset(tiny.CHECKS))
    expected = tiny.Expected(base, kept)
    pieces = Encoder(released / "tokenizer.json").encode(
        "word1 is not word2, and word9 was 12345 word30 (a b c)", "prompt"
    )
    found = session.run(pieces[0])
    for check in tiny.CHECKS:
        wanted = expected(check, {"ids": pieces[0].ids, "shapes": pieces[0].shapes})
        likeness = found[check].ravel() @ wanted.ravel()
        assert likeness > 0.98 * np.linalg.norm(found[check]) * np.linalg.norm(wanted)


def test_the_reference_is_right(base: Path, work: Path) -> None:
    expected = tiny.Expected(base, work)
    weights, config = tiny.weights(base)
    trunk = lora.merged(weights, lora.read(work / "shared").deltas())
    for branch in tiny.branches(work):
        for tokens in (3, 60):
            given = tiny.text(tokens, tokens)
            found = reference.logits(trunk, config, branch, given)
            np.testing.assert_allclose(found, expected(branch.name, given), atol=1e-4)


def test_same_runs_same_bytes_and_nothing_changes_twice(base: Path, work: Path, released: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapters"
    export.release(work, base, out, release="2026.11")
    once = contents(out)
    assert once == contents(released)
    export.release(work, base, out, release="2026.11")
    assert contents(out) == once
    assert [path.name for path in tmp_path.iterdir()] == ["adapters"]


def test_nothing_names_the_place_or_the_day(base: Path, work: Path, released: Path) -> None:
    for name, data in contents(released).items():
        for trace in (base, work, released):
            assert str(trace).encode() not in data, name
    model = onnx.load(released / "model.onnx")
    assert (model.producer_name, model.producer_version, model.doc_string) == ("guardproxy", "", "")
    for check in ("shared/3", "pii/1"):
        config = json.loads((released / check / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == tiny.NAME


def test_another_release_takes_the_place_of_the_first(base: Path, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapters"
    for name in ("data/rows.jsonl", "report/report.md", "training/pii.yaml", "README.md"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("kept")
    export.release(runs, base, out, release="1")
    (out / "toxicity/1/eval.json").write_text("{}")
    export.release(runs, base, out, release="2", versions={"toxicity": "2026.11", "shared": "b"})
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["checks"] == {"toxicity": "2026.11", "pii": "1"}
    assert {name.rpartition("/")[0] for name in manifest["files"]} == {"", "toxicity/2026.11", "pii/1", "shared/b"}
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        *("data", "report", "training"),
        *("toxicity", "pii", "shared"),
    }
    assert [path.name for path in (out / "toxicity").iterdir()] == ["2026.11"]
    assert yaml.safe_load((out / "toxicity/2026.11/card.yaml").read_text())["version"] == "2026.11"
    assert (out / "data/rows.jsonl").read_text() == (out / "README.md").read_text() == "kept"
    assert Artefact.load(out).release == "2"


def test_one_check_and_no_shared_adapter(base: Path, tmp_path: Path) -> None:
    runs = tiny.make_work(tmp_path / "work", base, ["injection"], shared=False)
    out = export.release(runs, base, tmp_path / "adapters", release="1").parent
    assert {path.name for path in out.iterdir()} == {
        "manifest.json",
        "model.onnx",
        "tokenizer.json",
        "NOTICE",
        "injection",
    }
    assert [each.name for each in onnx.load(out / "model.onnx").graph.input] == ["ids"]
    assert Artefact.load(out).adapters["injection"].card.shared == ""


def test_a_calibration_of_the_run_is_kept(base: Path, runs: Path, tmp_path: Path) -> None:
    told = Calibration({label: Curve(2.0, -1.0, 0.25) for label in tiny.CHECKS["toxicity"][2]})
    calibration.dump(told, runs / "toxicity" / "calibration.json")
    (runs / "toxicity" / "checkpoint.pt").write_bytes(b"not for others")
    (runs / "toxicity" / "history.json").write_bytes(b"{}")
    out = export.release(runs, base, tmp_path / "adapters", release="1").parent
    assert calibration.load(out / "toxicity/1/calibration.json") == told
    assert not [*out.rglob("checkpoint.pt"), *out.rglob("history.json")]


def test_the_tokenizer_neither_cuts_nor_fills(base: Path, released: Path) -> None:
    theirs = json.loads((base / "tokenizer.json").read_text())
    ours = json.loads((released / "tokenizer.json").read_text())
    assert theirs["padding"]
    assert theirs["truncation"]
    assert ours == theirs | {"padding": None, "truncation": None}
    assert (
        len(Tokenizer.from_file(str(released / "tokenizer.json")).encode("a " * 300, add_special_tokens=False).ids)
        == 300
    )


def test_the_notice_names_the_base(released: Path, base: Path) -> None:
    notice = (released / "NOTICE").read_text()
    assert tiny.NAME in notice
    assert sha256((base / "model.safetensors").read_bytes()).hexdigest() in notice
    assert "unknown" in notice


def test_the_pinned_base_brings_its_licence(
    base: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "SHA256", sha256((base / "model.safetensors").read_bytes()).hexdigest())
    out = export.release(runs, base, tmp_path / "adapters", release="1").parent
    assert json.loads((out / "manifest.json").read_text())["base"]["licence"] == "Apache-2.0"
    assert "all-MiniLM-L6-v2" in (out / "NOTICE").read_text()


def break_key(run: Path) -> None:
    change_tensors(run / lora.WEIGHTS, lambda tensors: {k.replace("lora_A", "lora_C"): v for k, v in tensors.items()})


def break_depth(run: Path) -> None:
    change_card(run, depth=6)


def break_head(run: Path) -> None:
    change_tensors(run / "head.safetensors", lambda t: {k: v for k, v in t.items() if k != "out.bias"})


def break_extra(run: Path) -> None:
    change_tensors(run / "head.safetensors", lambda t: t | {"spare": t["out.bias"]})


def break_range(run: Path) -> None:
    change_tensors(run / "head.safetensors", lambda t: t | {"out.bias": np.full_like(t["out.bias"], np.inf)})


def break_config(run: Path) -> None:
    path = run / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(run)}))


def break_name(run: Path) -> None:
    path = run / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "another"}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (break_key, "does not know"),
        (break_depth, "not its own"),
        (break_head, "outputs"),
        (break_extra, "nothing else"),
        (break_range, "16-bit"),
        (break_config, "not a path"),
        (break_name, "several bases"),
        (lambda run: change_card(run, base="0" * 64), "another base"),
        (lambda run: change_card(run, shared="0" * 64), "another shared"),
        (lambda run: change_card(run, shared=""), "another shared"),
        (lambda run: change_card(run, check="pii"), "card is of pii"),
        (lambda run: change_card(run, labels=("unsafe",)), "outputs"),
        (lambda run: change_card(run, version="../1"), "version"),
        (lambda run: change_card(run, max_tokens=32), "max_tokens"),
        (lambda run: change_card(run, roles={}), "roles"),
        (lambda run: (run / "card.yaml").write_text("[1]"), "card.yaml"),
        (lambda run: (run / "card.yaml").unlink(), "not a card"),
        (lambda run: (run / "head.safetensors").unlink(), "head.safetensors"),
        (lambda run: (run / "calibration.json").write_text("{}"), "calibration.json"),
    ],
)
def test_runs_that_make_no_release_are_refused(
    base: Path, runs: Path, tmp_path: Path, change: Callable[[Path], Any], complaint: str
) -> None:
    change(runs / "toxicity")
    out = tmp_path / "adapters"
    out.mkdir()
    (out / "README.md").write_text("here before")
    with pytest.raises(ConfigError, match=complaint):
        export.release(runs, base, out, release="1")
    assert contents(out) == {"README.md": b"here before"}
    assert {path.name for path in tmp_path.iterdir()} == {"adapters", "work"}


def test_versions_of_nothing_and_runs_of_nothing_are_refused(base: Path, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run of quality"):
        export.release(runs, base, tmp_path / "out", release="1", versions={"quality": "1"})
    with pytest.raises(ConfigError, match="no run of a check"):
        export.release(tmp_path / "nothing", base, tmp_path / "out", release="1")
    for check in ("toxicity", "pii"):
        (runs / check / "adapter_config.json").unlink()
    with pytest.raises(ConfigError, match="no run of a check"):
        export.release(runs, base, tmp_path / "out", release="1")


def test_a_shared_adapter_of_what_no_check_uses_is_refused(base: Path, runs: Path, tmp_path: Path) -> None:
    def more(tensors: dict[str, Any]) -> dict[str, Any]:
        a, b = (np.ones(shape, np.float32) for shape in ((4, tiny.HIDDEN), (tiny.HIDDEN, 4)))
        name = "base_model.model.pooler.dense.lora_{}.weight"
        return tensors | {name.format("A"): a, name.format("B"): b}

    change_tensors(runs / "shared" / lora.WEIGHTS, more)
    digest = sha256((runs / "shared" / lora.WEIGHTS).read_bytes()).hexdigest()
    for check in ("toxicity", "pii"):
        change_card(runs / check, shared=digest)
    with pytest.raises(ConfigError, match=r"pooler\.dense"):
        export.release(runs, base, tmp_path / "out", release="1")


def test_a_graph_that_computes_something_else_is_refused(
    base: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = graph.layers.whole

    def wrong(nodes: Any, value: str, layer: Any, *rest: Any) -> str:
        return whole(nodes, value, replace(layer, query_bias=layer.query_bias + 0.1), *rest)

    monkeypatch.setattr(graph.layers, "whole", wrong)
    with pytest.raises(ConfigError, match="logits are not the adapter's"):
        export.release(runs, base, tmp_path / "out", release="1")
    assert not (tmp_path / "out").exists()


def test_eight_bits_that_lose_the_logits_are_refused(
    base: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.quantise, "_SEVEN", 1)
    with pytest.raises(ConfigError, match="lost in 8 bits"):
        export.release(runs, base, tmp_path / "out", release="1")


def test_kept_adapters_load_in_peft(base: Path, released: Path) -> None:
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), str(released / "pii/1"))
    kept = load_file(released / "pii/1/adapter_model.safetensors")
    name = "base_model.model.encoder.layer.4.output.dense.lora_B"
    loaded = model.state_dict()[f"{name}.default.weight"]
    np.testing.assert_array_equal(loaded.float().numpy(), kept[f"{name}.weight"].astype(np.float32))
