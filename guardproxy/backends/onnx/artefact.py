"""A release of adapters on disk: used only if every file is the one that its manifest names.

What is loaded was tested as a whole: the graph, its tokenizer, the cards that say what each check may judge and the
calibrations fitted on that graph. So a file that is missing, changed or not in the manifest, and a card that asks for
another template than the one that is built here, are errors at start and never surprises on a request.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

import guardproxy
from guardproxy.backends.onnx import calibration, card, outputs
from guardproxy.backends.onnx.calibration import Calibration
from guardproxy.backends.onnx.card import Card
from guardproxy.backends.onnx.encode import FRAME, ROLES
from guardproxy.errors import ConfigError

MANIFEST, MODEL, TOKENIZER = "manifest.json", "model.onnx", "tokenizer.json"
CARD, CALIBRATION = "card.yaml", "calibration.json"
FORMAT = 1
POSITIONS = 512  # tokens that the base can tell apart by place


@dataclass(frozen=True, slots=True)
class Adapter:
    """One check's part of a release."""

    card: Card
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Artefact:
    """A verified release. `digest`: SHA-256 of the manifest, hence of everything. `adapters` by check."""

    folder: Path
    release: str
    digest: str
    files: Mapping[str, str]
    adapters: Mapping[str, Adapter]

    @classmethod
    def load(cls, directory: str | Path | None = None) -> Artefact:
        """The release in `directory`, or the one that comes with the package.

        Raises ConfigError, which names the file that is wrong.
        """
        folder = Path(directory) if directory else shipped()
        raw = _bytes(folder, MANIFEST)
        release, base, checks, files = _manifest(raw)
        needed = [MODEL, TOKENIZER]
        needed += [f"{check}/{version}/{name}" for check, version in checks.items() for name in (CARD, CALIBRATION)]
        for name in needed:
            if name not in files:
                raise ConfigError(f"{MANIFEST} does not list {name}")
        for name, digest in files.items():
            _verified(folder, name, digest)
        adapters = {check: _adapter(folder, check, version, base) for check, version in checks.items()}
        _one_template(adapters)
        return cls(folder, release, sha256(raw).hexdigest(), files, adapters)

    def read(self, name: str) -> bytes:
        """A file of the release, which must still be the one that was verified. Raises ConfigError."""
        return _verified(self.folder, name, self.files[name])

    def model(self) -> bytes:
        """The graph of all checks. Raises ConfigError where it lacks an output of one of them."""
        model = self.read(MODEL)
        missing = set(self.adapters) - set(outputs.outputs(model))
        if missing:
            raise ConfigError(f"{MODEL} has no output {', '.join(sorted(missing))}")
        return model

    @property
    def max_tokens(self) -> int:
        """Length of a slice, frame included; the same for all checks, since they read the same pass."""
        return next(iter(self.adapters.values())).card.max_tokens

    @property
    def overlap(self) -> int:
        """Tokens that two neighbouring slices share."""
        return next(iter(self.adapters.values())).card.overlap


def shipped() -> Path:
    """The folder of the adapters that come with the package. Raises ConfigError where none do."""
    package = Path(guardproxy.__file__).parent
    # An installed package carries them inside; a checkout has them beside it.
    for folder in (package / "adapters", package.parent / "adapters"):
        if (folder / MANIFEST).is_file():
            return folder
    raise ConfigError("no adapters come with this installation; name the folder of some with --adapters")


def _manifest(raw: bytes) -> tuple[str, str, Mapping[str, str], Mapping[str, str]]:
    """The release, the base's SHA-256, the checks with their versions, and the files with their hashes."""
    try:
        data: Any = json.loads(raw)
        if data["format"] != FORMAT:
            raise ConfigError(f"{MANIFEST}: format {data['format']!r} is not known here; expected {FORMAT}")
        release, base = data["release"], data["base"]["sha256"]
        checks, files = dict(data["checks"]), dict(data["files"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"{MANIFEST}: {type(error).__name__}: not a release's manifest") from None
    texts = [release, base, *checks, *checks.values(), *files, *files.values()]
    if not checks or not all(isinstance(text, str) and text for text in texts):
        raise ConfigError(f"{MANIFEST}: names, versions and hashes must be texts, and there must be a check")
    for name in (*files, *checks, *checks.values()):
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or "\\" in name:
            raise ConfigError(f"{MANIFEST}: {name} leads out of the folder")
    return release, base, checks, files


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ConfigError(f"adapters in {folder}: {name}: {error.strerror or type(error).__name__}") from None


def _verified(folder: Path, name: str, digest: str) -> bytes:
    data = _bytes(folder, name)
    if sha256(data).hexdigest() != digest:
        raise ConfigError(f"adapters in {folder}: {name} is not the file that {MANIFEST} names")
    return data


def _adapter(folder: Path, check: str, version: str, base: str) -> Adapter:
    path = f"{check}/{version}"
    try:
        its = card.load(folder / path / CARD)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}/{CARD}: {type(error).__name__}: not a card") from None
    told = calibration.load(folder / path / CALIBRATION)
    problem = _problem(its, check, version, base)
    if problem:
        raise ConfigError(f"{path}/{CARD}: {problem}")
    for label in its.labels:
        curve = told.curves.get(label)
        if curve is None or not (math.isfinite(curve.scale) and math.isfinite(curve.shift)):
            raise ConfigError(f"{path}/{CALIBRATION}: no usable curve for {label}")
    return Adapter(its, told)


def _problem(its: Card, check: str, version: str, base: str) -> str:
    """What is wrong with a card, or ""."""
    if (its.check, str(its.version)) != (check, version):
        return f"is of {its.check} {its.version}"
    if its.base != base:
        return "was trained on another base"
    if dict(its.roles) != dict(ROLES):
        return "roles are not those of the template in use"
    sizes = (its.max_tokens, its.overlap)
    if not all(isinstance(size, int) for size in sizes) or not (
        0 <= its.overlap < its.max_tokens - FRAME and its.max_tokens <= POSITIONS
    ):
        return "max_tokens and overlap do not fit together"
    if (
        not its.labels
        or len(set(its.labels)) < len(its.labels)
        or not all(isinstance(each, str) for each in its.labels)
    ):
        return "labels must be texts, each once"
    low, high = its.uncertain if len(its.uncertain) == 2 else (1, 0)
    if not 0 <= low <= high <= 1 or not 0 < its.unknown <= 1:
        return "unknown and uncertain must be shares and probabilities"
    return ""


def _one_template(adapters: Mapping[str, Adapter]) -> None:
    """All checks read the same pass, so all must want the same slices."""
    first, *others = adapters.items()
    for check, other in others:
        if (other.card.max_tokens, other.card.overlap) != (first[1].card.max_tokens, first[1].card.overlap):
            raise ConfigError(f"{CARD} of {check}: max_tokens and overlap are not those of {first[0]}")
