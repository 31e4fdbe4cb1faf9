"""One HTTP/1.1 connection to the upstream: a request out, a response in, and again.

The parser (httptools: llhttp, strict) says what a response is; this module keeps its pieces until they are asked for,
and no more than BUFFER bytes of them: then it stops reading, so that an upstream cannot fill the memory of a slow
caller's exchange. A connection that has seen anything out of turn is not used again.
"""

from __future__ import annotations

import asyncio
from enum import Enum

import httptools
from multidict import CIMultiDict

from guardproxy.errors import UpstreamError

BUFFER = 1 << 18
HEAD = 1 << 16  # bytes of response headers


class _End(Enum):
    """How far the response has come."""

    IDLE = "idle"
    HEAD = "waiting for the head"
    BODY = "reading the body"
    COMPLETE = "complete"
    BROKEN = "broken"


class Connection(asyncio.Protocol):
    """Used by one exchange at a time. `fault` says, once it is broken, why in an error code."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._state = _End.IDLE
        self._waiter: asyncio.Future[None] | None = None
        self._body: list[bytes] = []
        self._held = self._head_size = 0
        self._paused = self._framed = self._keep = False
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()

    # -- what the exchange does ---------------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        transport = self._transport
        return self._state in (_End.IDLE, _End.COMPLETE) and transport is not None and not transport.is_closing()

    @property
    def complete(self) -> bool:
        """Whether the response has arrived in full, been read, and leaves the connection fit for another."""
        return self._state is _End.COMPLETE and self._keep and not self._body

    async def request(self, data: bytes, seconds: float) -> None:
        """Sends a request and waits for the head of its response. Raises UpstreamError."""
        self._parser = httptools.HttpResponseParser(self)
        self._state, self._held, self._head_size = _End.HEAD, 0, 0
        self._framed = self._keep = False
        self.headers = CIMultiDict()
        assert self._transport is not None
        self._transport.write(data)
        while self._state is _End.HEAD:
            await self._wait(seconds, "the upstream did not answer in time")
        if self._state is _End.BROKEN and not self._body:
            raise UpstreamError("the upstream's answer cannot be read", code="upstream_broken")

    async def read(self, seconds: float) -> bytes:
        """What has arrived of the body since the last call; b"" at its end. Raises UpstreamError."""
        while not self._body:
            if self._state is _End.COMPLETE:
                return b""
            if self._state is _End.BROKEN:
                raise UpstreamError("the upstream broke off its answer", code="upstream_broken")
            await self._wait(seconds, "the upstream stopped answering")
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """Ends the connection at once, and with it whatever the upstream is still doing for it."""
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, seconds: float, late: str) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._expire, self._waiter, late)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    @staticmethod
    def _expire(waiter: asyncio.Future[None], late: str) -> None:
        if not waiter.done():
            waiter.set_exception(UpstreamError(late, code="upstream_timeout", status=504))

    # -- what the transport does --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = transport  # type: ignore[assignment] # of a stream protocol it is a Transport

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        if self._parser is None or self._state not in (_End.HEAD, _End.BODY):
            self._break()  # nobody has asked for anything
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UpstreamError):
            self._break()
        if self._held > BUFFER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio's. A body without a length ends with the connection; any other is cut short by it."""
        if self._state is _End.BODY and not self._framed and error is None:
            self._state = _End.COMPLETE
        elif self._state is not _End.COMPLETE:
            self._state = _End.BROKEN
        self._keep = False
        self._wake()

    def _break(self) -> None:
        self._state = _End.BROKEN
        self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- what the parser does -----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools'. What comes after the head (trailers) is dropped."""
        if self._state is not _End.HEAD:
            return
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD:
            raise UpstreamError("the upstream's headers are too large", code="upstream_broken")
        self.headers.add(name.decode("latin-1"), value.decode("utf-8", "replace"))

    def on_headers_complete(self) -> None:
        """httptools'."""
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status < 200:
            if self.status == 101:
                raise UpstreamError("the upstream changed the protocol", code="upstream_broken")
            self.headers.clear()  # an interim response; the real one follows
            return
        coding = self.headers.get("Transfer-Encoding", "").lower()
        self._framed = "Content-Length" in self.headers or coding.endswith("chunked") or self.status in (204, 304)
        self._keep = self._framed and self._parser.should_keep_alive()
        self._state = _End.BODY

    def on_body(self, data: bytes) -> None:
        """httptools'."""
        self._body.append(data)
        self._held += len(data)

    def on_message_begin(self) -> None:
        """httptools'. Two responses to one request are one too many."""
        if self._state is _End.COMPLETE:
            raise UpstreamError("the upstream answered twice", code="upstream_broken")

    def on_message_complete(self) -> None:
        """httptools'."""
        if self._state is _End.BODY:
            self._state = _End.COMPLETE
