"""A guarded stream on its way to the caller: the shell round StreamGuard.

Bytes in, tasks judged, decided bytes out. A block ends the stream in the API's own way and ends the upstream's call;
an upstream that breaks off, or sends what cannot be read, ends it with an error event, after what had been said so
far has been judged. A caller that leaves cancels all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from guardproxy.errors import UpstreamError, WireError
from guardproxy.pipeline import Inspection
from guardproxy.policy.model import RefusalShape
from guardproxy.server.http import error_response, inbound
from guardproxy.server.worker import Worker
from guardproxy.stream import StreamGuard
from guardproxy.telemetry import ExchangeSpan
from guardproxy.types import Action, Decision, Side
from guardproxy.upstream import Reply
from guardproxy.wire.base import Dialect, Refusal
from guardproxy.wire.coding import Decoder
from guardproxy.wire.routes import Route


class StreamRelay:
    """One stream. run() is called once."""

    def __init__(
        self,
        worker: Worker,
        request: web.BaseRequest,
        route: Route,
        dialect: Dialect,
        inspection: Inspection,
        span: ExchangeSpan,
    ) -> None:
        self._worker = worker
        self._request = request
        self._route = route
        self._dialect = dialect
        self._inspection = inspection
        self._span = span
        self._guard = StreamGuard(dialect, worker.settings.max_held)
        self._response: web.StreamResponse | None = None
        self._first_bytes = 0.0

    async def run(self, reply: Reply, refusal: Callable[[Any], Refusal]) -> web.StreamResponse:
        """Relays the stream to its end, whatever that is. `refusal` words a refusal, given the usage so far."""
        try:
            blocked = await self._relay(reply)
        except (WireError, UpstreamError) as error:
            return await self._failed(reply, error)
        if blocked is not None:
            return await self._cut(reply, refusal(None))
        return await self._end(reply)

    async def _relay(self, reply: Reply) -> Decision | None:
        """Relays until the end of the stream or the first block, which it returns."""
        guard = self._guard
        decoder = Decoder(
            reply.headers.get("Content-Encoding", ""),
            self._worker.settings.max_response,
            code="upstream_content_encoding",
            status=502,
        )
        async for data in reply.chunks():
            self._first_bytes = self._first_bytes or time.monotonic()
            guard.feed(decoder.feed(data))
            if blocked := await self._judge():
                return blocked
            if out := guard.take():
                await self._write(reply, out)
        guard.close()
        if blocked := await self._judge():
            return blocked
        if not guard.ended and not guard.failed:
            raise UpstreamError("the upstream's stream ended too early", code="upstream_broken")
        return None

    async def _judge(self) -> Decision | None:
        """Judges what is ready, in order; the decision that blocks, if one does."""
        for task in self._guard.tasks():
            decision = await self._inspection.inspect(Side.RESPONSE, (task.subject,))
            if decision.action is Action.BLOCK:
                return decision
            self._guard.settle(task, decision.edits)
        return None

    async def _write(self, reply: Reply, out: bytes) -> None:
        if self._response is None:
            headers = inbound(reply.headers, self._inspection.exchange.id, plain=True)
            self._response = web.StreamResponse(status=reply.status, headers=headers)
            await self._response.prepare(self._request)
            self._span.first_token(time.monotonic() - self._first_bytes)
        await self._response.write(out)

    async def _end(self, reply: Reply, out: bytes = b"") -> web.StreamResponse:
        """Writes what is decided and then `out`, and ends the response."""
        await self._write(reply, self._guard.take() + out)
        assert self._response is not None
        await self._response.write_eof()
        return self._response

    async def _cut(self, reply: Reply, refusal: Refusal) -> web.StreamResponse:
        """Ends a blocked stream. What is held and undecided is dropped; leaving `reply` ends the upstream's call."""
        as_error = self._worker.guard.policy.refusal.completion is RefusalShape.ERROR
        decided = self._guard.take()
        refusal = replace(refusal, delivered=self._guard.spoken())
        if self._response is None and not decided:
            if as_error:
                return error_response(self._route, refusal.decision, 400, refusal.text, "content_filter")
            return await self._end(reply, self._dialect.refuse_stream(refusal))
        if as_error:
            return await self._end(reply, decided + self._dialect.fail_stream(refusal.text, "content_filter"))
        return await self._end(reply, decided + self._dialect.cut_stream(refusal, self._guard.delivered()))

    async def _failed(self, reply: Reply, error: WireError | UpstreamError) -> web.StreamResponse:
        """Ends a stream that broke: first what had come and can be judged, then an error event."""
        self._span.failure(error.code)
        self._guard.close(broken=True)
        await self._judge()  # what it blocks stays held
        decided = self._guard.take()
        if self._response is None and not decided:
            return error_response(self._route, self._inspection.exchange.id, 502, str(error), error.code)
        return await self._end(reply, decided + self._dialect.fail_stream(str(error), error.code))
