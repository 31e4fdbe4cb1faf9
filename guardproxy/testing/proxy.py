"""The proxy itself, running inside a test, in front of whatever upstream the test chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from guardproxy.checks.registry import specs
from guardproxy.config import Settings
from guardproxy.policy.load import load, locate, parse
from guardproxy.server.assembly import BackendMaker, backends_of, points_of
from guardproxy.server.lifecycle import Server


class Proxy:
    """A guardproxy on free ports; an asynchronous context manager.

    async with Upstream() as upstream, Proxy(upstream.url, policy="…YAML…") as proxy:
        client = AsyncOpenAI(base_url=proxy.url, api_key="any")

    `policy`: a policy's YAML, or the name of one that comes along. `backends`: further rungs that its ladders may name,
    such as {"stub": lambda _: Stub(…)}. The rest are settings, as on the command line.
    """

    def __init__(
        self,
        upstream: str,
        *,
        policy: str = "default",
        backends: Mapping[str, BackendMaker] | None = None,
        **settings: Any,
    ) -> None:
        values = {"shutdown_timeout": "2s", **settings, "upstream": upstream, "port": 0, "admin_port": 0}
        own = Settings.load({name: str(value) for name, value in values.items()}, {})
        known = {**backends_of(own), **(backends or {})}
        points = points_of(own)
        if "\n" in policy:
            loaded = parse(policy, specs(), backends=known, points=points)
        else:
            loaded = load(locate(policy), specs(), backends=known, points=points)
        self._server = Server(own, loaded, known)

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self._server.proxy}/v1"

    @property
    def admin(self) -> str:
        """The base URL of /healthz and /readyz."""
        return self._server.admin

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._server.stop()

    async def stop(self) -> None:
        """Stops as a signal would stop it: what runs may finish."""
        await self._server.stop()
