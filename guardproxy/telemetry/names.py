"""Every name that leaves this process as telemetry, with its unit and meaning. No other module spells one out.

Names follow the OpenTelemetry semantic conventions where those have one (`http.*`, `error.*`, `gen_ai.*`) and stand
under `guardproxy.` where they do not. docs/telemetry.md holds `render()` of this registry, and a test keeps it so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

OTHER = "_OTHER"
"""What stands for a value outside the bounds that keep the number of series finite; the conventions' own word."""

HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"
OPERATION = "gen_ai.operation.name"
MODEL = "gen_ai.request.model"
STREAM = "gen_ai.request.stream"
CONVERSATION = "gen_ai.conversation.id"
DECISION_ID = "guardproxy.decision.id"
POLICY = "guardproxy.policy"
SIDE = "guardproxy.side"
ACTION = "guardproxy.action"
REQUEST_ACTION = "guardproxy.request.action"
REQUEST_RULES = "guardproxy.request.rules"
REQUEST_WOULD = "guardproxy.request.would"
RESPONSE_ACTION = "guardproxy.response.action"
RESPONSE_RULES = "guardproxy.response.rules"
RESPONSE_WOULD = "guardproxy.response.would"
UNREPORTED = "guardproxy.check.unreported"
FIRST_TOKEN_DELAY = "guardproxy.stream.first_token.delay"  # noqa: S105 - a language model's token
CHECK = "guardproxy.check.name"
OUTCOME = "guardproxy.check.outcome"
REASON = "guardproxy.check.reason"
BACKEND = "guardproxy.check.backend"
WINDOWS = "guardproxy.check.windows"
SCORE = "guardproxy.check.score"
LABELS = "guardproxy.finding.labels"
COUNTS = "guardproxy.finding.counts"

DECISIONS = "guardproxy.decisions"
CHECK_DURATION = "guardproxy.check.duration"
CHECK_OUTCOMES = "guardproxy.check.outcomes"
EXCHANGE_DURATION = "guardproxy.exchange.duration"
EXCHANGES_ACTIVE = "guardproxy.exchanges.active"
OVERHEAD = "guardproxy.overhead"
FAILURES = "guardproxy.failures"
UPSTREAM_DURATION = "guardproxy.upstream.duration"


class Instrument(StrEnum):
    """The kinds of metric in use."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up-down counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Attribute:
    """`kind` is the value's type; `bound` says what keeps its values few, or short, or both."""

    name: str
    kind: str
    bound: str
    note: str


@dataclass(frozen=True, slots=True)
class Metric:
    """`attributes` are all that a measurement may carry. `buckets`: advised upper bounds, in `unit`."""

    name: str
    instrument: Instrument
    unit: str  # UCUM
    note: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanName:
    """`name` is a template over attributes; `attributes` are all that the span may carry."""

    name: str
    kind: str
    note: str
    attributes: tuple[str, ...]


MODEL_SERIES, ROUTE_SERIES, CODE_SERIES = 100, 64, 64
"""How many distinct values a process tells apart."""

LABEL_LIMIT, RULE_LIMIT, CHECK_SPANS = 32, 32, 256
"""How long a span's lists may get, and how many check spans one exchange may have."""

ATTRIBUTES = (
    Attribute(
        HTTP_ROUTE, "string", f"{ROUTE_SERIES} values, else `{OTHER}`", "The route, e.g. `/v1/chat/completions`."
    ),
    Attribute(HTTP_STATUS, "int", "HTTP", "What the client was answered; on `upstream` what the upstream answered."),
    Attribute(
        ERROR_TYPE, "string", f"{CODE_SERIES} values, else `{OTHER}`", "The error code, or the exception's class name."
    ),
    Attribute(
        OPERATION, "string", "conventions", "`chat`, `text_completion` or `embeddings`; left out on other routes."
    ),
    Attribute(
        MODEL,
        "string",
        f"64 characters; in metrics {MODEL_SERIES} values, else `{OTHER}`",
        "The model asked for. Metrics tell a model apart once an upstream has accepted it.",
    ),
    Attribute(STREAM, "boolean", "2 values", "Whether the caller asked for a stream."),
    Attribute(
        CONVERSATION, "string", "64 characters; spans only", "The session that the exchange belongs to, where known."
    ),
    Attribute(
        DECISION_ID, "string", "64 characters; spans only", "The id in the caller's header and in the decision log."
    ),
    Attribute(POLICY, "string", f"{CODE_SERIES} values, else `{OTHER}`", "The policy that decided: name@version+hash."),
    Attribute(SIDE, "string", "2 values", "`request` or `response`."),
    Attribute(ACTION, "string", "3 values", "`allow`, `rewrite` or `block`."),
    Attribute(REQUEST_ACTION, "string", "3 values", "The strictest action on the request."),
    Attribute(REQUEST_RULES, "string[]", f"{RULE_LIMIT} ids", "The rules that applied to the request."),
    Attribute(
        REQUEST_WOULD,
        "string[]",
        f"{RULE_LIMIT} ids",
        "Shadow rules that would have applied to the request, as `rule:action`.",
    ),
    Attribute(RESPONSE_ACTION, "string", "3 values", "The strictest action on the response."),
    Attribute(RESPONSE_RULES, "string[]", f"{RULE_LIMIT} ids", "The rules that applied to the response."),
    Attribute(RESPONSE_WOULD, "string[]", f"{RULE_LIMIT} ids", "Shadow rules that would have applied to the response."),
    Attribute(
        UNREPORTED, "int", "-", f"Verdicts that got no span of their own, beyond {CHECK_SPANS}; metrics have them."
    ),
    Attribute(FIRST_TOKEN_DELAY, "double", "seconds", "What guarding added to the wait for the first delivered event."),
    Attribute(CHECK, "string", f"{CODE_SERIES} values, else `{OTHER}`", "The check, e.g. `pii`."),
    Attribute(OUTCOME, "string", "5 values", "`ok`, `degraded`, `abstained`, `timeout` or `error`."),
    Attribute(
        REASON,
        "string",
        f"80 characters; in metrics {CODE_SERIES} values, else `{OTHER}`",
        "Why the outcome is not `ok`.",
    ),
    Attribute(BACKEND, "string", f"{CODE_SERIES} values, else `{OTHER}`", "What answered: name@version."),
    Attribute(WINDOWS, "int", "-", "How many windows of text the check read."),
    Attribute(SCORE, "double", "0 to 1", "The highest score of any label."),
    Attribute(LABELS, "string[]", f"{LABEL_LIMIT} labels", "The labels found, sorted."),
    Attribute(COUNTS, "int[]", f"{LABEL_LIMIT} numbers", f"How often each was found, in the order of `{LABELS}`."),
)

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

METRICS = (
    Metric(
        DECISIONS,
        Instrument.COUNTER,
        "{decision}",
        "Decisions made; a stream makes one for every group of windows.",
        (ACTION, SIDE, HTTP_ROUTE, POLICY),
    ),
    Metric(
        CHECK_DURATION, Instrument.HISTOGRAM, "s", "How long a check took.", (CHECK, SIDE, OUTCOME, BACKEND), _SECONDS
    ),
    Metric(
        CHECK_OUTCOMES,
        Instrument.COUNTER,
        "{verdict}",
        "Verdicts by how they came about.",
        (CHECK, SIDE, OUTCOME, REASON, BACKEND),
    ),
    Metric(
        EXCHANGE_DURATION,
        Instrument.HISTOGRAM,
        "s",
        "From a request's arrival to the end of its response.",
        (HTTP_ROUTE, HTTP_STATUS, ERROR_TYPE, OPERATION, MODEL, STREAM),
        _LONG_SECONDS,
    ),
    Metric(EXCHANGES_ACTIVE, Instrument.UP_DOWN_COUNTER, "{exchange}", "Exchanges under way.", (HTTP_ROUTE,)),
    Metric(
        OVERHEAD,
        Instrument.HISTOGRAM,
        "s",
        "Time that the guard spent on one exchange: all its decisions, checks included.",
        (HTTP_ROUTE, STREAM),
        _SECONDS,
    ),
    Metric(FAILURES, Instrument.COUNTER, "{failure}", "Failures by error code.", (ERROR_TYPE, HTTP_ROUTE)),
    Metric(
        UPSTREAM_DURATION,
        Instrument.HISTOGRAM,
        "s",
        "How long the upstream took, as the server measured it.",
        (HTTP_ROUTE, HTTP_STATUS, MODEL),
        _LONG_SECONDS,
    ),
    Metric(
        FIRST_TOKEN_DELAY,
        Instrument.HISTOGRAM,
        "s",
        "What guarding added to the wait for the first delivered event.",
        (HTTP_ROUTE,),
        _SECONDS,
    ),
)

SPAN_EXCHANGE = SpanName(
    f"exchange {{{HTTP_ROUTE}}}",
    "server",
    "One request and its response. Its parent is the caller's span, by W3C trace context.",
    (
        HTTP_ROUTE,
        HTTP_STATUS,
        ERROR_TYPE,
        OPERATION,
        MODEL,
        STREAM,
        CONVERSATION,
        DECISION_ID,
        POLICY,
        REQUEST_ACTION,
        REQUEST_RULES,
        REQUEST_WOULD,
        RESPONSE_ACTION,
        RESPONSE_RULES,
        RESPONSE_WOULD,
        FIRST_TOKEN_DELAY,
        UNREPORTED,
    ),
)
SPAN_CHECK = SpanName(
    f"check {{{CHECK}}}",
    "internal",
    "One verdict: one check on one or more windows. Outcomes `timeout` and `error` set the span's status.",
    (CHECK, SIDE, OUTCOME, REASON, BACKEND, WINDOWS, SCORE, LABELS, COUNTS),
)
SPAN_UPSTREAM = SpanName(
    f"upstream {{{HTTP_ROUTE}}}",
    "client",
    "The call upstream, whose trace context the upstream is sent.",
    (HTTP_ROUTE, HTTP_STATUS, ERROR_TYPE, OPERATION, MODEL),
)
SPANS = (SPAN_EXCHANGE, SPAN_CHECK, SPAN_UPSTREAM)


def attribute_names() -> frozenset[str]:
    """Every attribute name that the registry documents."""
    return frozenset(attribute.name for attribute in ATTRIBUTES)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def render() -> str:
    """The registry as the signal tables of docs/telemetry.md, in Markdown."""
    lines = ["## Spans", ""]
    lines += _table(
        ("span", "kind", "meaning", "attributes"),
        ((f"`{span.name}`", span.kind, span.note, _codes(span.attributes)) for span in SPANS),
    )
    lines += ["## Metrics", ""]
    lines += _table(
        ("metric", "instrument", "unit", "meaning", "attributes"),
        ((f"`{m.name}`", m.instrument, f"`{m.unit}`", m.note, _codes(m.attributes)) for m in METRICS),
    )
    lines += ["## Attributes", ""]
    lines += _table(
        ("attribute", "type", "bound", "meaning"),
        ((f"`{a.name}`", a.kind, a.bound, a.note) for a in ATTRIBUTES),
    )
    return "\n".join(lines)
