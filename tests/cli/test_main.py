"""main: help that fits, errors in one line, settings handed on."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from guardproxy import __version__
from guardproxy.cli import main as module
from guardproxy.cli.main import main
from guardproxy.config import Settings, flag_name, options
from guardproxy.errors import ConfigError


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `serve` was run with; nothing is served."""
    seen: list[Settings] = []
    stub = ModuleType("stub")
    stub.run = lambda given: seen.append(given) or 0  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "import_module", lambda name: stub)
    for name in list(module.os.environ):
        if name.startswith("GUARDPROXY_"):
            monkeypatch.delenv(name)
    return seen


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"guardproxy {__version__}\n"
    assert main([]) == 0
    shown = capsys.readouterr().out
    for command in ("serve", "policy", "checks", "decisions", "bench"):
        assert f"\n    {command} " in shown


@pytest.mark.parametrize(
    "command",
    [[], ["serve"], ["policy"], ["policy", "check"], ["policy", "test"], ["policy", "show"], ["checks"], ["bench"]],
)
def test_every_help_fits_in_a_hundred_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: guardproxy")
    assert [line for line in lines if len(line) > 105] == []


def test_serve_help_shows_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, option, _ in options():
        assert f"{flag_name(name)}" in shown
        assert " ".join(option.help.split()) in shown
    assert shown.count("(default:") == len(options()) + 1


def test_serve_hands_the_settings_on(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDPROXY_WORKERS", "3")
    flags = ["--upstream", "https://api.openai.com/v1", "--port=9000", "--no-uvloop", "--log-allowed"]
    assert main(["serve", *flags]) == 0
    (found,) = served
    assert (found.upstream, found.port, found.workers) == ("https://api.openai.com/v1", 9000, 3)
    assert (found.uvloop, found.log_allowed) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["serv"], "there is no command `serv`; did you mean `serve`? (see --help)"),
        (["serve"], "no upstream: say which endpoint to guard, with --upstream https://api.openai.com/v1 "),
        (["serve", "--prt", "1"], "unknown argument `--prt`; did you mean `--port`? (see `guardproxy serve --help`)"),
        (["serve", "--up", "x"], "unknown argument `--up`; did you mean `--upstream`?"),
        (["serve", "--port"], "argument --port: expected one argument (see `guardproxy serve --help`)"),
        (["serve", "--port", "x", "--upstream", "https://x/v1"], "--port: expected a whole number from 0 to 65535"),
        (["policy"], "the following arguments are required: ACTION (see `guardproxy policy --help`)"),
        (["--verbose"], "unknown argument `--verbose` (see `guardproxy --help`)"),
    ],
)
def test_errors_are_one_clear_line_and_status_two(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GUARDPROXY_UPSTREAM", raising=False)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"guardproxy: {line}"), err
    assert err.count("\n") == 1


def test_an_interrupt_is_quiet(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> ModuleType:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "import_module", interrupted)
    assert main(["serve", "--upstream", "https://x/v1"]) == 130


def test_an_error_of_a_command_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stub = ModuleType("stub")
    stub.add_arguments = lambda parser: None  # type: ignore[attr-defined]

    def run(_: object) -> int:
        raise ConfigError("as it is")

    stub.run = run  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "import_module", lambda name: stub)
    assert main(["checks"]) == 2
    assert capsys.readouterr().err == "guardproxy: as it is\n"


def test_help_imports_no_server_and_no_check() -> None:
    code = (
        "import sys; from guardproxy.cli.main import main; main([]); "
        "heavy = {'aiohttp', 'asyncio', 're2', 'guardproxy.server', 'guardproxy.checks'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
