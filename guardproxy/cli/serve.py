"""`guardproxy serve`: loads the policy, starts the workers and keeps them running.

The policy is loaded before anything listens, so that a mistake in it is a message and not an outage. With several
workers this process only watches: each worker is a fork that shares the port, one that dies is replaced, and a signal
goes to all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from functools import partial
from types import FrameType

from guardproxy.checks.registry import specs
from guardproxy.config import Settings
from guardproxy.errors import ConfigError, GuardproxyError
from guardproxy.policy.lint import lint
from guardproxy.policy.load import load, locate
from guardproxy.policy.model import Policy
from guardproxy.server.assembly import BACKENDS, points_of
from guardproxy.server.lifecycle import serve, without_extensions

_logger = logging.getLogger("guardproxy")
_SHORTEST_LIFE = 5.0  # seconds; a worker that dies sooner is not replaced, since the next one would die as well


def run(settings: Settings) -> int:
    """Serves until it is told to stop; the exit status. Raises ConfigError and PolicyError."""
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if settings.backend not in BACKENDS:
        raise ConfigError(f"--backend: there is no {settings.backend}; there are: {', '.join(BACKENDS)}")
    policy = load(locate(settings.policy), specs(), backends=BACKENDS, points=points_of(settings))
    for warning in lint(policy, settings.backend):
        _logger.warning("policy %s: %s", policy.name, warning)
    if without_extensions():
        _logger.warning("aiohttp runs WITHOUT ITS C EXTENSIONS, at a third of its speed: install a wheel that has them")
    if settings.workers == 1:
        return _work(settings, policy)
    if 0 in (settings.port, settings.admin_port):
        raise ConfigError("--workers needs ports that are given: workers cannot share one that each picks for itself")
    return _Workers(settings, policy).run()


def _work(settings: Settings, policy: Policy) -> int:
    """One worker's whole life."""
    # What is loaded by now lives as long as the process, and little that a request makes has cycles: collect seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        _run_loop(serve(settings, policy, partial(_announce, settings, policy)), uvloop=settings.uvloop)
    except OSError as error:
        print(f"guardproxy: cannot listen: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def _run_loop(main: Coroutine[None, None, None], *, uvloop: bool) -> None:
    if uvloop:
        try:
            import uvloop as fast  # not there on every platform
        except ImportError:
            _logger.info("uvloop is not installed; using the standard event loop")
        else:
            fast.run(main)
            return
    asyncio.run(main)


def _announce(settings: Settings, policy: Policy, proxy: str, admin: str) -> None:
    _logger.info(
        "guarding %s at %s/v1 with policy %s; health at %s/readyz", settings.upstream, proxy, policy.ref, admin
    )


def _as_told(status: int) -> bool:
    """Whether a worker that was told to stop did: by itself, or at once where it had not begun to serve yet."""
    return status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGTERM, signal.SIGINT))


class _Workers:
    """The worker processes."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self._settings, self._policy = settings, policy
        self._count = settings.workers
        self._born: dict[int, float] = {}
        self._stopping = False

    def run(self) -> int:
        """Starts them all and waits until none is left."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        for _ in range(self._count):
            self._spawn()
        failed = False
        while self._born:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            age = time.monotonic() - self._born.pop(pid, 0.0)
            if self._stopping:
                failed = failed or not _as_told(status)
            elif age < _SHORTEST_LIFE:
                _logger.error("a worker died at its start; stopping")
                failed = True
                self._pass_on(signal.SIGTERM, None)
            else:
                _logger.error("worker %d died with status %d; starting another", pid, status)
                self._spawn()
        return 1 if failed else 0

    def _spawn(self) -> None:
        pid = os.fork()
        if pid:
            self._born[pid] = time.monotonic()
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        status = 1
        try:
            status = _work(self._settings, self._policy)
        except GuardproxyError as error:
            print(f"guardproxy: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # a worker must not run what the parent would at its end

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._stopping = self._stopping or number != signal.SIGHUP
        for pid in self._born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
