"""From training runs to a release: one graph of all checks, and beside it all that it was made of.

The release is made and tried in a folder of its own and put in its place only then. The same runs give the same bytes:
there are no dates in it, and what depends on an order is sorted. (Columns are arranged by what a pass in floats shows;
between kinds of processors, whose sums differ in their last bits, a tie could fall otherwise.)
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from guardproxy.backends.onnx.artefact import MANIFEST, MODEL, TOKENIZER, Artefact
from guardproxy.backends.onnx.encode import ROLES, Encoder
from guardproxy.errors import ConfigError
from guardproxy.training import base as bases
from guardproxy.training import graph, graph_layers, lora, manifest, quantise, reference, runs
from guardproxy.training.base import Base
from guardproxy.training.graph import Branch
from guardproxy.training.quantise import Sample
from guardproxy.training.runs import Run

TOLERANCE = 1e-3
"""The most by which a logit of the graph in floats may differ from the reference."""
LIKENESS = 0.9
"""The least cosine between a check's logits in 8 bits and in floats."""

_SAMPLES = 24  # texts of random words to arrange the graph by; real texts do no better
_TEXTS = (
    "Hello, how are you?",
    "Please cancel order 4417-A and write to Anna Schmidt, 12 Elm Street, Leeds.",
    'def area(r): return 3.14159 * r ** 2  # {"unit": "cm"}',
    "Können Sie mir bitte sagen, wann der nächste Zug nach Köln fährt?",
)


def release(
    work: Path, base: Path | None, out: Path, *, versions: Mapping[str, str] | None = None, release: str
) -> Path:
    """Makes the release called `release` in `out` from the runs in `work`, and returns its manifest's path.

    `base`: a folder with the base's weights, None for the pinned one. `versions` by adapter go before what the runs
    say. What an earlier release left in `out` is replaced, all else there stays. Raises ConfigError where the runs do
    not make one release, or its graph does not compute what they would; then `out` is as it was.
    """
    found = bases.find(base)
    shared, checks = runs.read(work, found.sha256, versions or {})
    encoder = _encoder(found, checks)
    model = _model(found, shared, checks, encoder)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".release-") as folder:
        made = Path(folder)
        (made / MODEL).write_bytes(model.SerializeToString(deterministic=True))
        _write_tokenizer(found.tokenizer, made / TOKENIZER)
        pinned = {"name": checks[0].adapter.base, "licence": _licence(found), "sha256": found.sha256}
        (made / manifest.NOTICE).write_text(_notice(pinned), "utf-8")
        for run in (*checks, *([shared] if shared else [])):
            runs.write(run, shared, made / run.name / run.version)
        others = {shared.name: shared.version} if shared else {}
        manifest.write(made, release, pinned, {run.name: run.version for run in checks}, others)
        Artefact.load(made).model()
        return _install(made, out)


def _model(base: Base, shared: Run | None, checks: Sequence[Run], encoder: Encoder) -> onnx.ModelProto:
    weights = lora.tensors_of(base.folder / bases.WEIGHTS)
    config = json.loads((base.folder / bases.CONFIG).read_text("utf-8"))
    deltas = shared.adapter.deltas() if shared else {}
    known = {graph_layers.module(n, name) for n in range(config["num_hidden_layers"]) for name in graph_layers.MODULES}
    for name in set(deltas) - known:
        raise ConfigError(f"the shared adapter changes {name}, which no check uses")
    trunk = lora.merged(weights, deltas)
    branches = [run.branch() for run in checks]
    samples = _samples(encoder, len(trunk["embeddings.word_embeddings.weight"]))
    exact = graph.arranged(trunk, config, branches, samples)
    small = graph.quantised(exact, samples)
    texts = _texts(encoder)
    found = _logits(exact, texts)
    for branch in branches:
        wanted = [reference.logits(trunk, config, branch, text) for text in texts]
        if max(np.abs(a - b).max() for a, b in zip(found[branch.name], wanted, strict=True)) > TOLERANCE:
            raise ConfigError(f"{branch.name}: the graph's logits are not the adapter's")
    _like(found, _logits(small, texts), branches)
    return small


def _like(
    exact: Mapping[str, Sequence[NDArray[np.float32]]],
    small: Mapping[str, Sequence[NDArray[np.float32]]],
    branches: Sequence[Branch],
) -> None:
    for branch in branches:
        one, other = (np.concatenate([each.ravel() for each in logits[branch.name]]) for logits in (exact, small))
        if not one @ other >= LIKENESS * np.linalg.norm(one) * np.linalg.norm(other):
            raise ConfigError(f"{branch.name}: the graph's logits are lost in 8 bits")


def _logits(model: onnx.ModelProto, texts: Sequence[Sample]) -> dict[str, list[NDArray[np.float32]]]:
    session = quantise.run_session(model)
    inputs, names = [each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()]
    found = [session.run(names, {name: text[name] for name in inputs}) for text in texts]
    return {name: [each[place] for each in found] for place, name in enumerate(names)}


def _encoder(base: Base, checks: Sequence[Run]) -> Encoder:
    cards = [run.card for run in checks if run.card]
    try:
        return Encoder(base.tokenizer, cards[0].max_tokens, cards[0].overlap)
    except ValueError as error:
        raise ConfigError(f"the base's tokenizer: {error}") from None


def _texts(encoder: Encoder) -> list[Sample]:
    pieces = [encoder.encode(text, role)[0] for text, role in zip(_TEXTS, (*ROLES, *ROLES), strict=False)]
    return [{"ids": piece.ids, "shapes": piece.shapes} for piece in pieces]


def _samples(encoder: Encoder, words: int) -> list[Sample]:
    """Random words of the vocabulary in the frame of a text, in all lengths up to a slice's."""
    frame = encoder.encode("", next(iter(ROLES)))[0].ids
    samples: list[Sample] = []
    for number in range(_SAMPLES):
        length = 4 + (encoder.max_tokens - len(frame) - 4) * number // (_SAMPLES - 1)
        # Any spread over the vocabulary will do that is the same everywhere.
        ids = (np.arange(length, dtype=np.int64) * 7919 + number * 104_729 + 999) % words
        shapes = np.zeros(length + len(frame), dtype=np.int64)
        shapes[2:-1] = 1 + ids % 13
        samples.append({"ids": np.concatenate([frame[:2], ids, frame[2:]]), "shapes": shapes})
    return samples


def _write_tokenizer(source: Path, target: Path) -> None:
    """The base's tokenizer without what it does to lengths: texts are cut here, and never filled up."""
    data = json.loads(source.read_text("utf-8")) | {"truncation": None, "padding": None}
    target.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


def _licence(base: Base) -> str:
    return bases.LICENCE if base.sha256 == bases.SHA256 else base.licence or "unknown"


def _notice(base: Mapping[str, str]) -> str:
    own = base["sha256"] == bases.SHA256
    origin = "the weights of sentence-transformers/all-MiniLM-L6-v2, from the package " if own else "the base encoder "
    text = (
        f"{MODEL} and {TOKENIZER} are made from {origin}{base['name']}\n(SHA-256 of the weights: {base['sha256']}).\n"
    )
    text += f"Licence of the base: {base['licence']}.\n"
    if own:
        text += "A copy of the licence is at https://www.apache.org/licenses/LICENSE-2.0\n"
    return text + (
        "\nWhat was changed: LoRA adapters were trained and merged into copies of the base's layers, heads that judge\n"
        "texts and tokens were added, and the weights were rounded to 8-bit integers.\n"
    )


def _install(made: Path, out: Path) -> Path:
    """Puts a finished release in the place of an earlier one. Without a manifest in between, nothing half is loaded."""
    new = manifest.folders(manifest.read(made))
    old = manifest.folders(manifest.read(out)) if (out / MANIFEST).exists() else []
    out.mkdir(exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    for name, version in {*old, *new}:
        if (out / name / version).is_dir():
            shutil.rmtree(out / name / version)
        if (out / name).is_dir() and not any((out / name).iterdir()):
            (out / name).rmdir()
    for name, version in new:
        (out / name).mkdir(exist_ok=True)
        (made / name / version).replace(out / name / version)
    for file in (*manifest.TOP, MANIFEST):
        (made / file).replace(out / file)
    return out / MANIFEST
