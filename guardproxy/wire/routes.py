"""Which routes are guarded, and what counts as a route at all.

A path is looked up only in its one canonical form. Whatever another server might normalise into a guarded route
(escaped letters, doubled slashes, dot segments, another case) is refused here, so that it cannot slip through as an
unknown route.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from guardproxy.errors import WireError
from guardproxy.wire.base import Dialect
from guardproxy.wire.chat import ChatDialect
from guardproxy.wire.completions import CompletionsDialect
from guardproxy.wire.embeddings import EmbeddingsDialect
from guardproxy.wire.messages import MessagesDialect
from guardproxy.wire.responses import ResponsesDialect


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `path` may end in "{id}"; `dialect` is None where nothing is read.

    `refusable`: a refusal can take the shape of a normal answer. `pass_through`: goes on unread, by design.
    """

    method: str
    path: str
    name: str
    dialect: Dialect | None
    guards_request: bool = True
    guards_response: bool = True
    refusable: bool = True
    pass_through: bool = False


def _passed(method: str, path: str, name: str) -> Route:
    return Route(method, path, name, None, False, False, False, True)


_CHAT, _RESPONSES = ChatDialect(), ResponsesDialect()

ROUTES = (
    Route("POST", "/v1/chat/completions", "chat", _CHAT),
    Route("GET", "/v1/chat/completions/{id}", "chat_stored", _CHAT, guards_request=False),
    Route("POST", "/v1/completions", "completions", CompletionsDialect()),
    Route("POST", "/v1/responses", "responses", _RESPONSES),
    Route("GET", "/v1/responses/{id}", "responses_stored", _RESPONSES, guards_request=False),
    Route("POST", "/v1/embeddings", "embeddings", EmbeddingsDialect(), guards_response=False, refusable=False),
    Route("POST", "/v1/messages", "messages", MessagesDialect()),
    _passed("POST", "/v1/moderations", "moderations"),
    _passed("GET", "/v1/models", "models"),
    _passed("GET", "/v1/models/{id}", "models"),
)

_EXACT = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}
_BELOW = {(route.method, route.path.removesuffix("{id}")): route for route in ROUTES if "{" in route.path}
_KNOWN = frozenset(path for _, path in _EXACT)
_PREFIXES = tuple({path for _, path in _BELOW})
_MODELS = "/v1/models/"

_CLEAN = re.compile(r"/[A-Za-z0-9._~/:@!$&'()*+,=-]*")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ROUTING = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%\\;?#")


def match(method: str, path: str) -> Route | None:
    """The route of a canonical path; None if it is not one of ours."""
    route = _EXACT.get((method, path))
    if route is not None:
        return route
    parent, _, last = path.rpartition("/")
    if path.startswith(_MODELS):
        return _BELOW.get((method, _MODELS))  # a model's name may have slashes
    return _BELOW.get((method, f"{parent}/")) if last else None


def canonical(raw_path: str) -> str:
    """The path itself, without its query, if it is in canonical form; else raises WireError with status 400 or 404."""
    path = raw_path.partition("?")[0]
    if path in _KNOWN:
        return path
    if "%" in path:
        _check_escapes(path)
    elif not _CLEAN.fullmatch(path):
        raise _refused()
    decoded = unquote_to_bytes(path).decode("utf-8", "replace")
    if any(segment in {".", ".."} for segment in decoded.split("/")) or "//" in decoded:
        raise _refused()
    if len(path) > 1 and decoded.endswith("/"):
        raise WireError("there is no such route: the path ends in a slash", code="unknown_route", status=404)
    folded = path.lower()
    if folded != path and (folded in _KNOWN or folded.startswith(_PREFIXES)) and not path.startswith(_PREFIXES):
        raise WireError("there is no such route: paths are in lower case", code="unknown_route", status=404)
    return path


def _check_escapes(path: str) -> None:
    """Raises WireError for an escape that hides what decides the route. A model's name may have escaped slashes."""
    if _ESCAPE.search(path) or not _CLEAN.fullmatch(re.sub(r"%..", "", path)):
        raise _refused()
    hidden = {byte for escape in path.split("%")[1:] for byte in bytes.fromhex(escape[:2])}
    if hidden & _ROUTING or min(hidden) <= 0x1F or 0x7F in hidden:
        raise _refused()
    if ord("/") in hidden and not path.startswith(_MODELS):
        raise _refused()


def _refused() -> WireError:
    return WireError("the path is not in canonical form", code="invalid_path", status=400)
