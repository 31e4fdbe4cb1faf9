"""Telemetry as the proxy calls it. The classes here do nothing; the live ones are made only when export is asked for.

So a proxy without an exporter imports no OpenTelemetry module and pays ten empty calls for an exchange. Export is asked
for by the standard OTEL_* variables and by nothing else. Content is never handed over: these calls take verdicts and
decisions for what they count and name, and the live classes read no text from them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import ClassVar, Self

from guardproxy.types import Decision, Exchange, Side, Verdict

_logger = logging.getLogger(__name__)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_EXPORTERS = frozenset({"otlp", "console"})


class ExchangeSpan:
    """What is reported of one exchange. A context manager that ends the span; the base class reports nothing."""

    __slots__ = ()

    live: ClassVar[bool] = False  # whether anything is reported at all

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def upstream_headers(self) -> Mapping[str, str]:
        """`traceparent`, and `tracestate` if there is one, in place of the caller's. Empty: forward the caller's own.

        Asked for once, when the call upstream begins. Baggage is not among them: the caller's own is forwarded.
        """
        return _NOTHING

    def verdict(self, side: Side, verdict: Verdict, windows: int) -> None:
        """One check has answered, or failed to, for `windows` windows."""

    def decision(self, side: Side, decision: Decision, elapsed: float) -> None:
        """The policy has decided; `elapsed` seconds went by in the guard for it, checks included."""

    def failure(self, code: str) -> None:
        """Something failed; `code` is the error code that the client is told."""

    def upstream(self, status: int, elapsed: float) -> None:
        """The upstream has answered with `status`; the call took `elapsed` seconds."""

    def first_token(self, added: float) -> None:
        """The first event of a stream was delivered `added` seconds later than without a guard."""

    def finish(self, status: int) -> None:
        """The client has been answered with `status`."""


_SILENT = ExchangeSpan()


class Telemetry:
    """All signals of one worker process. The base class is telemetry that is off."""

    enabled: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, service_version: str) -> Telemetry:
        """What the OTEL_* variables ask for; one that does nothing where they ask for nothing or cannot be met.

        To be called in every worker process by itself, after a fork. What is exported and where to is read from
        `environ`; the SDK itself reads the rest (sampler, headers, certificates, intervals) from the process's own.
        """
        traces, metrics = wanted(environ, "TRACES"), wanted(environ, "METRICS")
        if not traces and not metrics:
            return Telemetry()
        from guardproxy.telemetry.setup import start  # imports the SDK

        return start(environ, traces, metrics, service_version)

    def exchange(self, exchange: Exchange, headers: Mapping[str, str]) -> ExchangeSpan:
        """Starts a span. `headers`: the request's, looked up in lower case (or case-insensitively, as aiohttp's)."""
        return _SILENT

    def shutdown(self) -> None:
        """Sends what is left, within a few seconds."""


def wanted(environ: Mapping[str, str], signal: str) -> tuple[str, ...]:
    """The exporters that `environ` asks for, for "TRACES" or "METRICS".

    An endpoint without a named exporter asks for OTLP. No variable at all asks for nothing, unlike in the SDK.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    named = environ.get(f"OTEL_{signal}_EXPORTER", "").strip()
    if not named:
        places = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        return ("otlp",) if any(environ.get(place, "").strip() for place in places) else ()
    names = dict.fromkeys(part.strip().lower() for part in named.split(","))
    unknown = [name for name in names if name not in _EXPORTERS and name not in {"", "none"}]
    if unknown:
        _logger.warning("OTEL_%s_EXPORTER: only otlp, console and none are known; the rest is ignored", signal)
    return tuple(name for name in names if name in _EXPORTERS)
