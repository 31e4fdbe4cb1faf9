"""`guardproxy bench` as a user types it, against pretend upstreams."""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guardproxy.cli import bench
from guardproxy.errors import ConfigError
from guardproxy.testing import Upstream, faults
from guardproxy.testing.sending import Received

QUICK = ["--requests", "3", "--rounds", "2", "--concurrency", "1"]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


@contextmanager
def serving(upstream: Upstream) -> Iterator[str]:
    """Runs an upstream on a thread of its own, since the command runs a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(upstream.start(), loop).result(5)
        yield upstream.url
        asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "figures.json"
    direct, proxy = Upstream(), Upstream()
    with serving(direct) as one, serving(proxy) as two:
        status = bench.run(parse("--direct", one, "--proxy", two + "/", *QUICK, "--stream", "--json", str(target)))
    shown = capsys.readouterr()
    assert status == 0
    assert "first token p50 ms" in shown.out
    assert "direct: 6 answered" in shown.out
    assert "round 2 of 2: proxy" in shown.err
    figures = json.loads(target.read_text())
    assert figures["setting"] == {
        "direct": one,
        "proxy": two,
        "pace": "1 requests at a time",
        "stream": True,
        "requests": 3,
        "prompt_bytes": 700,
    }
    assert figures["sound"] is True
    assert len(figures["rounds"]) == 2
    assert len(direct.requests) == len(proxy.requests) == 3 + 2 * 3


def test_json_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Upstream()) as url:
        assert bench.run(parse("--direct", url, "--proxy", url, *QUICK, "--json", "-")) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True


def test_failures_show_and_set_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Upstream()
    broken.reply(faults.status(503))
    with serving(Upstream()) as direct, serving(broken) as proxy:
        assert bench.run(parse("--direct", direct, "--proxy", proxy, *QUICK)) == 1
    shown = capsys.readouterr().out
    assert "proxy: 0 answered, 6 failed (HTTP 503)" in shown
    assert "did not do the same work" in shown


def test_the_key_goes_to_both_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_TEST_TOKEN", "pretend-secret")
    upstream = Upstream()
    with serving(upstream) as url:
        bench.run(parse("--direct", url, "--proxy", url, *QUICK, "--api-key-env", "BENCH_TEST_TOKEN"))
    seen: list[Received] = upstream.requests
    assert {each.headers["Authorization"] for each in seen} == {"Bearer pretend-secret"}
    shown = capsys.readouterr()
    assert "pretend-secret" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--direct", "https://api.openai.com/v1"], "real tokens .* --yes"),
        (["--direct", "http://127.0.0.1:1/v1", "--proxy", "http://10.0.0.1/v1"], "--proxy is not on this machine"),
        (["--direct", "http://127.0.0.1.example.com/v1"], "--direct is not on this machine"),
        (["--direct", "http://localhost@example.com/v1"], "--direct is not on this machine"),
        (["--direct", "http://0.0.0.0/v1"], "--direct is not on this machine"),
        (["--direct", "localhost:8000/v1"], "expected a base URL"),
        (["--direct", "http://[::1"], "expected a base URL"),
        (["--proxy", "http://127.0.0.1:1/v1"], "needs --direct"),
        (["--api-key-env", "BENCH_TEST_UNSET"], "BENCH_TEST_UNSET is not set"),
        (["--direct", "http://localhost/v1", "--proxy", "http://localhost/v1", "--policy", "x"], "its own"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        bench.run(parse(*arguments))


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost:9", "[::1]:9", "127.8.8.8"])
def test_this_machine(host: str) -> None:
    assert bench._loopback("--direct", f"http://{host}/v1")


@pytest.mark.parametrize(
    "arguments",
    [["--requests", "0"], ["--rate", "nan"], ["--rate", "1", "--concurrency", "1"], ["--rounds", "x"]],
)
def test_what_cannot_be_meant(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*arguments)


def test_defaults() -> None:
    assert bench._load(parse()).rate == 40
    assert bench._load(parse("--stream")).rate == 10
    load = bench._load(parse("--concurrency", "4"))
    assert (load.rate, load.concurrency) == (0, 4)
