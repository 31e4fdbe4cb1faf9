"""Answers that no client wants: error statuses, wrong types, broken and hostile bodies, silence.

Each is a value that Upstream.reply() takes in place of a reply. Breaks in the middle of a stream are Delivery's
instead.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_BLOCK = 1 << 16
_HEAD = '{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"pretend",'
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


@dataclass(frozen=True, slots=True)
class Raw:
    """An HTTP answer given literally: the body, then `filler` so many times over, then the tail."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    filler: bytes = b""
    repeat: int = 0
    tail: bytes = b""

    def blocks(self) -> Iterator[bytes]:
        """The whole body, piece by piece."""
        yield self.body
        for _ in range(self.repeat):
            yield self.filler
        if self.tail:
            yield self.tail


@dataclass(frozen=True, slots=True)
class Hang:
    """Silence: no header is ever sent, until the client leaves."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is closed without an answer."""


Fault = Raw | Hang | Cut


def status(code: int, message: str = "The pretend model says no.", *, retry_after: int | None = None) -> Raw:
    """An error in a shape that serves both OpenAI's clients and Anthropic's."""
    kind = _TYPES.get(
        code, "rate_limit_error" if code == 429 else "server_error" if code >= 500 else "invalid_request_error"
    )
    error = {"message": message, "type": kind, "param": None, "code": None}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Raw(json.dumps({"type": "error", "error": error}).encode(), code, headers=headers)


def html(code: int = 502) -> Raw:
    """The page of some load balancer on the way."""
    page = f"<html><head><title>{code}</title></head><body><h1>{code} Bad Gateway</h1></body></html>"
    return Raw(page.encode(), code, "text/html")


def garbage(content_type: str = "application/json") -> Raw:
    """200, and bytes that are neither JSON nor UTF-8."""
    return Raw(b'\xff\xfe{"choices": \x00nonsense', content_type=content_type)


def half_json() -> Raw:
    """200, and a JSON document that stops in the middle of a string."""
    return Raw(f'{_HEAD}"choices":[{{"index":0,"message":{{"role":"assistant","content":"half a'.encode())


def duplicate_keys(first: str, second: str) -> Raw:
    """A chat completion whose message has `content` twice; parsers differ in which one they keep."""
    message = f'{{"role":"assistant","content":{json.dumps(first)},"content":{json.dumps(second)}}}'
    return Raw(
        f'{_HEAD}"choices":[{{"index":0,"message":{message},"logprobs":null,"finish_reason":"stop"}}]}}'.encode()
    )


def huge(size: int) -> Raw:
    """A chat completion whose content has at least `size` characters."""
    head = f'{_HEAD}"choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"'
    block = b"So it goes on. " * (_BLOCK // 15)
    return Raw(head.encode(), filler=block, repeat=-(-size // len(block)), tail=b'"}}]}')


def bomb(size: int) -> Raw:
    """A gzip body that is about a thousandth of the `size` bytes (of white space) that it unpacks to."""
    squeeze = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    block = b" " * _BLOCK
    packed = b"".join(squeeze.compress(block) for _ in range(max(size // _BLOCK, 1)))
    return Raw(packed + squeeze.flush(), headers={"Content-Encoding": "gzip"})
