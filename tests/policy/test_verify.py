"""verify: cases beside a policy are read strictly, and a wrong expectation is told apart exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guardproxy.errors import PolicyError
from guardproxy.policy.model import Policy
from guardproxy.policy.verify import decide, differences, read_cases

Make = Callable[..., Policy]
MASK = "  - {id: mask, where: prompt, if: {check: pii, score: 0.6}, then: {rewrite: mask}}\n"
CASE = """\
cases:
  - name: a case
    scope: prompt
    role: user
    text: a@b.example and a@b.example
    verdicts: [{check: pii, findings: [{label: EMAIL_ADDRESS, text: a@b.example, score: 0.9}]}]
    expect: {%s}
"""


def cases(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "p_test.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("expect", "found"),
    [
        ("action: rewrite, rules: [mask], would: [], asks: [], replaced: [a@b.example]", []),
        ("action: rewrite", []),
        ("action: block", ["action: expected block, got rewrite (by mask)"]),
        ("action: rewrite, rules: []", ["rules: expected none, got mask"]),
        ("action: rewrite, replaced: [b, c]", ["replaced: expected b, c, got a@b.example"]),
        (
            "action: allow, would: ['x:block'], asks: j",
            [
                "action: expected allow, got rewrite (by mask)",
                "would: expected x:block, got none",
                "asks: expected j, got none",
            ],
        ),
    ],
)
def test_what_differs(make: Make, tmp_path: Path, expect: str, found: list[str]) -> None:
    (case,) = read_cases(cases(tmp_path, CASE % expect))
    assert case.verdicts is not None
    assert len(case.verdicts[0].findings) == 2
    assert differences(case, decide(make(MASK), case)) == found


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("role: user", "rol: user", "4:5: unknown key `rol` in a case; did you mean `role`?"),
        ("scope: prompt", "scope: promt", "3:12: `scope`: expected one of prompt"),
        ("text: a@b.example, ", "text: c@d.example, ", "6:63: these words do not stand in the case's text"),
        ("    expect: {action: rewrite}\n", "", "2:5: a case needs `expect`"),
        ("{action: rewrite}", "{rules: [mask]}", "7:13: `expect` needs `action`"),
        ("score: 0.9", "score: 9", "6:89: `score`: expected a number from 0 to 1"),
        ("cases:", "case:", "1:1: expected `cases:`, a list with at least one case"),
        ("check: pii, ", "", "6:16: a verdict needs `check`"),
        ("[{check: pii, findings", "{}\n    x: [{findings", "7:5: unknown key `x`"),
    ],
)
def test_mistakes_in_cases_are_placed(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = CASE % "action: rewrite"
    assert old in text
    with pytest.raises(PolicyError) as raised:
        read_cases(cases(tmp_path, text.replace(old, new)))
    assert f"p_test.yaml:{complaint}" in str(raised.value)


def test_cases_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        read_cases(tmp_path / "none_test.yaml")
    with pytest.raises(PolicyError):
        read_cases(cases(tmp_path, ""))
