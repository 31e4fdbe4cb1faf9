"""The one outbound client for guarded traffic: HTTP/1.1 over TCP or TLS, pooled, and nothing else.

It sends what it is given and hands back bytes as they came: no cookies, no redirects, no retries (a completion costs
money, and the caller's own client knows how to retry), no decompression behind the guard's back. Whatever goes wrong
on the way is an UpstreamError with a code and the status for the caller; the upstream's own words are never part of
its message.

A general client does so much more for a request that it costs three times what the server does; see
docs/adr/004-a-client-of-our-own.md.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from multidict import CIMultiDict

from guardproxy.errors import UpstreamError
from guardproxy.upstream.connection import Connection

IDLE = 4.0  # seconds; many servers close an idle connection after 5, and a request must not meet that
MOST_IDLE = 256


class Reply:
    """An upstream's answer whose body has not been read yet. A context manager; leaving it early ends the call."""

    __slots__ = ("_connection", "_upstream", "headers", "status")

    def __init__(self, upstream: Upstream, connection: Connection) -> None:
        self._upstream = upstream
        self._connection = connection
        self.status = connection.status
        self.headers: CIMultiDict[str] = connection.headers

    @property
    def media_type(self) -> str:
        """The content type without parameters, in lower case; "" if there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamError beyond `limit` bytes or when the connection breaks."""
        chunks: list[bytes] = []
        size = 0
        while chunk := await self._connection.read(self._upstream.read_timeout):
            size += len(chunk)
            if size > limit:
                raise UpstreamError("the upstream's answer is too large", code="upstream_too_large")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises UpstreamError when the connection breaks before the body's end."""
        while chunk := await self._connection.read(self._upstream.read_timeout):
            yield chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._upstream.release(self._connection)


class Upstream:
    """The endpoint at `base`, e.g. https://api.openai.com/v1. Times in seconds; `read_timeout` is between two reads."""

    def __init__(self, base: str, *, connect_timeout: float, read_timeout: float) -> None:
        parts = urlsplit(base)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._host_header = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._idle: list[tuple[float, Connection]] = []  # the latest used last
        self._busy: set[Connection] = set()

    async def close(self) -> None:
        """Ends every connection, also those in use."""
        for connection in (*self._busy, *(connection for _, connection in self._idle)):
            connection.close()
        self._idle.clear()

    async def send(self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None) -> Reply:
        """Sends one request; `target` is the path below the base, with its query, e.g. /chat/completions.

        Raises UpstreamError: 504 where no answer came in time, else 502.
        """
        lines = [f"{method} {self._prefix}{target} HTTP/1.1", f"Host: {self._host_header}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            raise UpstreamError("a header holds a line end", code="internal_error", status=500)
        data = f"{head}\r\n\r\n".encode("utf-8", "surrogateescape")
        connection = self._pooled() or await self._connect()
        self._busy.add(connection)
        try:
            await connection.request(data + body if body else data, self.read_timeout)
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise
        return Reply(self, connection)

    def release(self, connection: Connection) -> None:
        """Takes a connection back: to be used again if its response was read to the end, else to be closed."""
        self._busy.discard(connection)
        if connection.complete and connection.reusable and len(self._idle) < MOST_IDLE:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()

    def _pooled(self) -> Connection | None:
        """The connection used last, if it was used lately enough; older ones are closed."""
        oldest = time.monotonic() - IDLE
        while self._idle:
            used, connection = self._idle.pop()
            if used < oldest:
                connection.close()
                for _, older in self._idle:
                    older.close()
                self._idle.clear()
            elif connection.reusable:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop), self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            raise UpstreamError("the upstream cannot be reached in time", code="upstream_timeout", status=504) from None
        except ssl.SSLError:
            raise UpstreamError("the upstream's certificate is not accepted", code="upstream_tls") from None
        except OSError:
            raise UpstreamError("the upstream cannot be reached", code="upstream_unreachable") from None
        return connection
