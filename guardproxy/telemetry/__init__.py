"""Spans and metrics: names.py says what there is, base.py how it is called, live.py fills it in, setup.py exports it.

The OpenTelemetry SDK is imported in setup.py alone, and only once the environment asks for export.
"""

from guardproxy.telemetry.base import ExchangeSpan, Telemetry

__all__ = ["ExchangeSpan", "Telemetry"]
