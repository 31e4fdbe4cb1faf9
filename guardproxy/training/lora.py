"""LoRA adapters as peft writes them, read without torch and merged into weights.

An adapter changes a linear map W by scaling * B A (Hu et al. 2021). Every tensor in the file has to be understood and
used: an adapter that is merged in part is another model, and nothing would show it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from guardproxy.errors import ConfigError

Array = NDArray[Any]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9][A-Za-z0-9._=-]*)?", re.ASCII)
# What would make the adapter more, or less, than scaling * B A on the maps that the file names.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    **dict.fromkeys(("fan_in_fan_out", "use_dora", "use_qalora", "lora_bias"), (False, None)),
    **dict.fromkeys(("rank_pattern", "alpha_pattern"), ({}, None)),
    **dict.fromkeys(("layer_replication", "alora_invocation_tokens", "trainable_token_indices"), (None,)),
    **dict.fromkeys(("modules_to_save", "target_parameters", "use_bdlora", "arrow_config"), (None, [])),
    **dict.fromkeys(("velora_config", "monteclora_config", "kasa_config"), (None,)),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter. `maps`: by module of the base, A [rank, in] and B [out, rank]."""

    base: str  # the base's name
    scaling: float
    maps: Mapping[str, tuple[Array, Array]]
    config: Mapping[str, Any]  # as peft wrote it

    def half(self) -> Adapter:
        """The same with its weights in 16-bit floats. Raises ConfigError where one does not fit."""
        return replace(self, maps={name: (half(a, name), half(b, name)) for name, (a, b) in self.maps.items()})

    def deltas(self) -> dict[str, Array]:
        """What it adds to each module's weight, [out, in], in 64-bit floats so that kernels do not matter."""
        return {
            name: self.scaling * (b.astype(np.float64) @ a.astype(np.float64)) for name, (a, b) in self.maps.items()
        }

    def tensors(self) -> dict[str, Array]:
        """Named as in the file."""
        named = {f"base_model.model.{name}.lora_A.weight": a for name, (a, _) in self.maps.items()}
        return named | {f"base_model.model.{name}.lora_B.weight": b for name, (_, b) in self.maps.items()}


def read(directory: Path) -> Adapter:
    """The adapter in `directory`. Raises ConfigError where there is none that can be merged exactly."""
    where = directory.name
    config = _config(directory / CONFIG, where)
    tensors = tensors_of(directory / WEIGHTS)
    rank = config["r"]
    maps = _paired(tensors, where)
    for name, (a, b) in maps.items():
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise ConfigError(f"{where}: {name} is not of rank {rank}")
    scaling = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    return Adapter(config["base_model_name_or_path"], scaling, maps, config)


def merged(base: Mapping[str, Array], deltas: Mapping[str, Array]) -> dict[str, Array]:
    """The base's weights with `deltas` (by module) added, in 32-bit floats. Raises ConfigError where one fits none."""
    out = dict(base)
    for name, delta in deltas.items():
        weight = base.get(f"{name}.weight")
        if weight is None or weight.shape != delta.shape:
            raise ConfigError(f"the adapter's {name} does not fit the base")
        out[f"{name}.weight"] = (weight.astype(np.float64) + delta).astype(np.float32)
    return out


def half(tensor: Array, name: str) -> Array:
    """`tensor` in 16-bit floats. Raises ConfigError where a value is too great, or no number."""
    with np.errstate(over="ignore"):
        small = tensor.astype(np.float16)
    if not np.isfinite(small).all():
        raise ConfigError(f"{name} has values that 16-bit floats cannot hold")
    return small


def tensors_of(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file. Raises ConfigError where it is none."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ConfigError(f"{path.name} of {path.parent.name}: {type(error).__name__}") from None


def _config(path: Path, where: str) -> dict[str, Any]:
    try:
        config = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path.name} of {where}: {type(error).__name__}") from None
    if config.get("peft_type") != "LORA":
        raise ConfigError(f"{where}: peft_type must be LORA")
    for key, fine in _PLAIN.items():
        if config.get(key) not in fine:
            raise ConfigError(f"{where}: cannot merge an adapter with {key}")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise ConfigError(f"{where}: r and lora_alpha must be numbers")
    if not _NAME.fullmatch(str(config.get("base_model_name_or_path") or "")):
        raise ConfigError(f"{where}: base_model_name_or_path must be the base's name, not a path")
    return config


def _paired(tensors: Mapping[str, Array], where: str) -> dict[str, tuple[Array, Array]]:
    halves: dict[str, dict[str, Array]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ConfigError(f"{where}: does not know what to do with {key}")
        halves.setdefault(match[1], {})[match[2]] = tensor
    for name, found in halves.items():
        if len(found) != 2:
            raise ConfigError(f"{where}: {name} has lora_{'A' if 'A' in found else 'B'} alone")
    if not halves:
        raise ConfigError(f"{where}: the adapter is empty")
    return {name: (halves[name]["A"], halves[name]["B"]) for name in sorted(halves)}
