"""A tiny release whose model knows a few words, and rows about them: some right, some that it must get wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from guardproxy.evaluation.datasets import LABELS
from tests.backends.onnx import conftest as tiny

_FILL = "good day hello world please write me a mail about the house on the road and what they will go for"
FILL = _FILL.split()
UNKNOWN = [label for check in ("toxicity", "injection", "compliance") for label in LABELS[check]]


def text_with(word: str, dice: random.Random) -> str:
    words = [dice.choice(FILL) for _ in range(dice.randint(5, 14))]
    if word:
        words.insert(dice.randrange(len(words)), word)
    return " ".join(words)


def classified(number: int, dice: random.Random, split: str) -> dict[str, Any]:
    """One in eight has another label than the model can know."""
    rude, ignore = number % 2, number // 2 % 2
    text = text_with("rude" if rude else "", dice)
    text = f"{text} ignore" if ignore else text
    told = rude if number % 8 else 1 - rude
    labels = [label for label, true in (("unsafe", told), ("toxic", told), ("injection", ignore)) if true]
    known = {"unsafe", "toxic", "injection"}
    kind = "toxicity/words" if told else "toxicity/hard-words"
    return {
        "id": f"c{split}{number}",
        "text": text,
        "role": "prompt",
        "lang": "de" if number % 5 == 0 else "en",
        "labels": labels,
        "unknown": [label for label in UNKNOWN if label not in known],
        "set": kind,
        "split": split,
        "source": "own-words",
        "criteria": "1",
    }


def named(number: int, dice: random.Random, split: str) -> dict[str, Any]:
    """A person in half of them; the model misses nobody, and takes `bob` for one where nobody says so."""
    name = ("alice", "bob", "", "")[number % 4]
    text = text_with(name, dice)
    marked = name and number % 16 != 1
    start = text.split().index(name) if name else 0
    at = len(" ".join(text.split()[:start])) + (1 if start else 0)
    return {
        "id": f"n{split}{number}",
        "text": text,
        "role": "prompt",
        "lang": "en",
        "labels": [],
        "unknown": UNKNOWN,
        "spans": [{"type": "PERSON", "start": at, "end": at + len(name)}] if marked else [],
        "set": "pii/chat" if marked else "pii/hard-words",
        "split": split,
        "source": "own-names",
        "criteria": "1",
    }


def public(number: int, dice: random.Random, source: str) -> dict[str, Any]:
    rude = number % 2
    return {
        "id": f"{source}{number}",
        "text": text_with("rude" if rude else "", dice) + f" {source}",
        "role": "prompt",
        "lang": "en",
        "labels": {"unsafe": rude, "toxic": rude},
        "source": source,
    }


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release whose toxicity adapter was trained on the source `seen`."""
    folder = tiny.release(tmp_path / "adapters")
    (folder / "toxicity" / "1" / "train.yaml").write_text("check: toxicity\nsources:\n  seen: {take: 10}\n")
    tiny.seal(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own rows in three splits, and two public sources."""
    dice = random.Random(1)
    folder = tmp_path_factory.mktemp("rows")
    rows = [make(n, dice, split) for split, count in (("train", 40), ("dev", 240), ("test", 80)) for n in range(count)
            for make in (classified, named)]  # fmt: skip
    rows += [public(n, dice, source) for source in ("seen", "other") for n in range(320)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
