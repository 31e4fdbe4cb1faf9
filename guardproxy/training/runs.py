"""Reads what training left behind, and writes it as it is kept in a release.

Adapters and heads are kept in 16-bit floats, and it is those that the graph is made of: what is kept is what serves.
A card says on which base and on which shared adapter its own was trained; where that is not what is being released, the
scores would be of a model that nobody has tried.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save

from guardproxy.backends.onnx import calibration, card
from guardproxy.backends.onnx.artefact import CALIBRATION, CARD
from guardproxy.backends.onnx.calibration import Calibration, Curve
from guardproxy.backends.onnx.card import Card
from guardproxy.errors import ConfigError
from guardproxy.training import lora
from guardproxy.training.graph_parts import Branch
from guardproxy.training.lora import Adapter, Array

SHARED, HEAD, TRAIN = "shared", "head.safetensors", "train.yaml"

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Run:
    """One adapter as it was trained, in 16-bit floats. `card` and `head` are those of a check; the shared has none."""

    name: str
    version: str
    folder: Path
    digest: str  # SHA-256 of the adapter's file as training wrote it
    adapter: Adapter
    card: Card | None
    head: Mapping[str, Array]

    def branch(self) -> Branch:
        """The run's part of the graph."""
        if self.card is None:
            raise ConfigError(f"{self.name} is not a check")
        return Branch(self.name, self.card.kind, self.card.depth, self.adapter.deltas(), self.head)

    def weights(self) -> bytes:
        """The adapter's file as it is kept. The same tensors give the same bytes."""
        return save(self.adapter.tensors(), {"format": "pt"})


def read(work: Path, base: str, versions: Mapping[str, str]) -> tuple[Run | None, list[Run]]:
    """The shared adapter's run and those of the checks, by name. `base` is the SHA-256 of the base's weights.

    `versions` go before what the runs say of themselves. Raises ConfigError where they are not of one release.
    """
    folders = sorted(path.parent for path in work.glob(f"*/{lora.CONFIG}"))
    unknown = set(versions) - {folder.name for folder in folders}
    if unknown:
        raise ConfigError(f"there is no run of {', '.join(sorted(unknown))}")
    runs = {folder.name: _run(folder, versions.get(folder.name)) for folder in folders}
    shared = runs.pop(SHARED, None)
    if not runs:
        raise ConfigError("there is no run of a check")
    names = {run.adapter.base for run in (*runs.values(), *([shared] if shared else []))}
    if len(names) > 1:
        raise ConfigError(f"the runs are on several bases: {', '.join(sorted(names))}")
    for run in runs.values():
        _matching(run, base, shared.digest if shared else "")
    return shared, list(runs.values())


def write(run: Run, shared: Run | None, out: Path) -> None:
    """Writes the run's files into the folder `out`, which is made."""
    out.mkdir(parents=True)
    (out / lora.WEIGHTS).write_bytes(run.weights())
    (out / lora.CONFIG).write_text(_json({key: _plain(value) for key, value in run.adapter.config.items()}), "utf-8")
    if (run.folder / TRAIN).is_file():
        shutil.copyfile(run.folder / TRAIN, out / TRAIN)
    if run.card is None:
        return
    (out / HEAD).write_bytes(save(dict(run.head)))
    below = sha256(shared.weights()).hexdigest() if shared else ""
    card.dump(replace(run.card, version=run.version, shared=below), out / CARD)
    if (run.folder / CALIBRATION).is_file():
        shutil.copyfile(run.folder / CALIBRATION, out / CALIBRATION)
    else:
        calibration.dump(Calibration({label: Curve() for label in run.card.labels}), out / CALIBRATION)


def _run(folder: Path, version: str | None) -> Run:
    name, adapter = folder.name, lora.read(folder).half()
    its, head = None, {}
    if name != SHARED:
        its = _card(folder)
        head = {
            key: lora.half(value, f"{name}: {key}") for key, value in sorted(lora.tensors_of(folder / HEAD).items())
        }
    version = version or str(its.version if its else _trained(folder).get("version", "1"))
    if not _VERSION.fullmatch(version):
        raise ConfigError(f"{name}: a version must be of letters, digits, dots and dashes")
    return Run(name, version, folder, sha256((folder / lora.WEIGHTS).read_bytes()).hexdigest(), adapter, its, head)


def _card(folder: Path) -> Card:
    try:
        its = card.load(folder / CARD)
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{folder.name}: {CARD}: {type(error).__name__}: not a card") from None
    if its.check != folder.name:
        raise ConfigError(f"{folder.name}: the card is of {its.check}")
    return its


def _matching(run: Run, base: str, shared: str) -> None:
    its = run.card
    if its is None:
        return
    if its.base != base:
        raise ConfigError(f"{run.name} was trained on another base")
    if its.shared != shared:
        raise ConfigError(f"{run.name} was trained on another shared adapter")
    if len(run.head.get("out.bias", np.empty(0))) != its.outputs:
        raise ConfigError(f"{run.name}: the head has not the outputs that the card's labels need")


def _trained(folder: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load((folder / TRAIN).read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}


def _plain(value: Any) -> Any:
    """Sets come out of peft in any order."""
    return sorted(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else value


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True) + "\n"
