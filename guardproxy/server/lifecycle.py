"""A worker's life: it gets everything ready, serves until it is told to stop, and finishes what is running.

Health is asked on a port of its own, so that nobody who can reach the proxy can read about it. /healthz says that the
process lives; /readyz that it takes requests, which it no longer says once it has been told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import http_parser, web

from guardproxy import __version__
from guardproxy.audit import DecisionLog
from guardproxy.config import Settings
from guardproxy.pipeline import Guard
from guardproxy.policy.model import Policy
from guardproxy.server.assembly import BackendMaker, backends_of, judges_of, runner_of
from guardproxy.server.gateway import Gateway
from guardproxy.server.worker import Worker
from guardproxy.telemetry import Telemetry
from guardproxy.upstream import Upstream

_logger = logging.getLogger("guardproxy")


def without_extensions() -> bool:
    """Whether aiohttp runs without its C extensions, which costs two thirds of its speed."""
    return http_parser.HttpRequestParser is http_parser.HttpRequestParserPy


class Server:
    """A worker that listens. start() and stop() once each; `proxy` and `admin` are its addresses in between."""

    def __init__(self, settings: Settings, policy: Policy, backends: Mapping[str, BackendMaker] | None = None) -> None:
        """`backends`: how rungs are made; as the settings say if not given."""
        self._settings = settings
        self._policy = policy
        self._backends = backends_of(settings) if backends is None else backends
        self._runners: list[web.BaseRunner] = []
        self.worker: Worker | None = None
        self.proxy = self.admin = ""

    async def start(self) -> None:
        """Gets everything ready and listens. Raises ConfigError, PolicyError, and OSError if a port is taken."""
        settings = self._settings
        worker = self.worker = await _assemble(settings, self._policy, self._backends)
        try:
            self.proxy = await self._listen(_proxy_runner(settings, worker), settings.host, settings.port)
            self.admin = await self._listen(_admin_runner(worker), settings.admin_host, settings.admin_port)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Takes no more requests, lets those that run finish within the limit, and closes everything."""
        worker = self.worker
        if worker is None:
            return
        worker.draining = True
        for runner in self._runners:
            await runner.cleanup()
        await worker.upstream.close()
        await worker.guard.close()
        await asyncio.to_thread(worker.telemetry.shutdown)
        worker.guard.log.close()
        self.worker = None

    async def _listen(self, runner: web.BaseRunner, host: str, port: int) -> str:
        """Starts listening; the address as a URL. Workers share a port, and the kernel shares out connections."""
        self._runners.append(runner)
        await runner.setup()
        shared = hasattr(socket, "SO_REUSEPORT") and self._settings.workers > 1
        await web.TCPSite(runner, host, port, reuse_port=shared or None, backlog=1024).start()
        bound = runner.addresses[0]
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"http://{name}:{bound[1]}"


async def serve(settings: Settings, policy: Policy, ready: Callable[[str, str], None]) -> None:
    """Serves until SIGTERM or SIGINT. `ready` is told the addresses of the proxy and of the admin port.

    Raises ConfigError, PolicyError, and OSError if a port is taken.
    """
    server = Server(settings, policy)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    assert server.worker is not None
    loop.add_signal_handler(signal.SIGHUP, server.worker.guard.log.reopen)
    ready(server.proxy, server.admin)
    await stop.wait()
    _logger.info("stopping: running exchanges have %.0f s to finish", settings.shutdown_timeout)
    await server.stop()


async def _assemble(settings: Settings, policy: Policy, backends: Mapping[str, BackendMaker]) -> Worker:
    log = DecisionLog.open(settings.decision_log)
    key = os.environ.get(settings.hash_key_env, "").encode() if settings.hash_key_env else b""
    runner = runner_of(policy, settings.backend, backends)
    guard = Guard(
        policy, runner, judges_of(policy), log, key or secrets.token_bytes(32), log_allowed=settings.log_allowed
    )
    upstream = Upstream(
        settings.upstream, connect_timeout=settings.upstream_connect_timeout, read_timeout=settings.upstream_timeout
    )
    return Worker(settings, guard, upstream, Telemetry.from_environment(os.environ, service_version=__version__))


def _proxy_runner(settings: Settings, worker: Worker) -> web.BaseRunner:
    loop = asyncio.get_running_loop()

    def request_of(message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=settings.max_body)

    server = web.Server(
        Gateway(worker),
        request_factory=request_of,
        handler_cancellation=True,  # a caller that leaves cancels its work
        access_log=None,
        auto_decompress=False,  # bombs are defused in wire/coding.py
        max_line_size=16384,
        max_field_size=32768,
    )
    return web.ServerRunner(server, shutdown_timeout=settings.shutdown_timeout)


def _admin_runner(worker: Worker) -> web.BaseRunner:
    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        policy = worker.guard.policy
        detail = {
            "status": "draining" if worker.draining else "ready",
            "policy": policy.ref,
            "backends": await worker.guard.runner.health(),
        }
        return web.json_response(detail, status=503 if worker.draining else 200)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
