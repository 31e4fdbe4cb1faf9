"""The signals as exported, the bounds on what callers choose, and that neither content nor failures get out."""

from __future__ import annotations

import http.server
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from guardproxy.telemetry import Telemetry, bounds, names, setup
from guardproxy.telemetry.base import wanted
from guardproxy.telemetry.setup import QuietHandler, _close, _endpoint, _resource, assemble, start
from guardproxy.types import Action, Decision, Edit, Escalation, Exchange, Finding, Outcome, Side, Verdict

ROUTE = "/v1/chat/completions"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
DOCS = Path(__file__).parents[1] / "docs" / "telemetry.md"


class Observed:
    """Live telemetry over in-memory exporters."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.telemetry = assemble(Resource({}), [SimpleSpanProcessor(self.exporter)], [self.reader])

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Metric name to its points: attributes, and the value or the histogram's (count, sum)."""
        data, found = self.reader.get_metrics_data(), {}
        if data is None:
            return {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            found[metric.name] = [
                (dict(p.attributes), p.value if hasattr(p, "value") else (p.count, p.sum))
                for p in metric.data.data_points
            ]
        return found


@pytest.fixture
def observed() -> Iterator[Observed]:
    made = Observed()
    yield made
    made.telemetry.shutdown()


def exchange(**changes: Any) -> Exchange:
    fields: dict[str, Any] = {"id": "gp-1", "route": ROUTE, "model": "gpt-4o", "session": "s-1", "stream": True}
    return Exchange(**(fields | changes))


def whole_exchange(telemetry: Telemetry, **changes: Any) -> None:
    """Every call that the server makes, once or more."""
    with telemetry.exchange(exchange(**changes), {"traceparent": f"00-{TRACE}-{PARENT}-01"}) as span:
        found = (Finding("EMAIL_ADDRESS", 0, 5, 1.0), Finding("EMAIL_ADDRESS", 7, 9, 0.9), Finding("IBAN", 20, 40, 0.8))
        span.verdict(Side.REQUEST, Verdict("pii", findings=found, backend="rules@1", elapsed=0.002), 3)
        span.verdict(Side.REQUEST, Verdict("toxicity", Outcome.TIMEOUT, reason="deadline"), 3)
        span.decision(Side.REQUEST, Decision(Action.REWRITE, "base@1+abc", rules=("mask-pii",)), 0.003)
        span.upstream_headers()
        span.upstream(200, 0.25)
        span.first_token(0.001)
        span.decision(Side.RESPONSE, Decision(Action.ALLOW, "base@1+abc", would=("tox:block",)), 0.001)
        span.decision(Side.RESPONSE, Decision(Action.BLOCK, "base@1+abc", rules=("tox",)), 0.001)
        span.decision(Side.RESPONSE, Decision(Action.ALLOW, "base@1+abc"), 0.001)
        span.failure("upstream_error")
        span.finish(200)


def test_trace_context_is_continued_and_passed_on(observed: Observed) -> None:
    headers = CIMultiDictProxy(
        CIMultiDict([("TraceParent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=1"), ("TraceState", "b=2")])
    )
    with observed.telemetry.exchange(exchange(), headers) as span:
        sent = dict(span.upstream_headers())
        assert span.upstream_headers() == sent
        span.upstream(200, 0.1)
        span.finish(200)
    spans = observed.spans()
    server, client = spans[f"exchange {ROUTE}"], spans[f"upstream {ROUTE}"]
    assert server.kind is SpanKind.SERVER
    assert client.kind is SpanKind.CLIENT
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == PARENT
    assert client.parent is not None
    assert client.parent.span_id == server.get_span_context().span_id
    assert sent == {
        "traceparent": f"00-{TRACE}-{client.get_span_context().span_id:016x}-01",
        "tracestate": "a=1,b=2",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": "nonsense"},
        {"traceparent": f"00-{'0' * 32}-{PARENT}-01"},
        {"traceparent": "00-" + "f" * 100_000},
        CIMultiDict([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("traceparent", f"00-{TRACE}-{PARENT}-00")]),
    ],
)
def test_a_parent_that_cannot_be_read_starts_a_new_trace(observed: Observed, headers: Any) -> None:
    with observed.telemetry.exchange(exchange(), headers) as span:
        sent = span.upstream_headers()["traceparent"]
    assert observed.spans()[f"exchange {ROUTE}"].parent is None
    assert TRACE not in sent


def test_an_unsampled_caller_stays_unsampled(observed: Observed) -> None:
    with observed.telemetry.exchange(exchange(), {"traceparent": f"00-{TRACE}-{PARENT}-00"}) as span:
        span.verdict(Side.REQUEST, Verdict("pii"), 1)
        sent = span.upstream_headers()["traceparent"]
    assert observed.spans() == {}
    assert sent.startswith(f"00-{TRACE}-")
    assert sent.endswith("-00")
    assert observed.points()[names.CHECK_OUTCOMES][0][1] == 1


def test_exchange_and_check_spans_carry_what_the_registry_says(observed: Observed) -> None:
    whole_exchange(observed.telemetry)
    spans = observed.spans()
    server = spans[f"exchange {ROUTE}"]
    assert dict(server.attributes or {}) == {
        "http.route": ROUTE,
        "http.response.status_code": 200,
        "error.type": "upstream_error",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "s-1",
        "guardproxy.decision.id": "gp-1",
        "guardproxy.policy": "base@1+abc",
        "guardproxy.request.action": "rewrite",
        "guardproxy.request.rules": ("mask-pii",),
        "guardproxy.response.action": "block",
        "guardproxy.response.rules": ("tox",),
        "guardproxy.response.would": ("tox:block",),
        "guardproxy.stream.first_token.delay": 0.001,
    }
    pii = spans["check pii"]
    assert dict(pii.attributes or {}) == {
        "guardproxy.check.name": "pii",
        "guardproxy.side": "request",
        "guardproxy.check.outcome": "ok",
        "guardproxy.check.backend": "rules@1",
        "guardproxy.check.windows": 3,
        "guardproxy.check.score": 1.0,
        "guardproxy.finding.labels": ("EMAIL_ADDRESS", "IBAN"),
        "guardproxy.finding.counts": (2, 1),
    }
    assert pii.parent is not None
    assert pii.parent.span_id == server.get_span_context().span_id
    assert pii.end_time is not None
    assert pii.start_time is not None
    assert pii.end_time - pii.start_time == 2_000_000
    assert spans["check toxicity"].status.status_code is StatusCode.ERROR
    assert (spans["check toxicity"].attributes or {})["guardproxy.check.reason"] == "deadline"
    assert server.status.status_code is StatusCode.UNSET


def test_metrics_count_and_measure(observed: Observed) -> None:
    whole_exchange(observed.telemetry)
    points = observed.points()
    decisions = {(p["guardproxy.side"], p["guardproxy.action"]): value for p, value in points[names.DECISIONS]}
    assert decisions == {("request", "rewrite"): 1, ("response", "allow"): 2, ("response", "block"): 1}
    assert all(p["http.route"] == ROUTE and p["guardproxy.policy"] == "base@1+abc" for p, _ in points[names.DECISIONS])
    outcomes = {(p["guardproxy.check.name"], p["guardproxy.check.outcome"]): v for p, v in points[names.CHECK_OUTCOMES]}
    assert outcomes == {("pii", "ok"): 1, ("toxicity", "timeout"): 1}
    assert [value for _, value in points[names.CHECK_DURATION]] == [(1, 0.002)]
    assert points[names.FAILURES] == [({"error.type": "upstream_error", "http.route": ROUTE}, 1)]
    assert points[names.OVERHEAD][0][1] == (1, pytest.approx(0.006))
    assert points[names.UPSTREAM_DURATION][0] == (
        {"http.route": ROUTE, "http.response.status_code": 200, "gen_ai.request.model": "gpt-4o"},
        (1, 0.25),
    )
    assert points[names.FIRST_TOKEN_DELAY][0][1] == (1, 0.001)
    assert points[names.EXCHANGE_DURATION][0][0]["error.type"] == "upstream_error"
    assert points[names.EXCHANGES_ACTIVE] == [({"http.route": ROUTE}, 0)]


def test_active_exchanges_are_counted_while_they_last(observed: Observed) -> None:
    first, second = (observed.telemetry.exchange(exchange(id=str(n)), {}) for n in range(2))
    assert observed.points()[names.EXCHANGES_ACTIVE][0][1] == 2
    for span in (first, first, second):  # ending one twice counts once
        span.__exit__(None, None, None)
    assert observed.points()[names.EXCHANGES_ACTIVE][0][1] == 0


def test_the_advised_buckets_are_used(observed: Observed) -> None:
    whole_exchange(observed.telemetry)
    data = observed.reader.get_metrics_data()
    assert data is not None
    histograms = {m.name: m for m in data.resource_metrics[0].scope_metrics[0].metrics}
    for metric in names.METRICS:
        if metric.buckets:
            point: Any = histograms[metric.name].data.data_points[0]
            assert tuple(point.explicit_bounds) == metric.buckets


def test_everything_used_is_documented_and_everything_documented_is_used(observed: Observed) -> None:
    whole_exchange(observed.telemetry)
    whole_exchange(observed.telemetry, stream=False)
    with observed.telemetry.exchange(exchange(id="gp-2"), {}) as span:
        span.decision(Side.REQUEST, Decision(Action.ALLOW, "p", would=("a:block",)), 0)
        for _ in range(names.CHECK_SPANS + 5):
            span.verdict(Side.REQUEST, Verdict("pii"), 1)
    documented = names.attribute_names()
    used: set[str] = set()
    allowed = {span.name.split(" ")[0]: set(span.attributes) for span in names.SPANS}
    for exported in observed.exporter.get_finished_spans():
        keys = set(exported.attributes or {})
        assert keys <= allowed[exported.name.split(" ")[0]]
        used |= keys
    metrics = {metric.name: metric for metric in names.METRICS}
    points = observed.points()
    assert set(points) == set(metrics)
    for metric, found in points.items():
        for attributes, _ in found:
            assert set(attributes) <= set(metrics[metric].attributes)
            used |= set(attributes)
    assert used == documented
    assert len(documented) == len(names.ATTRIBUTES)
    declared = {name for item in (*names.SPANS, *names.METRICS) for name in item.attributes}
    assert declared == documented


def test_the_page_holds_the_registry() -> None:
    assert DOCS.read_text(encoding="utf-8").endswith(names.render()), (
        "put names.render() at the end of docs/telemetry.md"
    )


def test_check_spans_of_one_exchange_are_bounded(observed: Observed) -> None:
    with observed.telemetry.exchange(exchange(), {}) as span:
        for _ in range(names.CHECK_SPANS + 44):
            span.verdict(Side.RESPONSE, Verdict("pii"), 1)
    spans = observed.exporter.get_finished_spans()
    assert len(spans) == names.CHECK_SPANS + 1
    assert (spans[-1].attributes or {})[names.UNREPORTED] == 44
    assert observed.points()[names.CHECK_OUTCOMES][0][1] == names.CHECK_SPANS + 44


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What reaches the root logger's handlers. (caplog also listens to loggers that do not propagate.)"""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    root = logging.getLogger()
    level, root.level = root.level, logging.DEBUG
    root.addHandler(handler)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def test_no_content_in_any_signal(observed: Observed, logged: list[str]) -> None:
    marker = "zanzibar"
    said = f"my secret is {marker} yes"
    headers = {
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "tracestate": f"{marker} {marker}",
        "baggage": f"{marker}={marker} {marker};;={marker}",
        "authorization": f"Bearer {marker}",
    }
    escalation = Escalation("r", "judge", Action.ALLOW, f"is {marker} there?", marker)
    edit = Edit(("messages", 0, marker), 0, 4, marker)
    decision = Decision(Action.BLOCK, "p@1+2", (f"rule {marker}",), (edit,), (escalation,), (f"would {marker}",))
    caught = None
    try:
        with observed.telemetry.exchange(exchange(model=said, session=said, tenant=marker), headers) as span:
            span.verdict(
                Side.REQUEST,
                Verdict(
                    f"check {marker}",
                    Outcome.ERROR,
                    (Finding(f"LABEL {marker}", 0, 5, 1.0), Finding(f"{marker}@example.org", 0, 5, 1.0)),
                    {said: 0.5},
                    reason=f"KeyError('{marker}')",
                    backend=f"<{marker}>",
                ),
                1,
            )
            span.decision(Side.REQUEST, decision, 0.1)
            span.upstream_headers()
            span.upstream(500, 0.1)
            span.failure(f"code {marker}")
            span.finish(502)
            raise ValueError(said)
    except ValueError as error:
        caught = error
    assert caught is not None
    spans = observed.exporter.get_finished_spans()
    everything = "".join(span.to_json() for span in spans) + repr(observed.points())
    assert len(spans) == 3
    assert marker not in everything
    assert marker not in "".join(logged)
    assert not any(span.events for span in spans)


def test_an_exception_is_known_by_its_class_and_one_who_leaves_is_no_error(observed: Observed) -> None:
    for kind in (RuntimeError, KeyboardInterrupt):
        span = observed.telemetry.exchange(exchange(), {})
        span.upstream_headers()
        with pytest.raises(kind), span:
            raise kind("boom")
    lost, first, _, second = observed.exporter.get_finished_spans()
    assert lost.name == f"upstream {ROUTE}"
    assert (lost.attributes or {})[names.ERROR_TYPE] == "RuntimeError"
    assert (first.attributes or {})[names.ERROR_TYPE] == "RuntimeError"
    assert first.status.status_code is StatusCode.ERROR
    assert (second.attributes or {})[names.ERROR_TYPE] == "KeyboardInterrupt"
    assert second.status.status_code is StatusCode.UNSET


def test_models_get_series_only_once_an_upstream_has_taken_them(observed: Observed) -> None:
    for number in range(300):
        with observed.telemetry.exchange(exchange(model=f"made-up-{number}"), {}) as span:
            span.upstream(404, 0.1)
    with observed.telemetry.exchange(exchange(model="real"), {}) as span:
        span.upstream(200, 0.1)
    models = {p.get(names.MODEL) for p, _ in observed.points()[names.EXCHANGE_DURATION]}
    assert models == {names.OTHER, "real"}


def test_series_stay_bounded_whatever_callers_send(observed: Observed) -> None:
    for number in range(400):
        with observed.telemetry.exchange(exchange(model=f"m{number}", route=f"/v1/x{number}"), {}) as span:
            span.upstream(200, 0.1)
            span.failure(f"code{number}")
            span.verdict(
                Side.REQUEST, Verdict(f"c{number}", Outcome.ERROR, reason=f"r {number}", backend=f"b{number}"), 1
            )
    points = observed.points()
    seen = {
        key: {p[key] for metric in points.values() for p, _ in metric if key in p}
        for key in (names.MODEL, names.HTTP_ROUTE, names.ERROR_TYPE, names.CHECK, names.REASON, names.BACKEND)
    }
    assert {key: len(values) for key, values in seen.items()} == {
        names.MODEL: names.MODEL_SERIES + 1,
        names.HTTP_ROUTE: names.ROUTE_SERIES + 1,
        names.ERROR_TYPE: names.CODE_SERIES + 1,
        names.CHECK: names.CODE_SERIES + 1,
        names.REASON: names.CODE_SERIES + 1,
        names.BACKEND: names.CODE_SERIES + 1,
    }
    with observed.telemetry.exchange(exchange(), {}):
        pass
    assert ROUTE in {p[names.HTTP_ROUTE] for p, _ in observed.points()[names.EXCHANGE_DURATION]}  # known from the start


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_bounded_values_are_names_or_other(text: str) -> None:
    for value in (bounds.name(text), bounds.label(text), bounds.Vocabulary(5).admit(text)):
        assert value == names.OTHER or (
            value.isascii() and not set(value) & set(" \n\t\"'<>") and text.startswith(value)
        )
    assert len(bounds.name(text)) <= 64
    assert len(bounds.reason(text)) <= 80
    assert "\n" not in bounds.reason(text)


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, (), ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, (), ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ("otlp",), ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, ("otlp",), ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, ("otlp",), ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": " TRUE "}, (), ()),
        ({"OTEL_TRACES_EXPORTER": "console, otlp,otlp"}, ("console", "otlp"), ()),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}, (), ()),
    ],
)
def test_what_the_environment_asks_for(environ: dict[str, str], traces: tuple[str], metrics: tuple[str]) -> None:
    assert wanted(environ, "TRACES") == traces
    assert wanted(environ, "METRICS") == metrics


def test_an_unknown_exporter_is_warned_of_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert wanted({"OTEL_TRACES_EXPORTER": "zipkin"}, "TRACES") == ()
    assert "OTEL_TRACES_EXPORTER" in caplog.text


def test_endpoints() -> None:
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}
    assert _endpoint({}, "traces") == "http://localhost:4318/v1/traces"
    assert _endpoint(base, "metrics") == "http://c:4318/v1/metrics"
    assert _endpoint(base | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/own"}, "traces") == "http://t/own"


def test_resource() -> None:
    plain = _resource({}, "1.2").attributes
    assert (plain["service.name"], plain["service.version"]) == ("guardproxy", "1.2")
    assert plain["process.pid"] == os.getpid()
    assert plain["service.instance.id"] != _resource({}, "1.2").attributes["service.instance.id"]
    told = _resource(
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,x=1%202,bad", "OTEL_SERVICE_NAME": "b"}, "1"
    ).attributes
    assert (told["service.name"], told["x"]) == ("b", "1 2")


def test_off_imports_nothing_of_opentelemetry_and_reports_nothing() -> None:
    code = (
        "import sys\n"
        "from guardproxy.telemetry import Telemetry\n"
        "from guardproxy.types import Exchange\n"
        "t = Telemetry.from_environment({}, service_version='1')\n"
        "assert not t.enabled\n"
        "with t.exchange(Exchange('a', '/b'), {'traceparent': 'x'}) as span:\n"
        "    assert span.upstream_headers() == {}\n"
        "    span.failure('a'); span.finish(200)\n"
        "t.shutdown()\n"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, cwd=DOCS.parents[1])


def test_the_sdk_is_imported_in_one_module_only() -> None:
    package = DOCS.parents[1] / "guardproxy"
    for path in package.rglob("*.py"):
        if path.relative_to(package).as_posix() != "telemetry/setup.py":
            text = path.read_text(encoding="utf-8")
            assert "opentelemetry.sdk" not in text, path
            assert "opentelemetry.exporter." not in text, path


def test_off_costs_next_to_nothing() -> None:
    telemetry, verdict, one = Telemetry(), Verdict("pii"), exchange()
    decision = Decision(Action.ALLOW, "p")

    def request() -> None:
        with telemetry.exchange(one, {}) as span:
            span.verdict(Side.REQUEST, verdict, 1)
            span.verdict(Side.REQUEST, verdict, 1)
            span.decision(Side.REQUEST, decision, 0.1)
            span.upstream_headers()
            span.upstream(200, 0.1)
            span.first_token(0.1)
            span.decision(Side.RESPONSE, decision, 0.1)
            span.finish(200)

    best = min(_timed(request, 2000) for _ in range(10))
    assert best < 5e-6  # measured 0.6 µs; room for slow machines


def _timed(call: Any, times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begun) / times


class Collector(http.server.BaseHTTPRequestHandler):
    """Remembers what was posted to it."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def test_otlp_over_http_arrives_at_a_collector() -> None:
    handler = type("Handler", (Collector,), {"received": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        telemetry = Telemetry.from_environment(environ, service_version="1")
        assert telemetry.enabled
        whole_exchange(telemetry)
        telemetry.shutdown()
        telemetry.shutdown()
        server.shutdown()
        thread.join()
    bodies = dict(handler.received)
    assert set(bodies) == {"/v1/traces", "/v1/metrics"}
    assert b"check pii" in bodies["/v1/traces"]
    assert b"guardproxy.decisions" in bodies["/v1/metrics"]


def test_a_collector_that_is_not_there_troubles_nobody(
    logged: list[str], capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "SHUTDOWN_LIMIT", 1.0)
    logging.getLogger("urllib3").setLevel(logging.INFO)
    logging.getLogger("opentelemetry").handlers.clear()
    telemetry = Telemetry.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, service_version="1")
    begun = time.monotonic()
    for _ in range(50):
        whole_exchange(telemetry)
    assert time.monotonic() - begun < 2
    telemetry.shutdown()
    assert time.monotonic() - begun < 4
    assert 1 <= len(logged) <= 2
    assert all(line.startswith("telemetry: ") for line in logged)
    assert "Traceback" not in capfd.readouterr().err


def test_settings_that_the_sdk_refuses_turn_telemetry_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    telemetry = start({}, ["otlp"], [], "1")
    assert not telemetry.enabled
    assert "telemetry is off" in caplog.text


def test_what_the_sdk_logs_is_rationed_and_quotes_no_header(caplog: pytest.LogCaptureFixture) -> None:
    handler = QuietHandler(interval=3600)
    for _ in range(100):
        handler.emit(
            logging.LogRecord("opentelemetry.trace", logging.WARNING, "", 1, "bad pair %s", ("zanzibar",), None)
        )
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry: a warning of opentelemetry.trace (0 similar lines left out before)"
    ]


def test_shutdown_waits_no_longer_than_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    begun = time.monotonic()
    _close([lambda: bool(gate.wait(30)) and None, lambda: bool(gate.wait(30)) and None], limit=0.1)
    assert time.monotonic() - begun < 2
    gate.set()
    assert "not everything could be sent" in caplog.text


def test_hostile_trace_headers_cost_little(observed: Observed) -> None:
    spaces = "a" + " " * 8000 + "b"
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": spaces, "baggage": spaces}
    begun = time.perf_counter()
    for _ in range(20):
        observed.telemetry.exchange(exchange(), headers).__exit__(None, None, None)
    assert (time.perf_counter() - begun) / 20 < 0.02  # parsing such baggage alone takes 0.075
    assert all(span.parent is not None for span in observed.exporter.get_finished_spans())


def test_a_processor_that_raises_does_not_reach_traffic(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SimpleSpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("zanzibar")

    telemetry = assemble(Resource({}), [Broken(InMemorySpanExporter())], [])
    for _ in range(3):
        whole_exchange(telemetry)
    assert "zanzibar" not in caplog.text
    assert 1 <= len(caplog.records) <= 3


def test_metrics_alone_leave_the_callers_trace_headers_alone() -> None:
    telemetry = assemble(Resource({}), [], [InMemoryMetricReader()])
    with telemetry.exchange(exchange(), {"traceparent": f"00-{TRACE}-{PARENT}-01"}) as span:
        assert span.upstream_headers() == {}
    telemetry.shutdown()
