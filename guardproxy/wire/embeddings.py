"""POST /v1/embeddings: the inputs alone. An embedding is nothing to read, and nothing that a refusal could be put into.

So routes.py says `refusable=False`, and a blocked input is answered with an error whatever the policy's style.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from guardproxy.errors import WireError
from guardproxy.wire.base import Delta, Json, Located, Refusal
from guardproxy.wire.chat_shapes import fail_stream
from guardproxy.wire.completions import inputs
from guardproxy.wire.finder import LABELS

_REQUEST = LABELS | {"model", "encoding_format", "truncate", "truncation", "input_type", "task"}


class EmbeddingsDialect:
    """The embeddings API."""

    name = "embeddings"

    def request(self, document: Json) -> Located:
        """The inputs, and whatever else the caller wrote."""
        return inputs(document, "input", _REQUEST)

    def response(self, document: Json) -> Located:
        """Nothing."""
        return Located()

    def delta(self, event: Json, kind: str) -> Delta:
        """Nothing; embeddings are not streamed."""
        return Delta()

    def refuse(self, refusal: Refusal) -> NoReturn:
        """Raises WireError: there is no embedding that says no."""
        raise WireError("embeddings cannot carry a refusal", code="content_filter")

    def refuse_stream(self, refusal: Refusal) -> NoReturn:
        """Raises WireError."""
        self.refuse(refusal)

    def cut_stream(self, refusal: Refusal, seen: Sequence[Json]) -> NoReturn:
        """Raises WireError."""
        self.refuse(refusal)

    def keep(self, event: Json) -> bool:
        """No event is needed."""
        return False

    def fail_stream(self, message: str, code: str) -> bytes:
        """An error event and [DONE]."""
        return fail_stream(message, code)
