"""near: twins are found wherever they stand, and only twins."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.evaluation import near
from guardproxy.evaluation.near import Pair

WORDS = [f"{a}{b}" for a in ("ba", "co", "du", "fe", "gi", "ho", "lu", "mi") for b in ("lent", "nor", "rish", "tak")]


def texts(count: int, seed: int = 0, words: int = 25) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choice(WORDS) for _ in range(words)) for _ in range(count)]


def test_case_and_space_are_no_difference() -> None:
    assert near.duplicates(["A b\n c", "x", "a  B c", "y", " a b c "]) == [[0, 2, 4]]


def test_a_planted_twin_is_found_and_nothing_else() -> None:
    made = texts(300)
    made += [made[7].replace(" ", "  ").upper(), f"{made[20]} today", made[33][:-30]]
    pairs = near.near(made, ["train"] * 300 + ["test"] * 3)
    assert {(pair.first, pair.second) for pair in pairs} == {(7, 300), (20, 301), (33, 302)}
    assert pairs[0] == Pair(7, 300, 1.0)


def test_jaccard_is_exact() -> None:
    assert near.jaccard("abcdefgh", "abcdefgh") == 1
    assert near.jaccard("abcdef", "bcdefg") == pytest.approx(1 / 3)  # abcde, bcdef | bcdef, cdefg
    assert near.jaccard("abcdef", "uvwxyz") == 0
    assert near.jaccard("", "") == 1


def test_a_crowd_costs_no_more_than_its_number() -> None:
    crowd = [f"thank you for calling, your number is {number}" for number in range(1200)]
    started = time.process_time()
    pairs = near.near([*crowd, "thank you for calling, your number is 77x"], ["train"] * 1200 + ["test"])
    assert time.process_time() - started < 20
    assert any(pair.second == 1200 for pair in pairs)
    assert len(pairs) < 1200 * 16 * 4


@given(st.lists(st.text(max_size=40), max_size=8))
@settings(max_examples=40, deadline=None)
def test_any_text_can_be_looked_at(made: list[str]) -> None:
    for pair in near.near(made, ["train"] * len(made)):
        assert pair.first < pair.second
        assert pair.alike >= near.ALIKE


def test_lone_surrogates_and_long_texts() -> None:
    assert near.near(["\ud800" * 9, "\ud800" * 9], ["a", "b"]) == [Pair(0, 1, 1.0)]
    assert near.near(["x" * 10**6, "y" * 10**6], ["a", "b"]) == []
