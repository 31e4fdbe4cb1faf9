"""Token logits into entities: whole words, sequences that can be, each token where it was read best."""

import math
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.backends.onnx.artefact import TOKENIZER, Artefact
from guardproxy.backends.onnx.encode import FRAME, Encoder, Slice
from guardproxy.backends.onnx.entities import Entity, _viterbi, entities, joined

TAGS = 5  # O, B-0, I-0, B-1, I-1
OUT, B0, I0, B1, I1 = range(TAGS)


@pytest.fixture(scope="module")
def encoder(artefact: Artefact) -> Encoder:
    return Encoder(artefact.folder / TOKENIZER, 16, 4)


def tagged(slices: list[Slice], tags: list[int], strength: float = 6.0, overlap: int = 4) -> list[Any]:
    """Logits that say these tags, one for each token of the text, in every slice."""
    step = slices[0].tokens - FRAME - overlap if len(slices) > 1 else 0
    made = []
    for number, piece in enumerate(slices):
        logits = np.zeros((piece.tokens, TAGS), np.float32)
        for place in range(piece.tokens - FRAME):
            logits[place + 2, tags[number * step + place]] = strength
        made.append(logits)
    return made


def spans(text: str, found: list[Entity]) -> list[tuple[int, str]]:
    return [(each.label, text[each.start : each.end]) for each in found]


def test_beginnings_and_continuations(encoder: Encoder) -> None:
    text = "alice smith lives in rome, bob bob"
    slices = encoder.encode(text, "prompt")
    found = entities(text, slices, tagged(slices, [B0, I0, OUT, OUT, B1, OUT, B0, B0]), 4)
    assert spans(text, found) == [(0, "alice smith"), (1, "rome"), (0, "bob"), (0, "bob")]
    p = math.exp(6) / (math.exp(6) + 4) + 1 / (math.exp(6) + 4)
    assert found[0].logit == pytest.approx(math.log(p / (1 - p)), rel=1e-6)


def test_nothing(encoder: Encoder) -> None:
    text = "you and me"
    slices = encoder.encode(text, "prompt")
    assert entities(text, slices, tagged(slices, [OUT] * 4), 4) == []
    empty = encoder.encode(" ", "prompt")
    assert entities(" ", empty, tagged(empty, []), 4) == []


def test_what_cannot_be_is_not_said(encoder: Encoder) -> None:
    text = "alice smith lives"
    slices = encoder.encode(text, "prompt")
    (logits,) = tagged(slices, [OUT, I0, OUT])  # I with nothing before it
    logits[2, B0] = 5.0  # and a first word that is nearly a beginning
    assert spans(text, entities(text, slices, [logits], 4)) == [(0, "alice smith")]


def test_the_pieces_of_a_word_are_one(encoder: Encoder) -> None:
    text = "alicette and rome5x"  # in pieces of a letter
    slices = encoder.encode(text, "prompt")
    tokens = slices[0].tokens - FRAME
    assert tokens > 5
    for place in range(tokens):
        tags = [OUT] * 40
        tags[place] = B0
        for entity in entities(text, slices, tagged(slices, tags, 30.0), 4):
            assert text[entity.start : entity.end] in ("alicette", "and", "rome5x")


def test_each_token_is_decided_where_it_is_farther_from_the_edge(encoder: Encoder) -> None:
    text = "one two three four five " * 10
    slices = encoder.encode(text, "prompt")
    assert len(slices) > 3
    logits = [np.full((piece.tokens, TAGS), float(number)) for number, piece in enumerate(slices)]
    scores, offsets = joined(slices, logits, 4)
    assert len(scores) == 50
    assert [text[a:b] for a, b in offsets] == text.split()
    # slices of 13 tokens every 9: of four shared ones the first two belong to the slice before
    assert [int(row[0]) for row in scores] == [max(0, min((at - 2) // 9, len(slices) - 1)) for at in range(50)]


words = st.text(st.sampled_from("ab1 .é-'\u4f60\u0e01🙂_\u00df²"), max_size=60)


@given(text=words, seed=st.integers(0, 10_000), strength=st.floats(0, 8))
@settings(max_examples=150)
def test_no_entity_begins_or_ends_inside_a_word(encoder: Encoder, text: str, seed: int, strength: float) -> None:
    slices = encoder.encode(text, "prompt")
    random = np.random.default_rng(seed)
    logits = [random.normal(0, strength, (piece.tokens, TAGS)) for piece in slices]
    found = entities(text, slices, logits, 4)
    for entity in found:
        assert 0 <= entity.start < entity.end <= len(text)
        assert entity.label in (0, 1)
        assert math.isfinite(entity.logit)
        for at in (entity.start, entity.end):
            around = text[max(at - 1, 0) : at + 1]
            assert at in (0, len(text)) or not all(char.isalnum() and char < "\u2e80" for char in around)
    assert all(a.end <= b.start for a, b in pairwise(found))


@given(words=st.integers(1, 5), seed=st.integers(0, 10_000))
@settings(max_examples=80)
def test_viterbi_is_the_best_of_all_sequences_that_can_be(words: int, seed: int) -> None:
    emissions = np.random.default_rng(seed).normal(0, 2, (words, TAGS))

    def possible(path: tuple[int, ...]) -> bool:
        return all(
            tag in (OUT, B0, B1) or before in (tag - 1, tag) for before, tag in zip((OUT, *path), path, strict=False)
        )

    def total(path: tuple[int, ...]) -> float:
        return float(sum(emissions[word, tag] for word, tag in enumerate(path)))

    best = max(filter(possible, product(range(TAGS), repeat=words)), key=total)
    assert tuple(_viterbi(emissions)) == best


def test_a_flood_of_entities_is_linear(encoder: Encoder) -> None:
    text = "a " * 8000
    slices = encoder.encode(text, "prompt")
    logits = [np.zeros((piece.tokens, TAGS)) for piece in slices]
    for each in logits:
        each[:, B0] = 1.0
    assert len(entities(text, slices, logits, 4)) == 8000
