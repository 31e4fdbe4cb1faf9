"""Starts what is to be measured where the user names nothing: the pretend upstream and a proxy, each a process of its
own.

They listen on the loopback interface, are ready before the first request, and are gone after the last, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import IO

import aiohttp

from guardproxy.errors import ConfigError

_READY = 30.0  # seconds
_STOP = 5.0
_STEP = 0.05


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def upstream(*, answer_bytes: int, events: int, pause_ms: float) -> AsyncIterator[str]:
    """The pretend upstream; its base URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    command = ["-m", "guardproxy.testing", "--port", str(port), "--answer-bytes", str(answer_bytes)]
    command += ["--events", str(events), "--pause-ms", str(pause_ms)]
    async with _process("pretend upstream", command, f"{url}/models"):
        yield url


@contextlib.asynccontextmanager
async def proxy(upstream_url: str, policy: str = "") -> AsyncIterator[str]:
    """A proxy in front of `upstream_url`, with the settings of the environment; its base URL."""
    port, admin = free_port(), free_port()
    command = ["-m", "guardproxy.cli.main", "serve", "--upstream", upstream_url, "--log-level", "warning"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--admin-host", "127.0.0.1", "--admin-port", str(admin)]
    command += ["--policy", policy] if policy else []
    async with _process("proxy", command, f"http://127.0.0.1:{admin}/readyz"):
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.asynccontextmanager
async def _process(name: str, command: Sequence[str], ready: str) -> AsyncIterator[None]:
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=output, stderr=output)
        try:
            await _wait(name, process, ready, output)
            yield
        finally:
            await _stop(process)


async def _wait(name: str, process: asyncio.subprocess.Process, ready: str, output: IO[bytes]) -> None:
    try:
        async with asyncio.timeout(_READY), aiohttp.ClientSession() as client:
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with client.get(ready) as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(_STEP)
    except TimeoutError:
        raise ConfigError(f"the {name} was not ready within {_READY:g} seconds{_tail(output)}") from None
    raise ConfigError(f"the {name} stopped before it was ready{_tail(output)}")


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines()[-5:]
    return ":\n  " + "\n  ".join(lines) if lines else ""


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP)
        except TimeoutError:
            process.kill()
            await process.wait()
