"""What measuring adds to a release: files beside the adapters, with their hashes in the manifest.

The new file is written whole and then named, so a release that was interrupted here says so when it is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from guardproxy.backends.onnx.artefact import MANIFEST
from guardproxy.errors import ConfigError

SHARED = "shared"


def put(folder: Path, files: Mapping[str, str]) -> None:
    """Writes texts into the release, by name, and brings its manifest up to date. Raises ConfigError."""
    for name, text in files.items():
        _replace(folder / name, text)
    refresh(folder, files)


def refresh(folder: Path, names: Collection[str]) -> None:
    """The manifest's hashes of the files `names`, which it may not have had so far. Raises ConfigError."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        files: dict[str, str] = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{MANIFEST}: {type(error).__name__}: not a release's manifest") from None
    for name in names:
        files[name] = sha256((folder / name).read_bytes()).hexdigest()
    manifest["files"] = dict(sorted(files.items()))
    _replace(path, json.dumps(manifest, indent=1) + "\n")


def trained_on(folder: Path, check: str, version: str) -> frozenset[str]:
    """The sources that a check's adapter has seen: those of its run's configuration and of the shared adapter's."""
    runs = [folder / check / version / "train.yaml", *sorted(folder.glob(f"{SHARED}/*/train.yaml"))]
    found: set[str] = set()
    for path in runs:
        if path.is_file():
            found |= set((yaml.safe_load(path.read_text("utf-8")) or {}).get("sources") or ())
    return frozenset(found)


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(text, "utf-8")
    new.replace(path)
