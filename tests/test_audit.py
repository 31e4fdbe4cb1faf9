"""What the decision log writes, what it never writes, and that trouble with it stays its own."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy import audit
from guardproxy.audit import DecisionLog, find
from guardproxy.cli import decisions
from guardproxy.errors import ConfigError
from guardproxy.types import Action, Decision, Edit, Escalation, Exchange, Finding, Outcome, Side, Verdict

EXCHANGE = Exchange("gp-1", "/v1/chat/completions", "gpt-4o", stream=True)
ALLOW = Decision(Action.ALLOW, "base@1+abc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


@pytest.fixture
def log(path: Path) -> Iterator[DecisionLog]:
    made = DecisionLog.open(str(path))
    yield made
    made.close()


def allow(log: DecisionLog, id_: str = "gp-1", **more: Any) -> None:
    log.record(Exchange(id_, "/r"), Side.REQUEST, ALLOW, [], degraded=False, **more)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ids(path: Path) -> list[str]:
    return [record["id"] for record in written(path)]


def test_a_whole_record(log: DecisionLog, path: Path) -> None:
    found = (Finding("EMAIL_ADDRESS", 0, 9, 1.0), Finding("EMAIL_ADDRESS", 10, 19, 0.9), Finding("IBAN", 20, 40, 0.8))
    verdicts = [
        Verdict("pii", findings=found, backend="rules@1"),
        Verdict("pii", findings=found[:1], backend="rules@1"),
        Verdict("toxicity", Outcome.DEGRADED, scores={"insult": 0.123456}, backend="onnx@2", reason="vllm: timeout"),
        Verdict("toxicity", Outcome.DEGRADED, scores={"insult": 0.9}, backend="onnx@2", reason="vllm: timeout"),
        Verdict("injection", Outcome.ERROR, reason="unavailable"),
    ]
    edits = (
        Edit(("a",), 0, 9, "x", method="mask", label="EMAIL_ADDRESS"),
        Edit(("a",), 10, 19, "x", method="mask", label="EMAIL_ADDRESS"),
        Edit(("a",), 20, 40, "x", method="hash", label="IBAN"),
    )
    wish = Escalation("ask", "large", Action.BLOCK, "question", "text")
    decision = Decision(Action.REWRITE, "base@1+abc", ("mask-pii", "ask"), edits, (wish, wish), ("tox:block",))
    log.record(
        EXCHANGE, Side.RESPONSE, decision, verdicts, degraded=True, note="cut short", answers={"ask": "violates 0.93"}
    )
    (record,) = written(path)
    when = datetime.fromisoformat(record.pop("time"))
    assert when.utcoffset() is not None
    assert abs(when.timestamp() - datetime.now().timestamp()) < 60  # noqa: DTZ005
    assert record == {
        "id": "gp-1",
        "side": "response",
        "route": "/v1/chat/completions",
        "model": "gpt-4o",
        "stream": True,
        "action": "rewrite",
        "policy": "base@1+abc",
        "rules": ["mask-pii", "ask"],
        "degraded": True,
        "would": ["tox:block"],
        "edits": [
            {"method": "hash", "label": "IBAN", "count": 1},
            {"method": "mask", "label": "EMAIL_ADDRESS", "count": 2},
        ],
        "escalations": [{"rule": "ask", "judge": "large", "answer": "violates 0.93"}],
        "checks": [
            {
                "check": "pii",
                "outcome": "ok",
                "windows": 2,
                "backend": "rules@1",
                "labels": {"EMAIL_ADDRESS": 3, "IBAN": 1},
            },
            {
                "check": "toxicity",
                "outcome": "degraded",
                "windows": 2,
                "reason": "vllm: timeout",
                "backend": "onnx@2",
                "scores": {"insult": 0.9},
            },
            {"check": "injection", "outcome": "error", "reason": "unavailable"},
        ],
        "note": "cut short",
    }


def test_time_is_rfc_3339_in_utc_to_the_microsecond(log: DecisionLog, path: Path) -> None:
    allow(log)
    (record,) = written(path)
    assert len(record["time"]) == len("2026-01-01T00:00:00.000000Z")
    assert record["time"][10] == "T"
    assert record["time"].endswith("Z")


def test_what_is_empty_is_left_out(log: DecisionLog, path: Path) -> None:
    allow(log)
    assert set(written(path)[0]) == {
        "time", "id", "side", "route", "model", "stream", "action", "policy", "rules", "degraded",
    }  # fmt: skip


def test_no_content_is_written(log: DecisionLog, path: Path) -> None:
    marker = "zanzibar"
    edit = Edit((marker, 0), 0, 8, f"[{marker}]", method="pseudonym", label="PERSON")
    wish = Escalation("rule", "judge", Action.ALLOW, f"is {marker} there", marker)
    verdict = Verdict("pii", Outcome.ERROR, reason=f"KeyError('{marker}')")
    exchange = Exchange("gp-1", "/r", f"please say {marker}", tenant=marker, session=marker)
    log.record(exchange, Side.REQUEST, Decision(Action.BLOCK, "p", ("r",), (edit,), (wish,)), [verdict], degraded=False)
    assert marker not in path.read_text(encoding="utf-8")
    assert written(path)[0]["model"] == "_OTHER"


@given(
    st.builds(Exchange, st.text(max_size=300), st.text(max_size=300), st.text(max_size=300)),
    st.lists(st.text(max_size=200), max_size=5),
    st.lists(
        st.builds(
            Verdict, st.text(), reason=st.text(), backend=st.text(), scores=st.dictionaries(st.text(), st.floats())
        )
    ),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_names_one_record_is_one_ascii_line(
    exchange: Exchange, rules: list[str], verdicts: list[Verdict]
) -> None:
    decision = Decision(Action.BLOCK, "p", tuple(rules), would=tuple(rules))
    line = audit._encode(audit.describe(exchange, Side.REQUEST, decision, verdicts, False, "\r\n\u2028", {}))
    assert line.isascii()
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["rules"] == [rule[: audit.LONGEST] for rule in rules]


def test_records_are_bounded(log: DecisionLog, path: Path) -> None:
    many = tuple(f"{number}" + "x" * 1000 for number in range(1000))
    edits = tuple(Edit((), 0, 1, "", label=label) for label in many)
    wishes = tuple(Escalation(rule, "j", Action.ALLOW, "q", "t") for rule in many)
    verdicts = [Verdict(name, findings=(Finding(name, 0, 1, 1.0),), scores={name: 1.0}) for name in many]
    exchange = Exchange("i" * 1000, "r" * 1000, "m" * 1000)
    decision = Decision(Action.ALLOW, "p" * 1000, many, edits, wishes, many)
    log.record(exchange, Side.REQUEST, decision, verdicts, degraded=True)
    assert path.stat().st_size < 130_000
    assert find(path, "i" * 1000)[0]["id"] == "i" * audit.LONGEST


def test_the_file_is_for_its_owner_alone_and_is_appended_to(path: Path) -> None:
    for number in range(2):
        log = DecisionLog.open(str(path))
        allow(log, f"gp-{number}")
        log.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ids(path) == ["gp-0", "gp-1"]


def test_off_writes_nothing() -> None:
    log = DecisionLog.open("")
    assert not log.enabled
    allow(log)
    log.reopen()
    log.close()


def test_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    log = DecisionLog.open("-")
    allow(log)
    log.reopen()
    log.close()
    assert json.loads(capfd.readouterr().err)["id"] == "gp-1"
    os.fstat(2)  # still open


@pytest.mark.parametrize("target", ["/nowhere/at/all.jsonl", "/", "nul\0"])
def test_a_log_that_cannot_be_opened_is_said_at_the_start(target: str) -> None:
    with pytest.raises(ConfigError, match="decision log"):
        DecisionLog.open(target)


def test_several_processes_share_a_file(path: Path) -> None:
    code = (
        "import sys\n"
        "from guardproxy.audit import DecisionLog\n"
        "from guardproxy.types import *\n"
        "log = DecisionLog.open(sys.argv[1])\n"
        "for n in range(300):\n"
        "    rules = tuple(['x' * 120] * (n % 60))\n"
        "    decision = Decision(Action.ALLOW, 'p', rules)\n"
        "    log.record(Exchange(sys.argv[2], '/r'), Side.REQUEST, decision, [], degraded=False)\n"
    )
    root = Path(audit.__file__).parents[1]
    workers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(number)], cwd=root) for number in range(3)]
    assert [worker.wait(30) for worker in workers] == [0, 0, 0]
    assert sorted(ids(path)) == ["0"] * 300 + ["1"] * 300 + ["2"] * 300


def test_reopen_after_a_rename(log: DecisionLog, path: Path) -> None:
    allow(log, "old")
    path.rename(path.with_suffix(".1"))
    log.reopen()
    allow(log, "new")
    assert ids(path.with_suffix(".1")) == ["old"]
    assert ids(path) == ["new"]


@pytest.mark.parametrize("gone", [True, False])
def test_rotation_is_noticed_without_a_signal(
    log: DecisionLog, path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr(audit, "RETRY", 0.0)
    allow(log, "old")
    path.rename(path.with_suffix(".1"))
    if not gone:
        path.touch()
    allow(log, "new")
    assert ids(path) == ["new"]


def test_a_failed_reopen_keeps_the_old_file_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "RETRY", 0.0)
    folder = tmp_path / "logs"
    folder.mkdir()
    log = DecisionLog.open(str(folder / "d.jsonl"))
    folder.rename(tmp_path / "moved")
    for number in range(5):
        allow(log, str(number))
    assert ids(tmp_path / "moved" / "d.jsonl") == ["0", "1", "2", "3", "4"]
    assert len(caplog.records) == 1
    folder.mkdir()
    allow(log, "5")
    assert ids(folder / "d.jsonl") == ["5"]
    log.close()


class Disk:
    """Stands in for os.write: full for as long as `full`, or taking only so many bytes of a line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full, self.room, self.calls = False, -1, 0
        self._write = os.write
        monkeypatch.setattr(audit.os, "write", self)

    def __call__(self, descriptor: int, data: bytes) -> int:
        self.calls += 1
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.room >= 0:
            data, self.room = data[: self.room], -1
        return self._write(descriptor, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_full_disk_delays_records_and_is_said_once(
    log: DecisionLog, path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allow(log, "before")
    disk.full = True
    for number in range(10):
        allow(log, str(number))
    assert ids(path) == ["before"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert disk.calls == 2  # not tried again for every record
    disk.full = False
    monkeypatch.setattr(audit, "RETRY", 0.0)
    log._retry_at = 0.0
    allow(log, "after")
    assert ids(path) == ["before", *map(str, range(10)), "after"]
    assert log.lost == 0
    assert "writing again" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 2


def test_the_backlog_is_bounded_and_what_is_lost_is_counted(
    log: DecisionLog, path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BACKLOG", 3)
    disk.full = True
    for number in range(10):
        allow(log, str(number))
    assert log.lost == 7
    disk.full = False
    log.close()
    assert ids(path) == ["7", "8", "9"]
    assert log.lost == 7


def test_what_waits_at_the_end_is_counted_as_lost(log: DecisionLog, disk: Disk) -> None:
    disk.full = True
    allow(log)
    log.close()
    assert log.lost == 1
    allow(log)  # a late record after closing is no error


def test_a_line_cut_short_is_written_again_and_does_not_spoil_the_next(
    log: DecisionLog, path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RETRY", 0.0)
    disk.room = 40
    allow(log, "first")
    allow(log, "second")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert [json.loads(line)["id"] for line in lines[1:]] == ["first", "second"]
    assert len(find(path, "first")) == 1


def test_a_pipe_closed_or_full_does_not_stop_traffic(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError):  # nobody reads: said at once, not waited for
        DecisionLog.open(str(pipe))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = DecisionLog.open(str(pipe))
    for number in range(2000):
        allow(log, str(number))
    os.close(reader)
    allow(log, "nobody reads")
    log.close()
    assert log.lost > 0


def test_a_record_of_nonsense_is_counted_and_said_once(
    log: DecisionLog, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nonsense: Any = [Verdict("pii", findings=(Finding(object(), 0, 1, 1.0),))]  # type: ignore[arg-type]
    for _ in range(3):
        log.record(EXCHANGE, Side.REQUEST, ALLOW, nonsense, degraded=False)
    allow(log)
    assert log.lost == 3
    assert ids(path) == ["gp-1"]
    assert len(caplog.records) == 1


def test_find_takes_the_records_of_one_id_and_passes_over_the_rest(log: DecisionLog, path: Path) -> None:
    allow(log, "a")
    allow(log, "b", note="a")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id":"a"\n[1,"a"]\n' + "[" * 100_000 + '"a"\n\xff"a"\n')
    allow(log, "a", note="again")
    assert [record.get("note") for record in find(path, "a")] == [None, "again"]
    assert find(path, "nothing") == []


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    decisions.add_arguments(parser)
    return parser.parse_args(words)


def test_the_command_shows_a_decision(log: DecisionLog, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = Verdict("pii", findings=(Finding("IBAN", 0, 1, 1.0),), backend="rules@1")
    wish = Escalation("ask", "large", Action.BLOCK, "q", "t")
    decision = Decision(Action.BLOCK, "base@1+abc", ("no-iban",), escalations=(wish,))
    log.record(EXCHANGE, Side.REQUEST, decision, [verdict], degraded=False, answers={"ask": "violates"})
    assert decisions.run(arguments("show", "gp-1", "--log", str(path))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("  request  block")
    assert lines[1:] == [
        "  id: gp-1",
        "  route: /v1/chat/completions",
        "  model: gpt-4o",
        "  stream: True",
        "  policy: base@1+abc",
        "  rules: no-iban",
        "  escalation: rule ask, judge large, answer violates",
        "  check: pii, ok, backend rules@1, labels IBAN=1",
    ]
    assert decisions.run(arguments("show", "gp-1", "--log", str(path), "--json")) == 0
    assert json.loads(capsys.readouterr().out) == find(path, "gp-1")[0]


def test_the_command_says_when_there_is_nothing(
    log: DecisionLog, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert decisions.run(arguments("show", "gp-9", "--log", str(path))) == 1
    assert "No record" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="No such file"):
        decisions.run(arguments("show", "gp-9", "--log", str(path) + ".none"))


def test_a_log_cannot_drive_the_terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        '{"id":"a","no\\u001b[2Jte":"\\u001b]0;x\\u0007","checks":[{"check":"\\u009b"},7]}\n', encoding="utf-8"
    )
    assert decisions.run(arguments("show", "a", "--log", str(path))) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert "?[2Jte" in out
