"""Headers and bodies on their way through: what is forwarded, what is not, and what a body must be to be read.

A header that concerns one connection only ends there, those that `Connection` names included. Credentials go upstream
with the request and nowhere else. Bodies are read strictly: two parsers that could disagree about a document would be
a way past the guard, so duplicate members, NaN, lone surrogates and anything after the document are errors.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jiter
from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from guardproxy.errors import UpstreamError, WireError
from guardproxy.wire.coding import decode
from guardproxy.wire.common import error_body, messages_error_body
from guardproxy.wire.routes import Route

DECISION_HEADER = "x-guardproxy-decision"

_UTF8 = re.compile(r';\s*charset\s*=\s*(?:"(?:utf-?8|(?:us-)?ascii)"|utf-?8|(?:us-)?ascii)\s*(?=;|$)')
_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_SENT = _HOP | {"host", "content-length", "accept-encoding", "expect"}
_NOT_RETURNED = _HOP | {"content-length"}


def _named(headers: MultiMapping[str]) -> frozenset[str]:
    """The headers that `Connection` names."""
    if "Connection" not in headers:
        return frozenset()
    return frozenset(part.strip().lower() for value in headers.getall("Connection") for part in value.split(","))


@lru_cache(maxsize=1024)
def _is_sent(name: str) -> bool:
    low = name.lower()
    return low not in _NOT_SENT and not low.startswith("x-guardproxy-")


@lru_cache(maxsize=1024)
def _is_returned(name: str) -> bool:
    return name.lower() not in _NOT_RETURNED


def outbound(headers: MultiMapping[str], replaced: Mapping[str, str], *, plain: bool) -> list[tuple[str, str]]:
    """The request headers to send upstream. `plain`: the body goes out without its content encoding."""
    out = [(name, value) for name, value in headers.items() if _is_sent(name)]
    dropped = _named(headers)
    if replaced:
        dropped |= {"traceparent", "tracestate"}
    if plain and "Content-Encoding" in headers:
        dropped |= {"content-encoding"}
    if dropped:
        out = [(name, value) for name, value in out if name.lower() not in dropped]
    out.append(("Accept-Encoding", "identity"))
    out.extend(replaced.items())
    return out


def inbound(headers: MultiMapping[str], decision: str, *, plain: bool) -> CIMultiDict[str]:
    """The response headers to return to the caller."""
    out = CIMultiDict([(name, value) for name, value in headers.items() if _is_returned(name)])
    for name in _named(headers):
        out.popall(name, None)
    if plain:
        out.popall("Content-Encoding", None)
    out[DECISION_HEADER] = decision
    return out


def error_response(route: Route | None, decision: str, status: int, message: str, code: str) -> web.Response:
    """An error in the shape of the route's API; OpenAI's where there is no route."""
    body = messages_error_body if route is not None and route.name == "messages" else error_body
    kind = "invalid_request_error" if status < 500 else "api_error"
    return web.Response(
        status=status,
        body=json.dumps(body(message, code, type_=kind)).encode(),
        headers={"Content-Type": "application/json", DECISION_HEADER: decision},
    )


async def read_body(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    """The request's body as it came.

    Raises WireError: 413 beyond `limit` bytes, 408 where it has not come within `seconds`, 400 where it breaks off.
    """
    if (request.content_length or 0) > limit:
        raise WireError("the body is too large", code="body_too_large", status=413)
    try:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # what has been written so far is not the response's
        if request.content.is_eof():  # it is all there, as it nearly always is: no timer for nothing
            return await request.read()
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise WireError("the body did not arrive in time", code="body_timeout", status=408) from None
    except web.HTTPRequestEntityTooLarge:
        raise WireError("the body is too large", code="body_too_large", status=413) from None
    except web.RequestPayloadError:
        raise WireError("the body broke off", code="bad_body") from None


def request_document(body: bytes, headers: MultiMapping[str], limit: int) -> tuple[bytes, Any]:
    """A request's plain body and the JSON object in it. Raises WireError.

    JSON is UTF-8. An upstream that believed another charset would read another text than the guard does.
    """
    if any("charset" in _UTF8.sub("", value.lower()) for value in headers.getall("Content-Type", ())):
        raise WireError("the body must be in UTF-8", code="bad_charset", status=415)
    if coding := headers.get("Content-Encoding", ""):
        body = decode(body, coding, limit)
    document = parse(body, "the request body")
    if not isinstance(document, dict):
        raise WireError("the request body is not a JSON object", code="bad_json")
    return body, document


def response_document(body: bytes, headers: MultiMapping[str], limit: int) -> tuple[bytes, Any]:
    """A response's plain body and the JSON value in it. Raises UpstreamError."""
    try:
        if coding := headers.get("Content-Encoding", ""):
            body = decode(body, coding, limit)
        return body, parse(body, "the upstream's answer")
    except WireError as error:
        raise UpstreamError(str(error), code=f"upstream_{error.code}") from None


def parse(body: bytes, what: str) -> Any:
    """The JSON value that `body` is. Raises WireError, saying no more of the content than where it fails."""
    try:
        return jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        # jiter names the member; what is kept of its words is the kind of error and the place.
        words = str(error)
        kind = next((text for text, mark in _KINDS if mark in words), "is not valid JSON")
        _, found, place = words.rpartition(" at line ")
        raise WireError(f"{what} {kind}{f' at line {place}' if found else ''}", code="bad_json") from None


_KINDS: Iterable[tuple[str, str]] = (
    ("has a duplicate member", "duplicate key"),
    ("is nested too deeply", "recursion limit"),
    ("has a string that is not valid Unicode", "unicode"),
    ("has a string that is not valid Unicode", "surrogate"),
    ("has a string that is not valid Unicode", "hex escape"),
    ("ends too early", "EOF"),
)
