"""The decision log: one JSON line for every decision, and never a character of content.

Names, counts and scores are written; texts, offsets, replacements and questions are not. A line leaves in one write
call to a file opened for appending, so that several workers share it. A log that cannot be written never stops traffic:
lines wait in a bounded backlog, what does not fit is counted, and both the trouble and its end are said once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from guardproxy.errors import ConfigError
from guardproxy.telemetry import bounds
from guardproxy.types import Decision, Exchange, Side, Verdict

_logger = logging.getLogger(__name__)
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":")).encode
_NO_ANSWERS: Mapping[str, str] = {}

BACKLOG = 1000  # lines kept while the log cannot be written
RETRY = 1.0  # seconds between attempts while it cannot be, and between looks whether the file was rotated
LONGEST = 128  # characters of any one name
MOST = 100  # entries of any one list
_STDERR = 2
# Non-blocking: opening a pipe nobody reads must not hang the start, nor a full one a request. Files do not care.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)


class DecisionLog:
    """Where decisions are recorded. To be used from one thread; every worker process opens its own.

    `lost` counts the records that never reached the log; those still in the backlog are not among them.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path, self.lost = path, 0
        self._descriptor = descriptor
        self._backlog: deque[bytes] = deque()
        self._ailing = self._torn = self._astray = self._spoilt = False
        self._retry_at = self._look_at = 0.0

    @classmethod
    def open(cls, target: str) -> Self:
        """`target`: "" for no log, "-" for standard error, else a file, made with mode 0600. Raises ConfigError."""
        if target in {"", "-"}:
            return cls("", _STDERR if target else None)
        try:
            return cls(target, os.open(target, _FLAGS, 0o600))
        except (OSError, ValueError) as error:
            raise ConfigError(f"decision log {target!r}: {_reason(error)}") from None

    @property
    def enabled(self) -> bool:
        """Whether anything is recorded at all."""
        return self._descriptor is not None

    def record(
        self,
        exchange: Exchange,
        side: Side,
        decision: Decision,
        verdicts: Iterable[Verdict],
        *,
        degraded: bool,
        note: str = "",
        answers: Mapping[str, str] = _NO_ANSWERS,
    ) -> None:
        """Writes one line. `answers`: what judges said, by rule id, in a word or two. Never raises."""
        if self._descriptor is None:
            return
        try:
            line = (
                _encode(describe(exchange, side, decision, verdicts, degraded, note, answers)).encode("ascii") + b"\n"
            )
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            self.lost += 1
            if not self._spoilt:
                self._spoilt = True
                _logger.warning("decision log: a record cannot be written as JSON (%s)", type(error).__name__)
            return
        self._send(line)

    def reopen(self) -> None:
        """Opens the file anew, after a rotation. If that fails the old one stays in use. Never raises."""
        if not self.path or self._descriptor is None:
            return
        try:
            fresh = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            if not self._astray:
                self._astray = True
                _logger.warning("decision log: cannot be opened anew (%s); the old file stays in use", _reason(error))
            return
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._descriptor, self._torn, self._astray, self._retry_at = fresh, False, False, 0.0

    def close(self) -> None:
        """Tries once more to write what waits, and closes the file."""
        if self._descriptor is None:
            return
        self._drain()
        self.lost += len(self._backlog)
        self._backlog.clear()
        if self.path:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    def _send(self, line: bytes) -> None:
        now = time.monotonic()
        if self.path and now >= self._look_at:
            self._look_at = now + RETRY
            self._follow()
        if not self._ailing and self._write(line):
            return
        if len(self._backlog) >= BACKLOG:
            self._backlog.popleft()
            self.lost += 1
        self._backlog.append(line)
        if self._ailing and now >= self._retry_at:
            self._retry_at = now + RETRY
            self._drain()

    def _drain(self) -> None:
        while self._backlog:
            if not self._write(self._backlog[0]):
                return
            self._backlog.popleft()
        if self._ailing:
            self._ailing = False
            _logger.warning("decision log: writing again; %d records lost so far", self.lost)

    def _write(self, line: bytes) -> bool:
        """One write call. A line that was cut short is ended by the next one's first byte, and written again whole."""
        assert self._descriptor is not None
        data = b"\n" + line if self._torn else line
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self._trouble(_reason(error))
            return False
        if written == len(data):
            self._torn = False
            return True
        self._torn = self._torn or written > 0
        self._trouble("a line was cut short")
        return False

    def _follow(self) -> None:
        """Opens the file anew if its name stands for another one by now."""
        assert self._descriptor is not None
        try:
            held, named = os.fstat(self._descriptor), os.stat(self.path)  # noqa: PTH116 - no object for every look
            same = (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)
        except OSError:
            same = False
        if not same:
            self.reopen()

    def _trouble(self, what: str) -> None:
        if not self._ailing:
            self._ailing = True
            self._retry_at = time.monotonic() + RETRY
            _logger.error("decision log: %s; records wait, up to %d of them, and traffic goes on", what, BACKLOG)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _name(value: str) -> str:
    return value[:LONGEST]


def describe(
    exchange: Exchange,
    side: Side,
    decision: Decision,
    verdicts: Iterable[Verdict],
    degraded: bool,
    note: str,
    answers: Mapping[str, str],
) -> dict[str, Any]:
    """The record of one decision, as it is written. Members that would be empty are left out, but for `rules`."""
    record: dict[str, Any] = {
        "time": _now(),
        "id": _name(exchange.id),
        "side": side.value,
        "route": _name(exchange.route),
        "model": bounds.name(exchange.model, LONGEST) if exchange.model else "",
        "stream": exchange.stream,
        "action": decision.action.name.lower(),
        "policy": _name(decision.policy),
        "rules": [_name(rule) for rule in decision.rules[:MOST]],
        "degraded": degraded,
    }
    if decision.would:
        record["would"] = [_name(rule) for rule in decision.would[:MOST]]
    if decision.edits:
        record["edits"] = _edits(decision)
    if decision.escalations:
        record["escalations"] = _escalations(decision, answers)
    if checks := _checks(verdicts):
        record["checks"] = checks
    if note:
        record["note"] = _name(note)
    return record


def _edits(decision: Decision) -> list[dict[str, Any]]:
    counts = Counter((edit.method, edit.label) for edit in decision.edits)
    rows = sorted(counts.items())[:MOST]
    return [{"method": _name(method), "label": _name(label), "count": count} for (method, label), count in rows]


def _escalations(decision: Decision, answers: Mapping[str, str]) -> list[dict[str, str]]:
    # Several windows may have wished for the same judge; one entry says it.
    wishes = dict.fromkeys((wish.rule, wish.judge) for wish in decision.escalations)
    rows = [{"rule": _name(rule), "judge": _name(judge)} for rule, judge in list(wishes)[:MOST]]
    for (rule, _), row in zip(wishes, rows, strict=False):
        if answer := answers.get(rule):
            row["answer"] = _name(answer)
    return rows


@dataclass(slots=True)
class _Tally:
    """What the verdicts of one kind have in common, over the windows of a decision."""

    windows: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def _checks(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    tallies: dict[tuple[str, str, str, str], _Tally] = {}
    for verdict in verdicts:
        key = (verdict.check, verdict.outcome.value, verdict.reason, verdict.backend)
        tally = tallies.get(key)
        if tally is None:
            tally = tallies[key] = _Tally()
        tally.windows += 1
        for finding in verdict.findings:
            tally.labels[finding.label] = tally.labels.get(finding.label, 0) + 1
        for label, score in verdict.scores.items():
            if math.isfinite(score):
                tally.scores[label] = max(score, tally.scores.get(label, 0.0))
    return [_row(key, tally) for key, tally in list(tallies.items())[:MOST]]


def _row(key: tuple[str, str, str, str], tally: _Tally) -> dict[str, Any]:
    check, outcome, reason, backend = key
    row: dict[str, Any] = {"check": _name(check), "outcome": outcome}
    if tally.windows != 1:
        row["windows"] = tally.windows
    if reason:
        row["reason"] = bounds.reason(reason)
    if backend:
        row["backend"] = _name(backend)
    if tally.labels:
        row["labels"] = {_name(label): count for label, count in sorted(tally.labels.items())[:MOST]}
    if tally.scores:
        row["scores"] = {_name(label): round(score, 4) for label, score in sorted(tally.scores.items())[:MOST]}
    return row


def find(path: str | Path, decision_id: str) -> list[dict[str, Any]]:
    """The records of one decision id, in the order in which they were written; torn lines are passed over.

    Raises OSError if the file cannot be read.
    """
    wanted = _encode(decision_id[:LONGEST]).encode("ascii")
    with Path(path).open("rb") as lines:
        records = (_parse(line) for line in lines if wanted in line)
        return [record for record in records if record is not None and record.get("id") == decision_id[:LONGEST]]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
