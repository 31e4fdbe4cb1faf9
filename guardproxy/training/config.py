"""What one training run is: a file that names everything, so that the run can be told apart and repeated.

`check: shared` trains the adapter that all checks stand on, jointly on all of their tasks; any other check trains its
own adapter on top of it. Unknown keys are errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from guardproxy.errors import ConfigError
from guardproxy.evaluation.datasets import LABELS
from guardproxy.source import read_yaml
from guardproxy.strict import Placed, Problems, Reader, Unfit, number, one_of, several, text, whole

SHARED = "shared"
TARGETS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
"""The linear layers of a BERT block."""


@dataclass(frozen=True, slots=True)
class Source:
    """How much of a source an epoch sees.

    `take`: rows an epoch, drawn anew each time. `weight`: of a row in the loss. `tasks`: the checks it teaches, none
    for all that it has labels for. `roles`: what its texts are said to be, drawn at random; none for what they are.
    """

    name: str
    take: int
    weight: float = 1.0
    tasks: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. `depth`: the first layer that the adapter may change; `rate`: the highest learning rate."""

    check: str
    version: str
    depth: int
    sources: tuple[Source, ...]
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    epochs: int = 3
    batch: int = 32
    rate: float = 5e-4
    warmup: float = 0.06
    decay: float = 0.01
    weak: float = 0.3  # weight of a row that nobody judged
    patience: int = 2  # epochs without a better development score before it stops
    max_tokens: int = 256
    overlap: int = 64
    seed: int = 1
    languages: tuple[str, ...] = ("en",)
    about: Mapping[str, str] = field(default_factory=dict)  # for the card's readers

    @property
    def tasks(self) -> tuple[str, ...]:
        """The checks it trains for."""
        return tuple(LABELS) if self.check == SHARED else (self.check,)


def load(path: Path) -> TrainConfig:
    """The configuration at `path`. Raises ConfigError with every complaint."""
    problems = Problems()
    document = read_yaml(path.read_bytes(), path.name, problems)
    config = _config(Reader(document, problems, "a training configuration")) if document else None
    if problems or config is None:
        problems.sort()
        raise ConfigError("\n".join(problems))
    return config


def dump(config: TrainConfig, path: Path) -> None:
    """Writes what load() reads."""
    data: dict[str, Any] = asdict(config)
    data["languages"] = list(config.languages)
    data["sources"] = {source.name: _plain(source) for source in config.sources}
    path.write_text(yaml.safe_dump(data, sort_keys=False, width=118), "utf-8")


def _plain(source: Source) -> Mapping[str, Any]:
    plain: dict[str, Any] = {"take": source.take}
    if source.weight != 1.0:
        plain["weight"] = source.weight
    return plain | {name: list(value) for name in ("tasks", "roles") if (value := getattr(source, name))}


def _config(reader: Reader) -> TrainConfig:
    check = reader.take("check", one_of((SHARED, *LABELS)), SHARED, required=True)
    config = TrainConfig(
        check=check,
        version=reader.take("version", text, "1"),
        depth=reader.take("depth", whole(0, 64), 0, required=True),
        sources=reader.take("sources", _sources(reader.problems), (), required=True),
        rank=reader.take("rank", whole(1, 512), 16),
        alpha=reader.take("alpha", whole(1, 4096), 32),
        dropout=reader.take("dropout", number(0, 0.9), 0.05),
        epochs=reader.take("epochs", whole(1, 100), 3),
        batch=reader.take("batch", whole(1, 4096), 32),
        rate=reader.take("rate", number(1e-7, 1), 5e-4),
        warmup=reader.take("warmup", number(0, 1), 0.06),
        decay=reader.take("decay", number(0, 1), 0.01),
        weak=reader.take("weak", number(0, 1), 0.3),
        patience=reader.take("patience", whole(1, 100), 2),
        max_tokens=reader.take("max_tokens", whole(8, 512), 256),
        overlap=reader.take("overlap", whole(0, 256), 64),
        seed=reader.take("seed", whole(0, 2**31), 1),
        languages=reader.take("languages", several(text), ("en",)),
        about=reader.take("about", _words, {}),
    )
    reader.finish()
    return config


def _words(node: Placed) -> Mapping[str, str]:
    if not isinstance(node.value, dict):
        raise Unfit("expected keys with a few words each")
    return {key: text(member) for key, member in node.value.items()}


def _sources(problems: Problems) -> Any:
    def convert(node: Placed) -> tuple[Source, ...]:
        sources = []
        for name, member in (node.value if isinstance(node.value, dict) else {}).items():
            reader = Reader(member, problems, "a source")
            sources.append(
                Source(
                    name,
                    reader.take("take", whole(0, 10**7), 0, required=True),
                    reader.take("weight", number(0, 100), 1.0),
                    reader.take("tasks", several(one_of(tuple(LABELS))), ()),
                    reader.take("roles", several(one_of(("prompt", "completion", "tool_result"))), ()),
                )
            )
            reader.finish()
        return tuple(sources)

    return convert
