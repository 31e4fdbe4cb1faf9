"""The live signals: what base.py's calls become once export is asked for.

Only names, counts and durations are read from verdicts and decisions, never text, offsets or replacements; exceptions
are known by their class alone. What a caller chooses (a model's name, a session) is bounded before it is used. Nothing
here raises into traffic.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from guardproxy.telemetry import bounds, names
from guardproxy.telemetry.base import ExchangeSpan, Telemetry
from guardproxy.telemetry.instruments import Instruments
from guardproxy.types import Action, Decision, Exchange, Outcome, Side, Verdict

_logger = logging.getLogger(__name__)
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_HEADER_LIMIT = 512  # characters
_FAILED = frozenset({Outcome.TIMEOUT, Outcome.ERROR})
_ON_SPAN = {
    Side.REQUEST: (names.REQUEST_ACTION, names.REQUEST_RULES, names.REQUEST_WOULD),
    Side.RESPONSE: (names.RESPONSE_ACTION, names.RESPONSE_RULES, names.RESPONSE_WOULD),
}
_OPERATIONS = {
    "chat/completions": "chat",
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_ROUTES = (*_OPERATIONS, *(f"/v1/{route}" for route in (*_OPERATIONS, "models", "moderations")))

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


def _quiet(default: T) -> Callable[[Callable[Concatenate[S, P], T]], Callable[Concatenate[S, P], T]]:
    """Makes a method answer `default` instead of raising, and say so once."""

    def decorate(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
        said = False

        @functools.wraps(method)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal said
            try:
                return method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - processors and samplers are pluggable; traffic comes first
                if not said:
                    said = True
                    _logger.warning("telemetry: %s failed (%s)", method.__qualname__, type(error).__name__)
                return default

        return call

    return decorate


class _Headers(Getter[Mapping[str, str]]):
    """Reads a header's every occurrence, from aiohttp's multi-dict or from a plain mapping."""

    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        getall = getattr(carrier, "getall", None)
        values = getall(key, None) if getall else [carrier[key]] if key in carrier else None
        # Two parents are as good as none; tracestate may be spread over lines, and is short by specification.
        if not values or (key == "traceparent" and len(values) > 1) or sum(map(len, values)) > _HEADER_LIMIT:
            return None
        return list(values)

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


_HEADERS = _Headers()


class LiveTelemetry(Telemetry):
    """Traces, metrics or both. `close` sends what is left."""

    enabled = True

    def __init__(self, tracer: trace.Tracer | None, meter: metrics.Meter | None, close: Callable[[], None]) -> None:
        self.tracer = tracer
        self.instruments = Instruments(meter or metrics.NoOpMeter("guardproxy"))
        self.routes = bounds.Vocabulary(names.ROUTE_SERIES, _ROUTES)
        self.models = bounds.Vocabulary(names.MODEL_SERIES)
        self.codes, self.checks, self.backends, self.policies = (bounds.Vocabulary(names.CODE_SERIES) for _ in range(4))
        self.reasons = bounds.Vocabulary(names.CODE_SERIES, words=True)
        self._close: Callable[[], None] | None = close

    @_quiet(ExchangeSpan())
    def exchange(self, exchange: Exchange, headers: Mapping[str, str]) -> ExchangeSpan:
        # Baggage is left alone: nothing here reads it, the upstream gets the caller's own header, and the library's
        # parser takes time quadratic in a run of white space (75 ms for one header line of 8 KB).
        context = _TRACE_CONTEXT.extract(headers, Context(), _HEADERS) if self.tracer is not None else None
        return LiveExchange(self, exchange, context)

    def shutdown(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()


def _operation(route: str) -> str:
    return _OPERATIONS.get(route.removeprefix("/").removeprefix("v1/"), "")


def _bounded_names(values: Iterable[str], limit: int) -> list[str]:
    return [bounds.name(value) for _, value in zip(range(limit), values, strict=False)]


class LiveExchange(ExchangeSpan):
    """One exchange's span, its children, and the measurements taken on the way."""

    live = True

    __slots__ = (
        "_check_spans",
        "_client",
        "_common",
        "_context",
        "_ended",
        "_error",
        "_model",
        "_overhead",
        "_route",
        "_said",
        "_sent",
        "_span",
        "_started",
        "_status",
        "_stream",
        "_telemetry",
    )

    def __init__(self, telemetry: LiveTelemetry, exchange: Exchange, parent: Context | None) -> None:
        self._telemetry = telemetry
        self._route = telemetry.routes.admit(exchange.route)
        self._model, self._stream = exchange.model[:64], exchange.stream
        self._started = time.perf_counter()
        self._overhead, self._status, self._error, self._ended = 0.0, 0, "", False
        self._said: dict[Side, tuple[Action, dict[str, None], dict[str, None]]] = {}
        self._span: trace.Span = trace.INVALID_SPAN
        self._client: trace.Span = trace.INVALID_SPAN
        self._check_spans = 0
        self._sent: Mapping[str, str] | None = None
        self._common: dict[str, AttributeValue] = {names.HTTP_ROUTE: self._route}
        if operation := _operation(exchange.route):
            self._common[names.OPERATION] = operation
        if self._model:
            self._common[names.MODEL] = bounds.name(self._model)
        if telemetry.tracer is not None:
            self._start(telemetry.tracer, exchange, parent)
        telemetry.instruments.active.add(1, {names.HTTP_ROUTE: self._route})

    def _start(self, tracer: trace.Tracer, exchange: Exchange, parent: Context | None) -> None:
        attributes: dict[str, AttributeValue] = {
            **self._common,
            names.DECISION_ID: bounds.name(exchange.id),
            names.STREAM: exchange.stream,
        }
        if exchange.session:
            attributes[names.CONVERSATION] = bounds.name(exchange.session)
        self._span = tracer.start_span(
            f"exchange {self._route}", parent, kind=trace.SpanKind.SERVER, attributes=attributes
        )
        self._context = trace.set_span_in_context(self._span, Context())

    @_quiet(None)
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        if self._ended:
            return
        self._ended = True
        if kind is not None and not self._error:
            self._error = self._telemetry.codes.admit(kind.__name__)
        self._measure_end()
        if self._error:
            self._span.set_attribute(names.ERROR_TYPE, self._error)
        if self._status >= 500 or (kind is not None and issubclass(kind, Exception)):
            self._span.set_status(trace.StatusCode.ERROR)
        if self._client.is_recording():  # never answered
            self._client.set_attribute(names.ERROR_TYPE, self._error or names.OTHER)
            self._client.end()
        self._span.end()

    def _measure_end(self) -> None:
        instruments = self._telemetry.instruments
        route = {names.HTTP_ROUTE: self._route}
        attributes: dict[str, AttributeValue] = {**self._common, names.STREAM: self._stream}
        if self._model:
            attributes[names.MODEL] = self._telemetry.models.known(self._model)
        if self._status:
            attributes[names.HTTP_STATUS] = self._status
        if self._error:
            attributes[names.ERROR_TYPE] = self._error
        instruments.active.add(-1, route)
        instruments.exchange_duration.record(time.perf_counter() - self._started, attributes)
        instruments.overhead.record(self._overhead, {**route, names.STREAM: self._stream})

    @_quiet(_NO_HEADERS)
    def upstream_headers(self) -> Mapping[str, str]:
        if self._telemetry.tracer is None or self._ended:
            return _NO_HEADERS
        if self._sent is None:
            self._client = self._telemetry.tracer.start_span(
                f"upstream {self._route}", self._context, kind=trace.SpanKind.CLIENT, attributes=self._common
            )
            sent: dict[str, str] = {}
            _TRACE_CONTEXT.inject(sent, trace.set_span_in_context(self._client, self._context))
            self._sent = sent
        return self._sent

    @_quiet(None)
    def upstream(self, status: int, elapsed: float) -> None:
        attributes: dict[str, AttributeValue] = {names.HTTP_ROUTE: self._route, names.HTTP_STATUS: status}
        if self._model:
            # A name counts once an upstream has taken it, so that made-up ones cannot use up the room.
            models = self._telemetry.models
            attributes[names.MODEL] = models.admit(self._model) if status < 400 else models.known(self._model)
        self._telemetry.instruments.upstream.record(elapsed, attributes)
        if self._client.is_recording():
            self._client.set_attribute(names.HTTP_STATUS, status)
            if status >= 400:
                self._client.set_attribute(names.ERROR_TYPE, str(status))
                self._client.set_status(trace.StatusCode.ERROR)
            self._client.end()

    @_quiet(None)
    def verdict(self, side: Side, verdict: Verdict, windows: int) -> None:
        telemetry = self._telemetry
        check = telemetry.checks.admit(verdict.check)
        attributes: dict[str, AttributeValue] = {
            names.CHECK: check,
            names.SIDE: side.value,
            names.OUTCOME: verdict.outcome.value,
        }
        if verdict.backend:
            attributes[names.BACKEND] = telemetry.backends.admit(verdict.backend)
        if verdict.elapsed > 0:
            telemetry.instruments.check_duration.record(verdict.elapsed, attributes)
        reason = {names.REASON: telemetry.reasons.admit(verdict.reason)} if verdict.reason else {}
        telemetry.instruments.check_outcomes.add(1, {**attributes, **reason})
        if telemetry.tracer is not None and self._span.is_recording():
            self._check_span(telemetry.tracer, verdict, windows, attributes)

    def _check_span(
        self, tracer: trace.Tracer, verdict: Verdict, windows: int, attributes: dict[str, AttributeValue]
    ) -> None:
        self._check_spans += 1
        if self._check_spans > names.CHECK_SPANS:
            self._span.set_attribute(names.UNREPORTED, self._check_spans - names.CHECK_SPANS)
            return
        end = time.time_ns()
        begin = end - round(min(max(verdict.elapsed, 0.0), 3600.0) * 1e9)
        attributes[names.WINDOWS] = windows
        if verdict.reason:
            attributes[names.REASON] = bounds.reason(verdict.reason)
        scores = [*verdict.scores.values(), *(finding.score for finding in verdict.findings)]
        if scores and (score := bounds.probability(max(scores))) is not None:
            attributes[names.SCORE] = score
        if verdict.findings:
            counts = Counter(bounds.label(finding.label) for finding in verdict.findings)
            found = sorted(counts)[: names.LABEL_LIMIT]
            attributes[names.LABELS], attributes[names.COUNTS] = found, [counts[label] for label in found]
        span = tracer.start_span(
            f"check {attributes[names.CHECK]!s}", self._context, attributes=attributes, start_time=begin
        )
        if verdict.outcome in _FAILED:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end)

    @_quiet(None)
    def decision(self, side: Side, decision: Decision, elapsed: float) -> None:
        self._overhead += elapsed
        policy = self._telemetry.policies.admit(decision.policy)
        self._telemetry.instruments.decisions.add(
            1,
            {
                names.ACTION: decision.action.name.lower(),
                names.SIDE: side.value,
                names.HTTP_ROUTE: self._route,
                names.POLICY: policy,
            },
        )
        if not self._span.is_recording():
            return
        strictest, rules, would = self._said.setdefault(side, (Action.ALLOW, {}, {}))
        self._said[side] = (max(strictest, decision.action), rules, would)
        on_action, on_rules, on_would = _ON_SPAN[side]
        self._span.set_attribute(names.POLICY, policy)
        self._span.set_attribute(on_action, self._said[side][0].name.lower())
        for known, new, attribute in ((rules, decision.rules, on_rules), (would, decision.would, on_would)):
            if new:
                known.update(dict.fromkeys(_bounded_names(new, names.RULE_LIMIT - len(known))))
                self._span.set_attribute(attribute, list(known))

    @_quiet(None)
    def failure(self, code: str) -> None:
        self._error = self._telemetry.codes.admit(code)
        self._telemetry.instruments.failures.add(1, {names.ERROR_TYPE: self._error, names.HTTP_ROUTE: self._route})

    @_quiet(None)
    def first_token(self, added: float) -> None:
        self._telemetry.instruments.first_token.record(max(added, 0.0), {names.HTTP_ROUTE: self._route})
        self._span.set_attribute(names.FIRST_TOKEN_DELAY, max(added, 0.0))

    @_quiet(None)
    def finish(self, status: int) -> None:
        self._status = status
        self._span.set_attribute(names.HTTP_STATUS, status)
