"""The demo, as `make demo` runs it: the proxy as a process, the official client, and a table that says how it went."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("rich")

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GUARDPROXY_PORT": "not a port"}  # settings around it do not matter
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "demo.py"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_everything_goes_as_it_should() -> None:
    done = run()
    assert done.returncode == 0, done.stdout
    assert "WRONG" not in done.stdout
    assert "17 of 17 went as they should" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 120
    assert done.stderr == ""


def test_a_policy_that_does_nothing_is_noticed() -> None:
    done = run("--policy", str(ROOT / "policies" / "observe.yaml"))
    assert done.returncode == 1
    assert "WRONG     the upstream saw what it should not" in done.stdout
    assert "WRONG     the application got what it should not" in done.stdout


def test_a_policy_that_cannot_be_loaded_is_said() -> None:
    done = run("--policy", "nowhere.yaml")
    assert done.returncode == 2
    assert "could not start" in done.stdout
