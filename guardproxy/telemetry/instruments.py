"""The instruments behind the registry's metrics: their units, meanings and buckets come from there and nowhere else."""

from __future__ import annotations

from opentelemetry import metrics

from guardproxy.telemetry import names


class Instruments:
    """The metrics of the registry, made once for a process."""

    __slots__ = (
        "active",
        "check_duration",
        "check_outcomes",
        "decisions",
        "exchange_duration",
        "failures",
        "first_token",
        "overhead",
        "upstream",
    )

    def __init__(self, meter: metrics.Meter) -> None:
        registry = {metric.name: metric for metric in names.METRICS}

        def counter(name: str) -> metrics.Counter:
            return meter.create_counter(name, registry[name].unit, registry[name].note)

        def histogram(name: str) -> metrics.Histogram:
            metric = registry[name]
            return meter.create_histogram(
                name, metric.unit, metric.note, explicit_bucket_boundaries_advisory=metric.buckets
            )

        active = registry[names.EXCHANGES_ACTIVE]
        self.active = meter.create_up_down_counter(active.name, active.unit, active.note)
        self.decisions, self.failures = counter(names.DECISIONS), counter(names.FAILURES)
        self.check_outcomes, self.check_duration = counter(names.CHECK_OUTCOMES), histogram(names.CHECK_DURATION)
        self.exchange_duration, self.overhead = histogram(names.EXCHANGE_DURATION), histogram(names.OVERHEAD)
        self.upstream, self.first_token = histogram(names.UPSTREAM_DURATION), histogram(names.FIRST_TOKEN_DELAY)
