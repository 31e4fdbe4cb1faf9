"""The handler of every request: finds the route, and turns whatever goes wrong into an error of the API's own shape.

What the proxy does not understand is refused unless the policy says otherwise. One exchange's fault never becomes the
process's, and what is written down of it names places in the code, never the content that was being handled.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
import traceback
from collections.abc import Mapping
from itertools import count

from aiohttp import web

from guardproxy.errors import UpstreamError, WireError
from guardproxy.server.exchange import GuardedExchange
from guardproxy.server.http import error_response, inbound, outbound, read_body
from guardproxy.server.worker import Worker
from guardproxy.telemetry import ExchangeSpan
from guardproxy.types import Action, Decision, Exchange, Side
from guardproxy.wire.routes import Route, canonical, match

_logger = logging.getLogger("guardproxy.server")
_CREDENTIALS = ("Authorization", "x-api-key", "api-key")


class Gateway:
    """aiohttp's handler; one for each worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._numbers = count()
        self._prefix = f"gp-{secrets.token_hex(8)}"  # so that numbers of other processes are others

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request. Raises only where there is nobody left to answer."""
        number = f"{self._prefix}{next(self._numbers):08x}"
        path, _, query = request.raw_path.partition("?")
        try:
            path = canonical(path)
            route = match(request.method, path)
        except WireError as error:
            return error_response(None, number, error.status, str(error), error.code)
        tenant = _tenant(request.headers, self._worker.guard.key)
        exchange = Exchange(number, route.path if route else "other", tenant=tenant, started=time.monotonic())
        target = f"{path}?{query}" if query else path
        with self._worker.telemetry.exchange(exchange, request.headers) as span:
            try:
                response = await self._answer(request, route, target, exchange, span)
            except (WireError, UpstreamError) as error:
                span.failure(error.code)
                response = error_response(route, number, error.status, str(error), error.code)
            except (asyncio.CancelledError, ConnectionError):
                span.failure("client_gone")
                raise
            except Exception as error:  # noqa: BLE001 - see the module's first lines
                span.failure("internal_error")
                _log_fault(exchange, error)
                response = error_response(
                    route, number, 500, "the guard failed; nothing was passed on", "internal_error"
                )
            span.finish(response.status)
            return response

    async def _answer(
        self, request: web.BaseRequest, route: Route | None, target: str, exchange: Exchange, span: ExchangeSpan
    ) -> web.StreamResponse:
        if route is not None and route.dialect is not None:
            return await GuardedExchange(self._worker, request, route, route.dialect, target, exchange, span).answer()
        if route is None and self._worker.guard.policy.unguarded is not Action.ALLOW:
            self._deny_route(exchange, span)
        return await self._pass(request, target, exchange, span)

    def _deny_route(self, exchange: Exchange, span: ExchangeSpan) -> None:
        guard = self._worker.guard
        denied = Decision(Action.BLOCK, guard.policy.ref, ("unguarded",))
        span.decision(Side.REQUEST, denied, 0.0)
        guard.log.record(exchange, Side.REQUEST, denied, (), degraded=False)
        raise WireError("this route is not guarded and so denied by the policy", code="route_denied", status=403)

    async def _pass(
        self, request: web.BaseRequest, target: str, exchange: Exchange, span: ExchangeSpan
    ) -> web.StreamResponse:
        """Relays a request and its answer as they are."""
        body = await read_body(request, self._worker.settings.max_body, self._worker.settings.request_timeout)
        headers = outbound(request.headers, span.upstream_headers(), plain=False)
        async with await self._worker.send(request.method, target, headers, body, span) as reply:
            returned = inbound(reply.headers, exchange.id, plain=False)
            response = web.StreamResponse(status=reply.status, headers=returned)
            await response.prepare(request)
            async for chunk in reply.chunks():
                await response.write(chunk)
            await response.write_eof()
            return response


def _tenant(headers: Mapping[str, str], key: bytes) -> str:
    """Who is asking, as a keyed hash of the credential: the same for one credential, and nothing to anybody else."""
    credential = "\n".join(headers.get(name, "") for name in _CREDENTIALS)
    return hashlib.blake2b(credential.encode("utf-8", "surrogateescape"), key=key[:64], digest_size=12).hexdigest()


def _log_fault(exchange: Exchange, error: Exception) -> None:
    """Writes down where an unexpected error came from: its kind and places in the code. Its message may be content."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    _logger.error("%s: %s in %s", exchange.id, type(error).__name__, places)
