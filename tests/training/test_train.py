"""From rows to answers: a tiny base is trained jointly and check by check, released, loaded and asked."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install guardproxy[train]")
pytest.importorskip("peft", reason="training needs peft: pip install guardproxy[train]")

import torch
from transformers import BertConfig, BertModel

from guardproxy.backends.onnx.backend import Onnx
from guardproxy.backends.onnx.encode import Encoder
from guardproxy.errors import ConfigError
from guardproxy.evaluation import datasets
from guardproxy.reading import Reading
from guardproxy.training import base as bases
from guardproxy.training import config as configs
from guardproxy.training import export
from guardproxy.training.augment import augmented
from guardproxy.training.config import Source, TrainConfig
from guardproxy.training.examples import IGNORE, example, tags_of
from guardproxy.training.progress import Progress
from guardproxy.training.sampling import Sampler, weights
from guardproxy.training.train import CHECKPOINT, train
from guardproxy.types import Scope, Segment, Window
from tests.training import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SOURCES = (Source("own-words", 800),)


def config(check: str, depth: int, **more: Any) -> TrainConfig:
    settings = {
        "rank": 16,
        "alpha": 32,
        "epochs": 6,
        "rate": 2e-3,
        "batch": 16,
        "max_tokens": 32,
        "overlap": 8,
        "dropout": 0.0,
    }
    return TrainConfig(check, "1", depth, SOURCES, **settings | more)


def rows(number: int, seed: int, split: str) -> Iterator[str]:
    """Texts in which one word decides each label, and another is a name."""
    dice = random.Random(seed)
    for i in range(number):
        words = [f"word{dice.randrange(10, 40)}" for _ in range(dice.randrange(3, 12))]
        labels, spans = [], []
        for _label, word in (("unsafe", "word1"), ("injection", "word3"), ("noncompliant", "word5")):
            if dice.random() < 0.4:
                words[dice.randrange(len(words))] = word
        labels = [x for x, w in (("unsafe", "word1"), ("injection", "word3"), ("noncompliant", "word5")) if w in words]
        if dice.random() < 0.5:
            place = dice.randrange(len(words))
            if words[place] not in ("word1", "word3", "word5"):
                start = len(" ".join(words[:place])) + bool(place)
                words[place] = "Word7"
                spans = [{"type": "PERSON", "start": start, "end": start + len(words[place])}]
        yield json.dumps(
            {"id": f"{split}-{i}", "text": " ".join(words), "role": "prompt", "lang": "en", "labels": labels,
             "spans": spans, "set": "words/plain", "split": split, "source": "own-words", "criteria": "1"}
        )  # fmt: skip


def easy_base(folder: Path) -> Path:
    """The tiny base, but with words that differ and layers that change little: one that adapters can be trained on."""
    tiny.make_base(folder)
    torch.manual_seed(0)
    model = BertModel(BertConfig.from_pretrained(folder, initializer_range=0.05))
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.normal_(0.0, 1.0)
        model.embeddings.position_embeddings.weight.normal_(0.0, 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bases.Base:
    return bases.find(easy_base(tmp_path_factory.mktemp("train") / tiny.NAME))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> list[datasets.Row]:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "a.jsonl").write_text("\n".join([*rows(800, 1, "train"), *rows(100, 2, "dev")]) + "\n")
    return datasets.parted(datasets.read_all([folder]))


@pytest.fixture(scope="module")
def work(base: bases.Base, known: list[datasets.Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    train(config("shared", 0), known, base, folder, Progress(quiet=True))
    for check, depth in (("toxicity", 5), ("injection", 5), ("compliance", 5), ("pii", 4)):
        train(config(check, depth, epochs=2), known, base, folder, Progress(quiet=True))
    return folder


def reading(text: str) -> Reading:
    segment = Segment("c", ("text",), "user", Scope.PROMPT, text)
    return Reading(Window(segment, 0, 0, len(text), len(text), text))


@pytest.mark.slow
async def test_from_rows_to_answers(work: Path, base: bases.Base, tmp_path: Path) -> None:
    export.release(work, base.folder, tmp_path / "adapters", release="tiny")
    backend = Onnx.load(tmp_path / "adapters")
    texts = [json.loads(row) for row in rows(60, 3, "test")]
    try:
        for check, label in (("toxicity", "unsafe"), ("injection", "injection"), ("compliance", "noncompliant")):
            answers = await backend.classify(check, [reading(row["text"]) for row in texts])
            right = [
                (answer.scores[label] > 0.5) == (label in row["labels"])
                for answer, row in zip(answers, texts, strict=False)
            ]
            assert np.mean(right) > 0.9, check
        answers = await backend.classify("pii", [reading(row["text"]) for row in texts])
        found = [{(f.label, f.start, f.end) for f in answer.findings} for answer in answers]
        wanted = [{(s["type"], s["start"], s["end"]) for s in row["spans"]} for row in texts]
        hits = sum(len(a & b) for a, b in zip(found, wanted, strict=False))
        assert 2 * hits / (sum(map(len, found)) + sum(map(len, wanted))) > 0.9
    finally:
        await backend.close()


@pytest.mark.slow
def test_what_a_run_leaves(work: Path) -> None:
    """The configuration, a card that pins base and shared adapter, no checkpoint, and no path of the machine."""
    for check in ("shared", "toxicity", "pii"):
        names = {path.name for path in (work / check).iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors", "train.yaml", "history.json"} <= names
        assert CHECKPOINT not in names
        assert configs.load(work / check / "train.yaml").check == check
        assert str(work) not in (work / check / "adapter_config.json").read_text()
    assert json.loads((work / "toxicity" / "adapter_config.json").read_text())["base_model_name_or_path"] == tiny.NAME


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(base: bases.Base, known: list[datasets.Row], tmp_path: Path) -> None:
    settings = config("toxicity", 5, epochs=3)
    whole = train(settings, known[:200], base, tmp_path / "whole", Progress(quiet=True))

    class Cut(Progress):
        def track(self, items: Any, what: str) -> Any:
            if what == "epoch 3":
                raise KeyboardInterrupt
            return iter(items)

    with pytest.raises(KeyboardInterrupt):
        train(settings, known[:200], base, tmp_path / "cut", Cut(quiet=True))
    assert (tmp_path / "cut" / "toxicity" / CHECKPOINT).exists()
    again = train(settings, known[:200], base, tmp_path / "cut", Progress(quiet=True))
    assert again["epochs"] == whole["epochs"] == 3
    assert again["history"][-1]["loss"] == pytest.approx(whole["history"][-1]["loss"], rel=1e-3)
    weights = [(tmp_path / run / "toxicity" / "head.safetensors").read_bytes() for run in ("whole", "cut")]
    assert len(weights[0]) == len(weights[1])


def test_rows_that_teach_nothing_are_an_error(base: bases.Base, known: list[datasets.Row], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of the rows"):
        train(replace(config("toxicity", 5), sources=(Source("x", 5),)), known, base, tmp_path, Progress(quiet=True))


def test_an_altered_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model\.safetensors"):
        bases.find(tmp_path)


# -- rows into lessons ------------------------------------------------------------------------------------------------


def row(text: str, labels: dict[str, int] | None = None, **more: Any) -> datasets.Row:
    return datasets.Row("r", text, more.pop("role", "prompt"), more.pop("lang", "en"), "s", labels or {}, **more)


def test_tags_follow_entities_whatever_pieces_they_are_cut_into(base: bases.Base) -> None:
    encoder = Encoder(base.tokenizer, 32, 8)
    piece = encoder.encode("word1 Anna-Lee x42", "prompt")[0]
    tags = tags_of([datasets.Span("PERSON", 6, 14)], piece)
    inside = [tag for tag, (start, end) in zip(tags, piece.offsets, strict=False) if end and 6 <= start < 14]
    assert inside[0] == 1
    assert set(inside[1:]) == {2}
    assert sum(tag > 0 for tag in tags) == len(inside)
    assert tags[0] == tags[1] == tags[-1] == IGNORE


def test_kinds_of_entities_that_are_not_ours_teach_nothing(base: bases.Base) -> None:
    piece = Encoder(base.tokenizer, 32, 8).encode("word1 word2 word3", "prompt")[0]
    tags = tags_of([datasets.Span(datasets.IGNORED, 6, 11)], piece)
    assert IGNORE in tags[2:-1].tolist()
    assert 0 in tags[2:-1].tolist()


def test_a_slice_that_the_attack_does_not_touch_is_harmless(base: bases.Base) -> None:
    text = " ".join(["word1"] * 40) + " word3 word3 word3"
    long = row(text, {"injection": 1, "indirect": 1}, role="tool_result", attack=((len(text) - 17, len(text)),))
    dice = np.random.default_rng(0)
    lessons = [
        example(long, Source("s", 1), ("injection",), Encoder(base.tokenizer, 32, 8), 1.0, dice) for _ in range(40)
    ]
    seen = {float(lesson.targets["injection"][0]) for lesson in lessons}
    assert seen == {0.0, 1.0}


def test_unknown_labels_stay_unknown(base: bases.Base) -> None:
    lesson = example(
        row("word1", {"unsafe": 1}),
        Source("s", 1),
        ("toxicity",),
        Encoder(base.tokenizer),
        1.0,
        np.random.default_rng(0),
    )
    assert lesson.targets["toxicity"][0] == 1
    assert np.isnan(lesson.targets["toxicity"][1:]).all()


def test_no_language_and_no_size_gives_the_label_away() -> None:
    pool = [row("a", {"unsafe": 1}, lang="fr")] * 90 + [row("b", {"unsafe": 0}, lang="fr")] * 10
    pool += [row("c", {"unsafe": 0}, lang="en")] * 900
    chances = weights(pool)
    assert chances[:90].sum() == pytest.approx(chances[90:100].sum())
    assert chances[:100].sum() == pytest.approx(
        0.25
    )  # the square root of a tenth as many rows is a quarter of the whole


def test_the_same_seed_draws_the_same_epochs() -> None:
    pool = [replace(row("a", {"unsafe": i % 2}), id=str(i)) for i in range(50)]
    draws = [[r.id for r, _ in Sampler(pool, [Source("s", 20)], ("toxicity",), 7).epoch(n)] for n in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 20
    assert len(Sampler(pool, [Source("s", 120)], ("toxicity",), 7).epoch(0)) == 120


def test_other_people_stand_where_the_first_ones_stood() -> None:
    text = "ask Maria Kowalska, or maria kowalska, at @maria"
    spans = (datasets.Span("PERSON", 4, 18), datasets.Span("PERSON", 23, 37), datasets.Span("USERNAME", 42, 48))
    changed = 0
    for seed in range(30):
        new = augmented(row(text, spans=spans), np.random.default_rng(seed))
        assert new.spans is not None
        values = [new.text[span.start : span.end] for span in new.spans]
        assert [span.label for span in new.spans] == ["PERSON", "PERSON", "USERNAME"]
        assert values[1].islower()
        assert values[2].startswith("@")
        assert new.text.startswith("ask ")
        assert ", or " in new.text
        assert ", at " in new.text
        changed += new.text != text
    assert 5 < changed < 30
