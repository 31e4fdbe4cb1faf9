"""Builds the OpenTelemetry SDK from the standard environment variables. The one module that imports the SDK.

No exporter may trouble traffic or flood the log: spans leave in the background from bounded queues, a set-up that
fails turns telemetry off with one line, and what the SDK has to say is passed on at most once a minute. Providers are
not made global, so that two of them in one process (tests, an embedding application) stay apart.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from guardproxy.telemetry.base import Telemetry
from guardproxy.telemetry.live import LiveTelemetry

_logger = logging.getLogger(__name__)
SHUTDOWN_LIMIT = 5.0  # seconds
_SCOPE = "guardproxy"


class QuietHandler(logging.Handler):
    """Passes on what the SDK logs, at most one line in `interval` seconds, and says how many were left out.

    Messages of the SDK and its exporters are passed on as they are. Others (propagators) may quote a caller's header,
    so of those only the logger's name is.
    """

    def __init__(self, interval: float = 60.0) -> None:
        super().__init__(logging.WARNING)
        self._interval, self._next, self._left_out = interval, 0.0, 0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        left_out, self._left_out, self._next = self._left_out, 0, now + self._interval
        own = record.name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
        message = record.getMessage() if own else f"a warning of {record.name}"
        _logger.log(record.levelno, "telemetry: %.300s (%d similar lines left out before)", message, left_out)


def _quieten() -> None:
    library = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, QuietHandler) for handler in library.handlers):
        library.addHandler(QuietHandler())
        library.propagate = False


def start(environ: Mapping[str, str], traces: Sequence[str], metrics: Sequence[str], version: str) -> Telemetry:
    """Live telemetry with the exporters named, or telemetry that is off if the SDK refuses its settings."""
    _quieten()  # the SDK comments on settings while it is built
    try:
        resource = _resource(environ, version)
        processors = [BatchSpanProcessor(_span_exporter(name, environ)) for name in traces]
        readers = [PeriodicExportingMetricReader(_metric_exporter(name, environ)) for name in metrics]
        return assemble(resource, processors, readers)
    except Exception as error:  # noqa: BLE001 - the SDK raises bare Exceptions over settings; telemetry is no reason to stop
        _logger.error("telemetry is off: the OpenTelemetry SDK refuses its settings (%s)", type(error).__name__)  # noqa: TRY400
        return Telemetry()


def assemble(resource: Resource, processors: Sequence[SpanProcessor], readers: Sequence[MetricReader]) -> Telemetry:
    """Live telemetry over these processors and readers; without any of one kind that signal is off."""
    _quieten()
    closers: list[Callable[[], None]] = []
    tracer = meter = None
    if processors:
        spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        for processor in processors:
            spans.add_span_processor(processor)
        tracer = spans.get_tracer(_SCOPE)
        closers.append(spans.shutdown)
    if readers:
        measures = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        meter = measures.get_meter(_SCOPE)
        closers.append(measures.shutdown)
    return LiveTelemetry(tracer, meter, lambda: _close(closers, SHUTDOWN_LIMIT))


def _close(closers: Sequence[Callable[[], None]], limit: float) -> None:
    """Calls all at once and waits `limit` seconds at most; the SDK's own limits are several times as long."""
    threads = [threading.Thread(target=closer, name="telemetry-shutdown", daemon=True) for closer in closers]
    for thread in threads:
        thread.start()
    end = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        _logger.warning("telemetry: not everything could be sent within %g seconds", limit)


def _resource(environ: Mapping[str, str], version: str) -> Resource:
    attributes: dict[str, str | int] = {"service.name": "guardproxy", "service.version": version}
    # Workers share every other attribute; counters of two processes under one identity would overwrite each other.
    attributes["service.instance.id"] = str(uuid.uuid4())
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, separator, value = pair.partition("=")
        if separator and key.strip():
            attributes[key.strip()] = unquote(value.strip())
    attributes["process.pid"] = os.getpid()
    if name := environ.get("OTEL_SERVICE_NAME", "").strip():
        attributes["service.name"] = name
    return Resource.create(attributes)


def _endpoint(environ: Mapping[str, str], signal: str) -> str:
    """The full address for "traces" or "metrics", as the OTLP exporter specification has it."""
    if own := environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip():
        return own
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or "http://localhost:4318"
    return f"{base.rstrip('/')}/v1/{signal}"


def _warn_of_protocol(environ: Mapping[str, str], signal: str) -> None:
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if protocol and protocol.strip() != "http/protobuf":
        _logger.warning("telemetry: OTLP goes out as http/protobuf; the protocol that is set for %s is ignored", signal)


def _span_exporter(name: str, environ: Mapping[str, str]) -> OTLPSpanExporter | ConsoleSpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    _warn_of_protocol(environ, "traces")
    return OTLPSpanExporter(endpoint=_endpoint(environ, "traces"))


def _metric_exporter(name: str, environ: Mapping[str, str]) -> OTLPMetricExporter | ConsoleMetricExporter:
    if name == "console":
        return ConsoleMetricExporter()
    _warn_of_protocol(environ, "metrics")
    return OTLPMetricExporter(endpoint=_endpoint(environ, "metrics"))
