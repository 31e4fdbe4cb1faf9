"""`guardproxy train`: one adapter, from labelled rows to a run that can be released."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from guardproxy.errors import ConfigError
from guardproxy.evaluation.datasets import LABELS

_NEEDS = ("torch", "transformers", "peft", "safetensors", "sklearn", "rich")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "check", choices=("shared", *LABELS), metavar="CHECK", help="shared, or one of: " + ", ".join(LABELS)
    )
    parser.add_argument("--config", type=Path, required=True, help="the run's configuration (YAML)")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="FOLDER", help="rows to read, *.jsonl; repeatable"
    )
    parser.add_argument("--work", type=Path, default=Path("build/adapters"), help="where runs are kept (%(default)s)")
    parser.add_argument("--base", type=Path, help="a folder with another base encoder")
    parser.add_argument("--epochs", type=int, help="instead of the configuration's")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Trains. Raises ConfigError where the configuration, the rows or the packages are not there."""
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install 'guardproxy[train]'")
    from dataclasses import replace

    from guardproxy.evaluation import datasets
    from guardproxy.training import base, config
    from guardproxy.training.progress import Progress
    from guardproxy.training.train import train

    settings = config.load(arguments.config)
    if settings.check != arguments.check:
        raise ConfigError(f"{arguments.config.name} is the configuration of {settings.check}, not of {arguments.check}")
    if arguments.epochs:
        settings = replace(settings, epochs=arguments.epochs)
    rows = datasets.parted(datasets.read_all(arguments.data))
    report = train(settings, rows, base.find(arguments.base), arguments.work, Progress(arguments.quiet))
    print(f"{arguments.check}: best development score {report['best']:.4f} in {report['epochs']} epochs")
    print(f"kept in {arguments.work / arguments.check}")
    return 0
