"""The routes that answer no question: embeddings, moderations, models, counting of tokens. All are functions of the
request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import Any

from guardproxy.testing.replies import prompt_tokens
from guardproxy.testing.shapes.base import CREATED

MODELS = ("pretend", "pretend-large", "pretend-embedding")

_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def embeddings(document: dict[str, Any]) -> dict[str, Any]:
    """One vector of `dimensions` (8) numbers for each input, floats or base64, made of a hash of the input."""
    given = document.get("input")
    many = isinstance(given, list) and bool(given) and not all(isinstance(item, int) for item in given)
    size = document.get("dimensions")
    size = size if isinstance(size, int) and 0 < size <= 4096 else 8
    coded = document.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _coded(vector) if coded else vector}
        for index, vector in enumerate(_vector(item, size) for item in (given if many else [given]))  # type: ignore[union-attr]
    ]
    count = prompt_tokens(document)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": document.get("model") or "pretend-embedding", "usage": usage}


def _vector(item: Any, size: int) -> list[float]:
    seed = json.dumps(item).encode()
    digests = (hashlib.sha256(seed + index.to_bytes(4, "big")).digest() for index in range(-(-size // 32)))
    return [byte / 128 - 1 for byte in b"".join(digests)[:size]]  # exact in four bytes, so both encodings agree


def _coded(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def moderations(document: dict[str, Any], serial: int) -> dict[str, Any]:
    """Nothing is ever flagged."""
    given = document.get("input")
    count = len(given) if isinstance(given, list) and all(isinstance(item, str) for item in given) else 1
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    return {"id": f"modr-{serial:06d}", "model": document.get("model") or "pretend", "results": [result] * count}


def model(name: str) -> dict[str, Any]:
    """One entry of the list of models."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "guardproxy"}


def models() -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model(name) for name in MODELS]}


def count_tokens(document: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's answer of how long a request is."""
    return {"input_tokens": prompt_tokens(document)}
