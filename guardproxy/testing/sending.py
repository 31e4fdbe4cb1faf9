"""Sends one answer to one request, in the manner of a Delivery, and counts what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from guardproxy.testing.delivery import DONE, Delivery, Event, compress, cut, stream, to_json
from guardproxy.testing.faults import Cut, Fault, Hang, Raw
from guardproxy.testing.shapes import Ask, Shape


@dataclass(slots=True)
class Received:
    """One request, as it came. `document` is None where the body is no JSON; `writes` counts what was sent of the
    answer.
    """

    method: str
    path: str  # with the query
    headers: Mapping[str, str]  # case-insensitive
    body: bytes = b""
    document: Any = None
    writes: int = 0
    disconnected: bool = False  # the client left before it had the whole answer


@dataclass(slots=True)
class Sender:
    """Sends one answer in the manner of a Delivery."""

    request: web.Request
    received: Received
    delivery: Delivery
    response: web.StreamResponse = field(default_factory=web.StreamResponse)

    async def reply(self, shape: Shape, ask: Ask) -> web.StreamResponse:
        """A reply in the shape of its API, streamed if that was asked for."""
        if ask.document.get("stream") is True:
            return await self.stream(shape.events(ask), shape.failure("The pretend model broke."))
        return await self.whole(
            Raw(to_json(shape.whole(ask), escape=self.delivery.escape).encode("utf-8", "surrogatepass"))
        )

    async def stream(self, events: list[Event], failure: list[Event]) -> web.StreamResponse:
        """Server-sent events, up to where they are to break off."""
        how = self.delivery
        broken = [after for after in (how.hang_after, how.cut_after, how.error_after) if after is not None]
        end = [event for event in events if event.data == DONE]
        if broken:
            events = events[: min(broken)]
            if how.error_after == min(broken):
                events = [*events, *failure, *end]
        if not how.done:
            events = [event for event in events if event.data != DONE]
        headers = {"Content-Type": how.content_type or "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        await self._open(200, headers)
        await self._write(cut(stream(events, how), how.writes))
        return await self._close(how.hang_after is not None, how.cut_after is not None)

    async def whole(self, raw: Raw) -> web.StreamResponse:
        """An answer that is not streamed, compressed and broken off as the delivery says."""
        how = self.delivery
        body = compress(b"".join(raw.blocks()), how.encoding)
        raw = replace(raw, body=body, filler=b"", tail=b"", content_type=how.content_type or raw.content_type)
        broken = [after for after in (how.hang_after, how.cut_after) if after is not None]
        await self._open(
            raw.status, {"Content-Type": raw.content_type, "Content-Length": str(len(body)), **raw.headers}
        )
        await self._write(cut(iter([body[: min(broken)] if broken else body]), how.writes))
        return await self._close(how.hang_after is not None, how.cut_after is not None)

    async def fault(self, fault: Fault) -> web.StreamResponse:
        """A fault, literally."""
        if isinstance(fault, Hang):
            await asyncio.Event().wait()
        if isinstance(fault, Raw):
            length = len(fault.body) + fault.repeat * len(fault.filler) + len(fault.tail)
            await self._open(
                fault.status, {"Content-Type": fault.content_type, "Content-Length": str(length), **fault.headers}
            )
            await self._write(cut(fault.blocks(), self.delivery.writes))
        return await self._close(hang=False, cut_off=isinstance(fault, Cut))

    async def _open(self, status: int, headers: Mapping[str, str]) -> None:
        self.response.set_status(status)
        self.response.headers.update(headers)
        self.response.headers["x-request-id"] = "req_pretend"
        if self.delivery.encoding:
            self.response.headers["Content-Encoding"] = self.delivery.encoding
        await self.response.prepare(self.request)

    async def _write(self, writes: Iterable[bytes]) -> None:
        for index, data in enumerate(writes):
            if index and self.delivery.pause:
                await asyncio.sleep(self.delivery.pause)
            await self.response.write(data)
            self.received.writes += 1

    async def _close(self, hang: bool, cut_off: bool) -> web.StreamResponse:
        if hang:
            await asyncio.Event().wait()
        if cut_off and self.request.transport is not None:
            self.request.transport.close()
        return self.response
