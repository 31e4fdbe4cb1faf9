"""What all exchanges of a worker share, and the few things that every handler needs from it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from guardproxy.config import Settings
from guardproxy.pipeline import Guard
from guardproxy.telemetry import ExchangeSpan, Telemetry
from guardproxy.upstream import Reply, Upstream

_BASE = "/v1"  # the path that callers' base URL ends in; the upstream's ends where its own does


@dataclass(slots=True)
class Worker:
    """One process's share of the proxy. `draining`: no new work is wanted any more."""

    settings: Settings
    guard: Guard
    upstream: Upstream
    telemetry: Telemetry
    draining: bool = False
    epoch: float = field(default_factory=lambda: time.time() - time.monotonic())

    def wall_clock(self) -> int:
        """Seconds since the epoch, for documents of ours."""
        return int(self.epoch + time.monotonic())

    async def send(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None, span: ExchangeSpan
    ) -> Reply:
        """Calls the upstream for the caller's `target`, e.g. /v1/chat/completions. Raises UpstreamError."""
        began = time.monotonic()
        reply = await self.upstream.send(method, target.removeprefix(_BASE), headers, body)
        span.upstream(reply.status, time.monotonic() - began)
        return reply
