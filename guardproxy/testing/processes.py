"""Runs the pretend upstream and the proxy as processes, for benchmarks, demonstrations and tests of a set-up.

They listen on the loopback interface, are ready when they are handed over, and are gone afterwards, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO

import aiohttp

from guardproxy.errors import ConfigError

_READY = 30.0  # seconds
_STOP = 10.0
_STEP = 0.05


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def upstream_process(
    *, answer_bytes: int = 0, events: int = 0, pause_ms: float = 0.0, env: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """The pretend upstream; yields its base URL. The keywords are those of `python -m guardproxy.testing`.

    `env` None: this process's environment. Raises ConfigError if it does not start.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    command = ["-m", "guardproxy.testing", "--port", str(port), "--answer-bytes", str(answer_bytes)]
    command += ["--events", str(events), "--pause-ms", str(pause_ms)]
    async with running("pretend upstream", command, f"{url}/models", env):
        yield url


@contextlib.asynccontextmanager
async def proxy_process(upstream: str, *flags: str, env: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """`guardproxy serve` in front of `upstream`, with further `flags`; yields the base URL for clients.

    `env` None: this process's environment, GUARDPROXY_* settings included. Raises ConfigError if it does not start.
    """
    port, admin = free_port(), free_port()
    command = ["-m", "guardproxy.cli.main", "serve", "--upstream", upstream, "--log-level", "warning"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--admin-host", "127.0.0.1", "--admin-port", str(admin)]
    async with running("proxy", [*command, *flags], f"http://127.0.0.1:{admin}/readyz", env):
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.asynccontextmanager
async def running(
    name: str, command: Sequence[str], ready: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[None]:
    """This Python with `command` as its arguments, from when the URL `ready` answers 200 until the block ends.

    Raises ConfigError, with the last lines that it wrote, if it stops before or takes longer than half a minute.
    """
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=output, stderr=output, env=env)
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
