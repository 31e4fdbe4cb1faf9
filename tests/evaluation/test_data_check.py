"""data check: planted faults are named, and clean rows pass."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from guardproxy.cli.main import main
from guardproxy.evaluation import data_check, datasets
from guardproxy.evaluation.data_check import check
from guardproxy.evaluation.datasets import Row

pytest.importorskip("sklearn")

BAD = ["alley", "bruise", "crowbar", "dagger", "ember", "flood", "grudge", "harm"]
GOOD = ["apple", "basil", "carrot", "dumpling", "endive", "fennel", "garlic", "honey"]
FILL = [f"{a}{b}" for a in ("ba", "co", "du", "fe", "gi", "ho") for b in ("lent", "nor", "rish", "tak", "vel")]


def made(count: int = 400, seed: int = 0) -> list[Row]:
    """Rows in which single words tell the label and nothing else does."""
    dice = random.Random(seed)
    rows = []
    for number in range(count):
        unsafe = number % 2
        words = [dice.choice(FILL) for _ in range(dice.randint(12, 30))]
        words.insert(dice.randint(3, 11), dice.choice(BAD if unsafe else GOOD))
        text = " ".join(words) + dice.choice([".", "?", "!", ""])
        split = ("train", "train", "train", "dev", "test")[number // 2 % 5]
        name = f"toxicity/{'bad' if unsafe else 'hard'}-{number % 14}"
        rows.append(Row(f"r{number}", text, "prompt", "en", "own-made", {"unsafe": unsafe}, name, split))
    return rows


def rules(rows: list[Row], **more: object) -> set[str]:
    return {problem.rule for problem in check(rows, **more).problems if problem.fatal}  # type: ignore[arg-type]


def test_clean_rows_pass() -> None:
    checked = check(made())
    assert checked.problems == []
    assert not checked.failed
    assert checked.twice == checked.pairs == {}
    assert checked.balance == [("unsafe", "own-made", "en", 400, 200)]


def test_words_are_seen_and_told() -> None:
    told = check(made()).probes["unsafe"]
    assert told["words"] > 0.95
    assert 0.4 < told["length"] < 0.6
    assert told["surface"] < 0.65
    assert set(told["for_it"][:6]) <= set(BAD)
    assert set(told["against"][:6]) <= set(GOOD)


def test_a_near_twin_across_splits_fails_and_names_both() -> None:
    rows = made()
    twin = replace(rows[0], id="twin", text=rows[0].text + " really", split="test")
    checked = check([*rows, twin])
    assert [problem.rule for problem in checked.problems] == ["nothing measured was learnt"]
    assert "r0 and twin" in checked.problems[0].what
    assert checked.pairs == {"train ~ test": 1}


def test_a_near_twin_between_dev_and_test_or_within_one_is_told_only() -> None:
    rows = made()
    held = next(row for row in rows if row.split == "dev")
    checked = check([*rows, replace(held, id="twin", text=held.text + " really", split="test")])
    assert not checked.failed
    assert checked.pairs == {"dev ~ test": 1}


def test_public_rows_do_not_fail_by_themselves_but_leak_is_known() -> None:
    public = [replace(row, set="", source="public") for row in made()]
    twin = replace(public[0], id="twin", text=public[0].text + " really", split="dev")
    checked = check([*public, twin])
    assert not checked.failed
    assert checked.problems
    assert data_check.leaked([*public, twin]) == {"twin"}


def test_rows_that_are_there_again_fail_beyond_the_limit() -> None:
    rows = made()
    train = [row for row in rows if row.split == "train"]
    one = [replace(train[0], id="again")]
    assert rules(rows + one) == set()
    assert rules(rows + one + [replace(train[1], id="again2")]) == {"no row twice"}


def test_one_text_with_two_verdicts_fails() -> None:
    rows = made()
    torn = replace(rows[0], id="torn", labels={"unsafe": 1 - rows[0].labels["unsafe"]})
    assert rules([*rows, torn]) == {"one text, one verdict"}


def test_length_that_tells_the_label_fails() -> None:
    rows = [replace(row, text=f"{row.text} {row.text}") if row.labels["unsafe"] else row for row in made()]
    checked = check(rows)
    assert {problem.rule for problem in checked.problems} == {"length decides nothing", "the surface decides nothing"}
    assert checked.probes["unsafe"]["length"] > 0.9


@pytest.mark.parametrize("habit", ["I'm not sure, but perhaps {}", "Well, {}"])
def test_hedging_and_first_words_that_tell_the_label_fail(habit: str) -> None:
    rows = [row if row.labels["unsafe"] else replace(row, text=habit.format(row.text)) for row in made()]
    rows = [replace(row, text=row.text + " balent conor dunor fevel") if row.labels["unsafe"] else row for row in rows]
    assert "the surface decides nothing" in rules(rows)


def test_a_language_that_is_all_one_label_fails() -> None:
    rows = [
        replace(row, lang="fr") if row.labels["unsafe"] and number < 300 else row for number, row in enumerate(made())
    ]
    checked = check(rows)
    assert {problem.rule for problem in checked.problems} == {"no language decides"}
    assert any("in fr" in problem.what for problem in checked.problems)


def test_people_who_do_not_agree_fail() -> None:
    rows = made()
    agreeing = {row.id: dict(row.labels) for row in rows[:40]}
    assert rules(rows, second=agreeing) == set()
    assert check(rows, agreeing).kappas == {"unsafe": (1.0, 40)}
    guessing = {row.id: {"unsafe": number // 2 % 2} for number, row in enumerate(rows[:40])}
    assert rules(rows, second=guessing) == {"people agree"}


def written(folder: Path, rows: list[Row], **more: object) -> Path:
    folder.mkdir()
    lines = [
        json.dumps(
            {
                "id": row.id,
                "text": row.text,
                "role": row.role,
                "lang": row.lang,
                "source": row.source,
                "labels": ["unsafe"] if row.labels["unsafe"] else [],
                "set": row.set,
                "split": row.split,
                "criteria": "1",
                **more,
            }
        )
        for row in rows
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = [
        label for labels in datasets.LABELS.values() for label in labels if label not in ("unsafe", *datasets.ENTITIES)
    ]
    folder = written(tmp_path / "clean", made(), unknown=unknown)
    assert main(["data", "check", str(folder)]) == 0
    assert "within all limits" in capsys.readouterr().out
    leaky = written(tmp_path / "leaky", [*made(), replace(made()[0], id="twin", split="test")], unknown=unknown)
    assert main(["data", "check", str(leaky), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["failed"]
    assert told["rows"] == 401
    assert told["twice"] == {"train ~ test": 1}


def test_second_labels_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "rows", made(4), second=["toxic"])
    assert {row: labels["toxic"] for row, labels in datasets.second([folder]).items()} == dict.fromkeys(
        ("r0", "r1", "r2", "r3"), 1
    )


def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["data", "check", str(tmp_path / "empty")]) == 2
    assert "no rows" in capsys.readouterr().err
    monkeypatch.setattr("guardproxy.cli.data.find_spec", lambda name: None)
    for command in (
        ["data", "check", "x"],
        ["calibrate", "--adapters", "x", "--data", "y"],
        ["evaluate", "--data", "y"],
    ):
        assert main(command) == 2
        assert "pip install 'guardproxy[train]'" in capsys.readouterr().err
