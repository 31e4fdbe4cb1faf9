"""Starting, health, draining and several workers."""

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from guardproxy.testing import Delivery, Upstream


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def get(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json()


async def test_health_is_asked_on_its_own_port(start: Any) -> None:
    setup = await start()
    assert await get(f"{setup.proxy.admin}/healthz") == (200, {"status": "alive"})
    status, detail = await get(f"{setup.proxy.admin}/readyz")
    assert (status, detail["status"]) == (200, "ready")
    assert detail["policy"].startswith("test@1+")
    async with aiohttp.ClientSession() as session, session.get(setup.proxy.url.removesuffix("/v1") + "/healthz") as r:
        assert r.status == 403


async def test_a_running_stream_finishes_while_the_proxy_stops(start: Any, say: Any) -> None:
    setup = await start(shutdown_timeout="10s")
    text = "Slowly but surely it goes on. " * 10
    setup.upstream.reply(text, delivery=Delivery(split=10, pause=0.02))
    stream = await setup.client.chat.completions.create(model="m", messages=say("hi"), stream=True)
    got = (await anext(aiter(stream))).choices[0].delta.content or ""
    stopping = asyncio.create_task(setup.proxy.stop())
    got += "".join([c.delta.content or "" async for e in stream for c in e.choices])
    await stopping
    assert got == text


async def test_a_stream_that_goes_on_too_long_is_ended(start: Any, say: Any) -> None:
    setup = await start(shutdown_timeout="300ms")
    setup.upstream.reply("word " * 1000, delivery=Delivery(split=10, pause=0.05))
    stream = await setup.client.chat.completions.create(model="m", messages=say("hi"), stream=True)
    await anext(aiter(stream))
    started = time.monotonic()
    await setup.proxy.stop()
    assert time.monotonic() - started < 5
    await setup.upstream.wait_for(lambda upstream: upstream.disconnects == 1)


class Process:
    """`guardproxy serve` as a user starts it."""

    def __init__(self, upstream: str, *flags: str, environ: dict[str, str] | None = None) -> None:
        self.port, self.admin = free_port(), free_port()
        command = [sys.executable, "-m", "guardproxy.cli.main", "serve", "--upstream", upstream, "--backend", "rules"]
        command += ["--port", str(self.port), "--admin-port", str(self.admin), *flags]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})}, start_new_session=True
        )

    def ready(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=1).read()
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        raise AssertionError("not ready: " + str(self.end()))

    def ask(self, text: str) -> tuple[int, Any]:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", body)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def end(self) -> str:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, stderr = self.process.communicate(timeout=20)
        return stderr

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


async def test_the_command_serves_and_stops(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    async with Upstream() as upstream:
        proxy = Process(upstream.url, "--decision-log", str(log))
        try:
            await asyncio.to_thread(proxy.ready)
            status, document = await asyncio.to_thread(proxy.ask, "hello")
            assert (status, document["object"]) == (200, "chat.completion")
            status, _ = await asyncio.to_thread(proxy.ask, "my mail is ann@" + "example.org")
            assert status == 200
        finally:
            stderr = await asyncio.to_thread(proxy.end)
    assert proxy.process.returncode == 0
    assert "guarding" in stderr
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(record["action"] == "rewrite" and record["side"] == "request" for record in records)
    assert "ann@" not in log.read_text() + stderr
    assert log.stat().st_mode & 0o777 == 0o600


class Collector:
    """An OTLP endpoint that keeps what it is sent."""

    def __init__(self) -> None:
        self.got: dict[str, bytes] = {}

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.got[request.path] = self.got.get(request.path, b"") + body
        return web.Response(content_type="application/x-protobuf")


async def test_telemetry_goes_out_with_the_trace_and_without_content() -> None:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/{path:.*}", collector.take)
    server = web.AppRunner(app, access_log=None)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{server.addresses[0][1]}"
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with Upstream() as upstream:
        proxy = Process(upstream.url, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        try:
            await asyncio.to_thread(proxy.ready)
            url = f"http://127.0.0.1:{proxy.port}/v1/chat/completions"
            body = {"model": "m", "messages": [{"role": "user", "content": "marmalade ann@" + "example.org"}]}
            headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "Authorization": "Bearer quince"}
            async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
                assert response.status == 200
        finally:
            await asyncio.to_thread(proxy.end)
        sent = upstream.last.headers["traceparent"]
    await server.cleanup()
    assert sent.split("-")[1] == trace
    assert sent.split("-")[2] != "b7ad6b7169203331"
    assert bytes.fromhex(trace) in collector.got["/v1/traces"]
    assert b"guardproxy.decisions" in collector.got["/v1/metrics"]
    everything = b"".join(collector.got.values())
    assert b"pseudonymise-personal-data" in everything
    for secret in (b"marmalade", b"quince", b"example.org"):
        assert secret not in everything


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
async def test_workers_share_the_port_and_a_dead_one_is_replaced() -> None:
    async with Upstream() as upstream:
        proxy = Process(upstream.url, "--workers", "2")
        try:
            await asyncio.to_thread(proxy.ready)
            while len(proxy.children()) < 2:
                await asyncio.sleep(0.05)
            first = proxy.children()
            await asyncio.sleep(5.2)  # one that dies at its start would not be replaced
            os.kill(first[0], signal.SIGKILL)
            until = time.monotonic() + 10
            while time.monotonic() < until and (len(proxy.children()) < 2 or first[0] in proxy.children()):
                await asyncio.sleep(0.05)
            assert len(proxy.children()) == 2
            for _ in range(10):
                status, _ = await asyncio.to_thread(proxy.ask, "hello")
                assert status == 200
        finally:
            await asyncio.to_thread(proxy.end)
    assert proxy.process.returncode == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--polcy", "x"), "--policy"),
        (("--policy", "/nowhere.yaml"), "cannot be read"),
        (("--backend", "magic"), "rules"),
        (("--max-body", "much"), "--max-body"),
    ],
)
def test_a_start_that_cannot_be_says_why_in_one_line(flags: tuple[str, ...], said: str) -> None:
    proxy = Process("http://127.0.0.1:9/v1", *flags)
    stderr = proxy.end() if proxy.process.wait(20) is None else proxy.process.communicate()[1]
    assert proxy.process.returncode == 2
    assert said in stderr
    assert "Traceback" not in stderr
    assert len(stderr.strip().splitlines()) == 1


def test_a_policy_that_does_not_load_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("name: x\nversion: '1'\nrules:\n  - {id: a, where: promt, if: {check: pii}, then: block}\n")
    proxy = Process("http://127.0.0.1:9/v1", "--policy", str(path))
    proxy.process.wait(20)
    stderr = proxy.process.communicate()[1]
    assert proxy.process.returncode == 2
    assert f"{path}:4:" in stderr
    assert "prompt" in stderr


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        proxy = Process("http://127.0.0.1:9/v1", "--port", port)
        proxy.process.wait(20)
        assert proxy.process.returncode == 2
        assert "cannot listen" in proxy.process.communicate()[1]
