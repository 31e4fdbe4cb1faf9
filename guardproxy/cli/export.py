"""`guardproxy export`: finished training runs into one release that the proxy can load."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from guardproxy.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--work", type=Path, default=Path("build/adapters"), help="the runs (default: %(default)s)")
    parser.add_argument("--adapters", type=Path, required=True, metavar="DIR", help="where the release goes")
    parser.add_argument("--release", required=True, metavar="NAME", help="what it is called, e.g. 2026.11")
    parser.add_argument("--base", type=Path, metavar="DIR", help="a folder with another base encoder")


def run(arguments: argparse.Namespace) -> int:
    """Exports. Raises ConfigError where runs are missing, do not belong together, or do not compute what they say."""
    missing = [name for name in ("onnx", "safetensors") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"exporting needs {', '.join(missing)}: pip install 'guardproxy[train]'")
    from guardproxy.backends.onnx.artefact import Artefact
    from guardproxy.training.export import release

    path = release(arguments.work, arguments.base, arguments.adapters, release=arguments.release)
    artefact = Artefact.load(arguments.adapters)
    print(f"{path}: release {artefact.release}, {', '.join(artefact.adapters)}")
    print("calibrate it before it serves: guardproxy calibrate --adapters", arguments.adapters)
    return 0
