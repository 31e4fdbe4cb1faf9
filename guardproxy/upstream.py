"""The one outbound client for guarded traffic. Narrow on purpose, so that a leaner one can take its place.

It sends what it is given and hands back bytes as they came: no cookies, no redirects, no retries (a completion costs
money, and the caller's own client knows how to retry), no decompression behind the guard's back. Whatever goes wrong
on the way is an UpstreamError with a code and the status for the caller; the upstream's own words are never part of
its message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from guardproxy.errors import UpstreamError

_NO_AUTO = ("User-Agent", "Accept-Encoding", "Content-Type", "Accept")


class Reply:
    """An upstream's answer whose body has not been read yet. A context manager; leaving it early ends the call."""

    __slots__ = ("_complete", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._complete = False
        self.status: int = response.status
        self.headers: CIMultiDictProxy[str] = response.headers

    @property
    def media_type(self) -> str:
        """The content type without parameters, in lower case; "" if there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamError beyond `limit` bytes or when the connection breaks."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise UpstreamError("the upstream's answer is too large", code="upstream_too_large")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises UpstreamError when the connection breaks before the body's end."""
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except TimeoutError:
            raise UpstreamError("the upstream stopped answering", code="upstream_timeout", status=504) from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamError("the upstream broke off its answer", code="upstream_broken") from None
        self._complete = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._complete:
            self._response.release()
        else:
            self._response.close()  # what was not read is not wanted: end the call, and so the generation


class Upstream:
    """The endpoint at `base`, e.g. https://api.openai.com/v1. Times in seconds; `read_timeout` is between two reads."""

    def __init__(self, base: str, *, connect_timeout: float, read_timeout: float) -> None:
        parsed = URL(base)
        self._origin = str(parsed.origin())
        self._prefix = parsed.raw_path.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=read_timeout)
        self._session: aiohttp.ClientSession | None = None
        self._url = lru_cache(maxsize=64)(self._make_url)

    def _make_url(self, target: str) -> URL:
        return URL(self._origin + self._prefix + target, encoded=True)

    async def open(self) -> None:
        """Gets ready to send; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            skip_auto_headers=_NO_AUTO,
        )

    async def close(self) -> None:
        """Ends what is running."""
        if self._session is not None:
            await self._session.close()

    async def send(self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None) -> Reply:
        """Sends one request; `target` is the path below the base, with its query, e.g. /chat/completions.

        Raises UpstreamError: 504 where no answer came in time, else 502.
        """
        if self._session is None:
            raise UpstreamError("the client is not open", code="internal_error", status=500)
        try:
            response = await self._session.request(
                method, self._url(target), headers=CIMultiDict(headers), data=body or None, allow_redirects=False
            )
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamError("the upstream cannot be reached in time", code="upstream_timeout", status=504) from None
        except TimeoutError:
            raise UpstreamError("the upstream did not answer in time", code="upstream_timeout", status=504) from None
        except aiohttp.ClientConnectorError:
            raise UpstreamError("the upstream cannot be reached", code="upstream_unreachable") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise UpstreamError("the upstream's answer cannot be read", code="upstream_broken") from None
        return Reply(response)
