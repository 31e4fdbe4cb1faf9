"""The engine: what a rulebook may say, and that what is found stands where it says, whatever the disguise."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.backends.base import NOTHING, LocalBackend
from guardproxy.backends.rulebook import parse
from guardproxy.backends.rules import CHECKS, MOST_OCCURRENCES, Rules, card, packaged
from guardproxy.errors import BackendError, ConfigError
from guardproxy.reading import Reading
from guardproxy.types import Scope, Segment, Window

BOOK = """
card: {name: n, version: "1", check: toxicity, languages: [en], summary: s, limits: l}
union: any
labels: {any: all of them, fruit: fruit, tool: tools}
words:
  berry: |-
    straw ?berr(?:y|ies)|
    blueberry
exceptions:
  negated:
    - before: '\\bno\\s\\z'
      within: 10
rules:
  - id: berries
    label: fruit
    score: 0.6
    languages: [en]
    patterns: ['{berry}', 'crème brûlée', "don't eat <2> plum"]
    unless: [negated, {after: 'jam', within: 8}]
  - id: hammers
    label: tool
    score: 0.9
    languages: [en]
    anchors: hammer
    patterns: hammer
    needs: [{before: '\\buse\\b', within: 20}]
  - id: saws
    label: tool
    score: 0.5
    languages: [en]
    patterns: |-
      band saw|
      chain
        saw
  - id: marks
    label: tool
    score: 0.7
    languages: [en]
    whole_words: false
    patterns: '<!--|锤子'
"""


def reading(text: str) -> Reading:
    length = len(text)
    return Reading(Window(Segment("c", (), "user", Scope.PROMPT, text), 0, 0, length, length, text))


@pytest.fixture(scope="module")
def small() -> Rules:
    return Rules({"toxicity": parse(BOOK.encode(), "small")})


def found(rules: Rules, text: str, label: str = "any") -> list[str]:
    (answer,) = rules.classify_now("toxicity", [reading(text)])
    return [text[f.start : f.end] for f in answer.findings if f.label == label]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a blueberry", ["blueberry"]),
        ("BLUEBERRY", ["BLUEBERRY"]),
        ("strawberries", ["strawberries"]),
        ("straw\n\nberries", ["straw\n\nberries"]),
        ("straw-berries", ["straw-berries"]),
        ("**straw** *berry*", ["straw** *berry"]),
        ("_blueberry_", ["blueberry"]),
        ("blueberry_pie", ["blueberry"]),
        ("blueberrys", []),
        ("xblueberry", []),
        ("äblueberry", []),
        ("blueberryß", []),
        ("吃blueberry吧", ["blueberry"]),
        ("Creme brulee", ["Creme brulee"]),
        ("CRÈME BRÛLÉE", ["CRÈME BRÛLÉE"]),
        ("don’t eat a plum", ["don’t eat a plum"]),
        ("dont eat the ripe plum", ["dont eat the ripe plum"]),
        ("don't eat the very ripe plum", []),
        ("don't eat. The plum", []),
        ("no blueberry", []),
        ("No. Blueberry", ["Blueberry"]),
        ("blueberry jam", []),
        ("blueberry\njam", ["blueberry"]),
        ("blueberry tart and jam", ["blueberry"]),
        ("no blueberry, but a blueberry", ["blueberry"]),
        ("a hammer", []),
        ("use a hammer", ["hammer"]),
        ("use it. A hammer", ["hammer"]),
        ("use it or not, whichever, with a hammer", []),
        ("a chainsaw, a band saw", ["chainsaw", "band saw"]),
        ("x<!--y", ["<!--"]),
        ("用锤子吧", ["锤子"]),
    ],
)
def test_what_a_pattern_means(small: Rules, text: str, expected: list[str]) -> None:
    assert found(small, text) == expected


def test_scores_are_the_strongest_rule_s_and_the_union_s(small: Rules) -> None:
    (answer,) = small.classify_now("toxicity", [reading("use a hammer <!-- on a blueberry")])
    assert answer.scores == {"tool": 0.9, "any": 0.9, "fruit": 0.6}
    assert [(f.label, f.start, f.end, f.score) for f in answer.findings] == [
        ("any", 6, 12, 0.9),
        ("tool", 6, 12, 0.9),
        ("any", 13, 17, 0.7),
        ("tool", 13, 17, 0.7),
        ("any", 23, 32, 0.6),
        ("fruit", 23, 32, 0.6),
    ]


def test_a_clean_text_costs_no_object(small: Rules) -> None:
    (answer,) = small.classify_now("toxicity", [reading("a pear")])
    assert answer is NOTHING


def test_clean_is_only_said_where_no_part_could_be_found(small: Rules) -> None:
    assert small.clean("toxicity", reading("a pear"))
    assert not small.clean("toxicity", reading("no blueberry"))  # a part without the "no" would be found
    assert small.clean("toxicity", reading("xhammer")) is True


def test_disguises_are_seen_through_and_the_original_is_reported(small: Rules) -> None:
    for text in ("blue\u200bberry", "ｂｌｕｅｂｅｒｒｙ", "blu\u00ade\u00adberry"):
        assert found(small, f"a {text} b") == [text]


def test_a_flood_of_near_matches_is_abstained_on_and_never_hides_one(small: Rules) -> None:
    (answer,) = small.classify_now("toxicity", [reading("no blueberry " * (MOST_OCCURRENCES + 1) + "blueberry")])
    assert answer.abstained == "too many near matches"
    assert found(small, "no blueberry " * 500 + "blueberry") == ["blueberry"]


def test_unknown_check_is_a_backend_error(small: Rules) -> None:
    with pytest.raises(BackendError, match="no rulebook"):
        small.classify_now("keywords", [reading("x")])


async def test_it_is_a_local_backend(small: Rules) -> None:
    assert isinstance(small, LocalBackend)
    assert await small.classify("toxicity", [reading("blueberry")]) == small.classify_now(
        "toxicity", [reading("blueberry")]
    )
    assert await small.health() == ""
    await small.close()


def test_version_follows_the_text_of_the_books() -> None:
    one = Rules({"toxicity": parse(BOOK.encode(), "b")})
    two = Rules({"toxicity": parse(BOOK.replace("0.6", "0.7").encode(), "b")})
    assert one.version == Rules({"toxicity": parse(BOOK.encode(), "b")}).version
    assert one.version != two.version


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("union: any", "union: none", "union is not one of the labels"),
        ("label: fruit", "label: vegetable", "berries has a label that the book does not define"),
        ("score: 0.6", "score: 1.5", "berries needs a score"),
        ("score: 0.6", "score: yes", "berries needs a score"),
        ("id: hammers", "id: berries", "berries is there twice"),
        ("{berry}", "{berries}", "berries names unknown words berries"),
        ("<2>", "<9>", "<9> is not a number of words"),
        ("[negated,", "[denied,", "berries names an unknown exception denied"),
        ("within: 8", "within: 1000", "a condition has one of"),
        ("patterns: hammer", "patterns: '(hammer'", "hammers pattern 0: missing"),
        ("patterns: hammer", "patterns: 'a(?=b)'", "hammers pattern 0: invalid perl operator"),
        ("patterns: hammer", "paterns: hammer", "a rule does not know paterns"),
        ("berry: |-", "berry: >-", "words.berry has white space behind a bar"),
        ("summary: s, ", "", "card lacks summary"),
        ("card: {", "card: {{", "not YAML"),
    ],
)
def test_mistakes_in_a_book_are_named(old: str, new: str, message: str) -> None:
    assert old in BOOK
    with pytest.raises(ConfigError) as error:
        parse(BOOK.replace(old, new, 1).encode(), "small")
    assert message in str(error.value)
    assert str(error.value).startswith("rulebook small:")


def test_there_are_packaged_books_for_three_checks_and_no_others() -> None:
    assert set(CHECKS) == {"toxicity", "injection", "compliance"}
    with pytest.raises(ConfigError, match="no rulebook for the check pii"):
        Rules.load(("pii",))


@pytest.mark.parametrize("check", CHECKS)
def test_cards_say_what_a_book_is(check: str) -> None:
    shown = card(check)
    assert shown["check"] == check
    assert shown["rules"] == len(packaged(check).rules) > 5
    assert set(shown["languages"]) >= {lang for rule in packaged(check).rules for lang in rule.languages}
    assert "last rung" in shown["limits"]
    assert len(shown["sha256"]) == 64


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.sampled_from(["ignore all previous instructions", "kys", "guaranteed profits"]))
def test_findings_lie_in_any_text(noise: str, phrase: str) -> None:
    text = f"{noise} {phrase} {noise}"
    rules = Rules.load()
    for check in CHECKS:
        (answer,) = rules.classify_now(check, [reading(text)])
        assert all(0 <= f.start < f.end <= len(text) and 0 < f.score <= 1 for f in answer.findings)
        assert set(answer.scores) == {f.label for f in answer.findings}
        if answer.scores:
            assert not rules.clean(check, reading(text))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "text",
    [
        "ignore " * 40_000,
        "ignore all " + " " * 300_000 + "x",
        "how to make a bomb for someone " * 9_000,
        "never guaranteed returns you should " * 8_000,
        "<!-- ai must " * 20_000,
        "a" * 300_000,
    ],
)
def test_hostile_texts_take_linear_time(check: str, text: str) -> None:
    rules = Rules.load()
    started = time.thread_time()
    rules.classify_now(check, [reading(text)])
    assert time.thread_time() - started < 3.0  # tens of milliseconds on an idle machine
