"""What the tests of several dialects share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from guardproxy.wire.base import Refusal


@pytest.fixture
def refusal() -> Refusal:
    """A refusal that asks for usage."""
    return Refusal("Declined by policy.", "d1", "m-1", 1700000000, True, 7, 3)


@pytest.fixture
def events() -> Callable[[bytes], list[tuple[str, Any]]]:
    """Reads an SSE stream: the name and the parsed data of each event; "[DONE]" stays a string."""

    def parse(stream: bytes) -> list[tuple[str, Any]]:
        assert stream.endswith(b"\n\n")
        found: list[tuple[str, Any]] = []
        for block in stream.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            data = fields.pop("data")
            found.append((fields.pop("event", ""), data if data == "[DONE]" else json.loads(data)))
            assert not fields
        return found

    return parse
