"""`guardproxy checks`: the list, one check with its card, and a name that does not exist."""

from __future__ import annotations

import pytest

from guardproxy.checks.registry import NAMES
from guardproxy.cli.main import main


def test_the_list_has_every_check_with_its_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == list(NAMES)
    assert max(map(len, lines)) <= 100
    assert any("EMAIL_ADDRESS" in line for line in lines)


def test_one_check_with_what_its_rules_know_and_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks", "injection"]) == 0
    shown = capsys.readouterr().out
    assert "limits: " in shown
    assert "languages: en, de" in shown
    assert "direct: " in shown


def test_a_check_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checks", "injections"]) == 2
    assert capsys.readouterr().err == "guardproxy: there is no check `injections`; did you mean `injection`?\n"
