"""A tiny release with a tiny model that knows a few words, so that what comes out can be foretold.

The model mixes its words with their neighbours a little, through random weights, as a real one does; but `rude` makes a
text toxic, `ignore` an injection, and `alice`, `bob` and `smith` are a person's names, by a wide margin.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from guardproxy.backends.onnx import calibration, card
from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.backends.onnx.backend import Onnx
from guardproxy.backends.onnx.calibration import Calibration, Curve
from guardproxy.backends.onnx.card import Card
from guardproxy.backends.onnx.encode import ROLES, SHAPES
from guardproxy.reading import Reading
from guardproxy.types import Scope, Segment, Window

BASE = sha256(b"no base at all").hexdigest()
LABELS = {"toxicity": ("toxic", "unsafe"), "injection": ("injection",), "pii": ("PERSON", "ADDRESS")}
_WORDS = (
    "rude ignore alice bob smith lives in rome the a of to and is was you i we they he she it this that for on with as"
    " at by from not are have had will can what when who how all some words go on good day hello world please write me"
    " mail about house street road number one two three four five very kind text long short call name my your his her"
)
WORDS = _WORDS.split()
_HIDDEN = 16
_WEIGHT = 12.0

Maker = Callable[..., Path]


def vocabulary() -> dict[str, int]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *ROLES.values(),
        *WORDS,
        *letters,
        *".,;:!?'\"-_/()<>[]{}@#+=*&%$",
    ]
    tokens += [f"##{letter}" for letter in letters]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def tokenizer(vocab: Mapping[str, int]) -> Tokenizer:
    made = Tokenizer(models.WordPiece(dict(vocab), unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return made


def graph(vocab: Mapping[str, int], labels: Mapping[str, tuple[str, ...]], layers: int = 3) -> onnx.ModelProto:
    """A trunk that all branches share, and a branch for each check."""
    random = np.random.default_rng(7)
    nodes: list[Any] = []
    weights: dict[str, np.ndarray[Any, Any]] = {}

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(name: str, array: np.ndarray[Any, Any]) -> str:
        weights[name] = array.astype(np.float32) if array.dtype == np.float64 else array
        return name

    def noise(name: str, *shape: int) -> str:
        return weight(name, random.normal(0, 0.3, shape))

    axis = weight("axis", np.array([0]))
    flow = node("Gather", noise("table", len(vocab), _HIDDEN), "ids")
    for number in range(layers):
        mean = node("ReduceMean", flow, axis, keepdims=1)
        flow = node("Tanh", node("MatMul", node("Add", flow, mean), noise(f"layer{number}", _HIDDEN, _HIDDEN)))
    for check, its in labels.items():
        if check == "pii":
            known = np.zeros((len(vocab), 5))
            known[:, 0] = _WEIGHT / 2
            for word, tag in {"alice": 1, "bob": 1, "smith": 2, "rome": 3}.items():
                known[vocab[word], tag] = _WEIGHT
            shaped = node("Add", flow, node("Gather", noise("shape", SHAPES, _HIDDEN), "shapes"))
            mixed = node("MatMul", shaped, noise("pii.out", _HIDDEN, 5))
            nodes.append(helper.make_node("Add", [mixed, node("Gather", weight("pii.words", known), "ids")], [check]))
            continue
        known = np.zeros((len(vocab), len(its)))
        for word in {"toxicity": ("rude",), "injection": ("ignore",)}.get(check, ()):
            known[vocab[word]] = _WEIGHT
        total = node("ReduceSum", node("Gather", weight(f"{check}.words", known), "ids"), axis, keepdims=0)
        mixed = node("MatMul", node("ReduceMean", flow, axis, keepdims=0), noise(f"{check}.out", _HIDDEN, len(its)))
        shifted = node("Add", mixed, weight(f"{check}.bias", np.full(len(its), -_WEIGHT / 2)))
        nodes.append(helper.make_node("Add", [total, shifted], [check]))
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in ("ids", "shapes")]
    outputs = [
        helper.make_tensor_value_info(check, TensorProto.FLOAT, ["n", 5] if check == "pii" else [len(its)])
        for check, its in labels.items()
    ]
    made = helper.make_graph(
        nodes, "tiny", inputs, outputs, [numpy_helper.from_array(array, name) for name, array in weights.items()]
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def card_of(its: str, **changes: Any) -> Card:
    values: dict[str, Any] = {
        "check": its,
        "version": "1",
        "kind": "tokens" if its == "pii" else "sequence",
        "labels": LABELS[its],
        "base": BASE,
        "max_tokens": 32,
        "overlap": 8,
        "roles": dict(ROLES),
    }
    return Card(**{**values, **changes})


def seal(folder: Path, **changes: Any) -> None:
    """Writes the manifest of what is in the folder."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = {name: sha256((folder / name).read_bytes()).hexdigest() for name in names if name != "manifest.json"}
    checks = {name.split("/")[0]: name.split("/")[1] for name in files if name.endswith("/card.yaml")}
    manifest = {"format": 1, "release": "tiny", "base": {"name": "none", "sha256": BASE}, "checks": checks}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files, **changes}))


def release(folder: Path, checks: tuple[str, ...] = tuple(LABELS), **card_changes: Any) -> Path:
    """Makes one. `card_changes` are for all cards."""
    vocab = vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer(vocab).save(str(folder / "tokenizer.json"))
    (folder / "model.onnx").write_bytes(graph(vocab, {check: LABELS[check] for check in checks}).SerializeToString())
    (folder / "NOTICE").write_text("tiny")
    for check in checks:
        place = folder / check / "1"
        place.mkdir(parents=True)
        card.dump(card_of(check, **card_changes), place / "card.yaml")
        calibration.dump(Calibration({label: Curve() for label in LABELS[check]}), place / "calibration.json")
        (place / "adapter_model.safetensors").write_bytes(b"weights")
    seal(folder)
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    def made(**changes: Any) -> Path:
        return release(tmp_path / "adapters", **changes)

    return made


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that nobody changes."""
    return release(tmp_path_factory.mktemp("adapters") / "tiny")


@pytest.fixture
def reseal() -> Callable[..., None]:
    return seal


@pytest.fixture(scope="session")
def artefact(folder: Path) -> Artefact:
    return Artefact.load(folder)


@pytest.fixture
def load(folder: Path) -> Iterator[Callable[..., Onnx]]:
    """Loads backends, and ends their threads."""
    made: list[Onnx] = []

    def loaded(directory: Path = folder, *args: Any, **more: Any) -> Onnx:
        made.append(Onnx.load(directory, *args, **{"workers": 2, **more}))
        return made[-1]

    yield loaded
    for backend in made:
        backend.pool.close()


def reading(text: str, tenant: str = "", scope: Scope = Scope.PROMPT) -> Reading:
    segment = Segment("c", (), "user", scope, text)
    return Reading(Window(segment, 0, 0, len(text), len(text), text), tenant)


@pytest.fixture
def read() -> Callable[..., Reading]:
    return reading
