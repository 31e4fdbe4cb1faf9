"""The APIs that the upstream speaks, one module each: the same Reply in that API's documents and events.

SHAPES maps a path below /v1 to the shape of what is answered there.
"""

from __future__ import annotations

from guardproxy.testing.shapes import chat, completions, messages, responses
from guardproxy.testing.shapes.base import Ask, Shape

__all__ = ["SHAPES", "Ask", "Shape"]

SHAPES: dict[str, Shape] = {
    "chat/completions": chat.SHAPE,
    "completions": completions.SHAPE,
    "messages": messages.SHAPE,
    "responses": responses.SHAPE,
}
