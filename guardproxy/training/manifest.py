"""The manifest of a release: what it is made of, with the SHA-256 of every file.

It covers the graph, the tokenizer, the notice and the folders of the released adapters, whatever lies in them. Rows,
reports and training configurations beside them are no part of a release. It is written last, in one step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from guardproxy.backends.onnx.artefact import FORMAT, MANIFEST, MODEL, TOKENIZER
from guardproxy.errors import ConfigError

NOTICE = "NOTICE"
TOP = (MODEL, TOKENIZER, NOTICE)


def write(
    out: Path, release: str, base: Mapping[str, str], checks: Mapping[str, str], others: Mapping[str, str]
) -> Path:
    """Writes the manifest of what lies in `out`. `checks` and `others` (the shared adapter) give versions by name."""
    folders = [f"{name}/{version}" for name, version in (*checks.items(), *others.items())]
    files = [out / name for name in TOP]
    files += [path for folder in folders for path in (out / folder).rglob("*") if path.is_file()]
    data = {
        "format": FORMAT,
        "release": release,
        "base": dict(base),
        "checks": dict(checks),
        "files": {path.relative_to(out).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files},
    }
    unfinished = out / f"{MANIFEST}.part"
    unfinished.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")
    return unfinished.replace(out / MANIFEST)


def read(out: Path) -> dict[str, Any]:
    """The manifest in `out`. Raises ConfigError where there is none."""
    try:
        data = json.loads((out / MANIFEST).read_bytes())
        if data["format"] != FORMAT or not all(isinstance(data[key], dict) for key in ("base", "checks", "files")):
            raise ConfigError(f"{MANIFEST}: not a release's manifest of this format")
        return dict(data)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{MANIFEST}: {type(error).__name__}: not a release's manifest") from None


def folders(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The names and versions of the adapters in a manifest, the shared one included."""
    parts = (name.split("/") for name in data["files"])
    return sorted({(part[0], part[1]) for part in parts if len(part) > 2 and ".." not in part})
