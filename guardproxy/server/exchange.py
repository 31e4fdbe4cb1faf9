"""One exchange on a guarded route: the request judged and sent on, the answer judged and returned.

Nothing reaches the upstream or the caller before it has been decided. The caller learns a decision's id and no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from guardproxy.enforce import rewrite
from guardproxy.errors import UpstreamError
from guardproxy.policy.model import RefusalShape
from guardproxy.server.http import (
    error_response,
    inbound,
    outbound,
    read_body,
    request_document,
    response_document,
)
from guardproxy.server.streaming import StreamRelay
from guardproxy.server.worker import Worker
from guardproxy.telemetry import ExchangeSpan
from guardproxy.types import Action, Exchange, Scope, Segment, Side
from guardproxy.upstream import Reply
from guardproxy.wire.base import Dialect, Located, Refusal, leaves
from guardproxy.wire.routes import Route

_ERROR_LIMIT = 1 << 20  # bytes of an upstream's error that are read
_JSON = "application/json"


class GuardedExchange:
    """The state of one exchange while it is answered."""

    def __init__(
        self,
        worker: Worker,
        request: web.BaseRequest,
        route: Route,
        dialect: Dialect,
        target: str,
        exchange: Exchange,
        span: ExchangeSpan,
    ) -> None:
        self._worker = worker
        self._request = request
        self._route = route
        self._dialect = dialect
        self._target = target
        self._exchange = exchange
        self._span = span
        self._include_usage = False
        self._inspection = worker.guard.inspection(exchange, span, restores=route.guards_response)

    async def answer(self) -> web.StreamResponse:
        """The response to return. Raises WireError and UpstreamError."""
        body = None
        if self._route.guards_request:
            body, refused = await self._judged_request()
            if refused is not None:
                return refused
        headers = outbound(self._request.headers, self._span.upstream_headers(), plain=True)
        async with await self._worker.send(self._request.method, self._target, headers, body, self._span) as reply:
            try:
                return await self._judged_reply(reply)
            finally:
                self._inspection.conclude(Side.RESPONSE)

    # -- the request --------------------------------------------------------------------------------------------------

    async def _judged_request(self) -> tuple[bytes, web.StreamResponse | None]:
        """The body to send on, and the refusal if nothing is to be sent."""
        settings = self._worker.settings
        coded = await read_body(self._request, settings.max_body, settings.request_timeout)
        body, document = request_document(coded, self._request.headers, settings.max_body)
        self._describe(document)
        located = self._dialect.request(document)
        decision = await self._inspection.document(Side.REQUEST, located)
        self._inspection.conclude(Side.REQUEST)
        if decision.action is Action.BLOCK:
            return b"", await self._refused_prompt()
        return rewrite(body, decision.edits, located.segments), None

    def _describe(self, document: Mapping[str, Any]) -> None:
        """Notes what the request says of itself."""
        model, options = document.get("model"), document.get("stream_options")
        self._include_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._exchange = self._inspection.exchange = replace(
            self._exchange,
            model=model[:200] if isinstance(model, str) else "",
            stream=document.get("stream") is True,
        )

    async def _refused_prompt(self) -> web.StreamResponse:
        style = self._worker.guard.policy.refusal
        if style.prompt is RefusalShape.ERROR or not self._route.refusable:
            return self._refusal_error()
        if not self._exchange.stream:
            return self._json(200, self._dialect.refuse(self._refusal()))
        return self._whole(200, self._dialect.refuse_stream(self._refusal()), "text/event-stream")

    # -- the answer ---------------------------------------------------------------------------------------------------

    async def _judged_reply(self, reply: Reply) -> web.StreamResponse:
        if reply.status >= 400:
            return await self._failure(reply)
        if reply.status >= 300:
            raise UpstreamError("the upstream answered with a redirect", code="upstream_redirect")
        if reply.media_type == "text/event-stream" and self._route.guards_response:
            relay = StreamRelay(self._worker, self._request, self._route, self._dialect, self._inspection, self._span)
            return await relay.run(reply, self._refusal)
        if reply.media_type != _JSON and not reply.media_type.endswith("+json"):
            raise UpstreamError("the upstream's answer is of an unexpected type", code="upstream_content_type")
        return await self._unary(reply)

    async def _unary(self, reply: Reply) -> web.StreamResponse:
        limit = self._worker.settings.max_response
        body, document = response_document(await reply.read(limit), reply.headers, limit)
        if self._route.guards_response:
            located = self._dialect.response(document)
            decision = await self._inspection.document(Side.RESPONSE, located)
            if decision.action is Action.BLOCK:
                return self._refused_completion(document)
            body = rewrite(body, decision.edits, located.segments)
        headers = inbound(reply.headers, self._exchange.id, plain=True)
        return web.Response(status=reply.status, headers=headers, body=body)

    def _refused_completion(self, document: Any) -> web.StreamResponse:
        if self._worker.guard.policy.refusal.completion is RefusalShape.ERROR or not self._route.refusable:
            return self._refusal_error()
        usage = document.get("usage") if isinstance(document, dict) else None
        return self._json(200, self._dialect.refuse(self._refusal(usage)))

    async def _failure(self, reply: Reply) -> web.StreamResponse:
        """An upstream's error: returned as it is if it is readable and clean, since it may repeat what it was sent."""
        try:
            body, document = response_document(await reply.read(_ERROR_LIMIT), reply.headers, _ERROR_LIMIT)
        except UpstreamError:
            document = None
        if not isinstance(document, dict):
            return self._error(reply.status, "the upstream failed, and its error cannot be shown", "upstream_error")
        located = Located(
            tuple(
                Segment("error", path, "", Scope.COMPLETION, text)
                for path, text in leaves(document)
                if isinstance(text, str)
            )
        )
        decision = await self._inspection.document(Side.RESPONSE, located)
        if decision.action is Action.BLOCK:
            return self._error(reply.status, "the upstream failed, and its error is withheld", "upstream_error")
        headers = inbound(reply.headers, self._exchange.id, plain=True)
        return web.Response(status=reply.status, headers=headers, body=rewrite(body, decision.edits, located.segments))

    # -- answers of ours ----------------------------------------------------------------------------------------------

    def _refusal(self, usage: Any = None) -> Refusal:
        def count(*names: str) -> int:
            values = [usage.get(name) for name in names] if isinstance(usage, dict) else []
            return next((value for value in values if isinstance(value, int) and value > 0), 0)

        return Refusal(
            text=self._worker.guard.policy.refusal.message,
            decision=self._exchange.id,
            model=self._exchange.model,
            created=self._worker.wall_clock(),
            include_usage=self._include_usage,
            prompt_tokens=count("prompt_tokens", "input_tokens"),
            completion_tokens=count("completion_tokens", "output_tokens"),
        )

    def _refusal_error(self) -> web.StreamResponse:
        return self._error(400, self._worker.guard.policy.refusal.message, "content_filter")

    def _error(self, status: int, message: str, code: str) -> web.StreamResponse:
        return error_response(self._route, self._exchange.id, status, message, code)

    def _json(self, status: int, document: Any) -> web.StreamResponse:
        return self._whole(status, json.dumps(document, ensure_ascii=False).encode(), _JSON)

    def _whole(self, status: int, body: bytes, media_type: str) -> web.StreamResponse:
        headers = {"Content-Type": media_type, "x-guardproxy-decision": self._exchange.id}
        return web.Response(status=status, headers=headers, body=body)
