"""`guardproxy policy`: check, test and show, as their user sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardproxy.cli.main import main
from guardproxy.policy.load import shipped

GOOD = """\
name: mine
version: "1"
rules:
  - {id: mask, where: prompt, if: {check: pii, labels: EMAIL_ADDRESS}, then: {rewrite: mask}}
"""
CASES = """\
cases:
  - name: a mail
    scope: prompt
    text: a@b.example
    verdicts: [{check: pii, findings: [{label: EMAIL_ADDRESS, text: a@b.example}]}]
    expect: {action: rewrite}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(GOOD)
    (tmp_path / "mine_test.yaml").write_text(CASES)
    return tmp_path


def test_check_prints_warnings_and_says_ok(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "mine.yaml"
    assert main(["policy", "check", str(file)]) == 0
    warning, verdict = capsys.readouterr().out.splitlines()
    assert warning.startswith(
        f"{file}: warning: prompt: no rule says what happens on abstained or timeout or error of pii"
    )
    assert verdict.startswith(f"{file}: ok, mine@1+")


def test_check_prints_every_mistake_and_goes_on_with_the_next_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = folder / "bad.yaml"
    bad.write_text(GOOD.replace("EMAIL_ADDRESS", "EMAIL").replace("where: prompt", "where: promt"))
    assert main(["policy", "check", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{bad}:4:23: `where`: ")
    assert lines[1] == f"{bad}:4:55: the check pii has no label `EMAIL`; did you mean `EMAIL_ADDRESS`?"
    assert lines[-1].startswith(f"{folder / 'mine.yaml'}: ok")


def test_test_runs_the_cases_beside_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'mine.yaml'}: 1 of 1 cases as expected\n"
    (folder / "mine_test.yaml").write_text(CASES.replace("rewrite", "block"))
    assert main(["policy", "test", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{folder / 'mine_test.yaml'}:2:5: a mail: action: expected block, got rewrite (by mask)",
        f"{folder / 'mine.yaml'}: 0 of 1 cases as expected",
    ]


def test_a_case_without_verdicts_is_judged_by_the_checks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "mine_test.yaml"
    expect = "expect: {action: rewrite, replaced: %s}"
    text = f"cases:\n  - {{name: a mail, scope: prompt, text: Ask ann@mail.example now., {expect}}}\n"
    file.write_text(text % "ann@mail.example")
    assert main(["policy", "test", str(folder)]) == 0
    file.write_text(text % "Ask")
    assert main(["policy", "test", str(folder)]) == 1
    assert "replaced: expected Ask, got ann@mail.example" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["default", "strict", "observe", "finance"])
def test_the_shipped_cases_come_out_as_written(name: str) -> None:
    assert main(["policy", "test", name]) == 0


def test_a_policy_without_cases_is_not_tested(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine_test.yaml").unlink()
    assert main(["policy", "test", str(folder)]) == 1
    assert capsys.readouterr().out == f"{folder / 'mine.yaml'}: no cases; expected them in mine_test.yaml beside it\n"


def test_show_prints_the_file_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show"]) == 0
    assert capsys.readouterr().out == shipped().read_text("utf-8")
    assert main(["policy", "show", "nonesuch"]) == 2
    assert "there are default, finance, observe, strict" in capsys.readouterr().err


def test_the_shipped_ones_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "default", "strict"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", str(tmp_path / "no.yaml")]) == 1
    assert capsys.readouterr().out.endswith("no.yaml: cannot be read: No such file or directory\n")
    assert main(["policy", "check", str(tmp_path)]) == 2
