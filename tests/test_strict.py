"""strict: typed values, unknown keys, suggestions, places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.strict import (
    Placed,
    Problems,
    Reader,
    Unfit,
    clip,
    duration,
    flag,
    number,
    one_of,
    several,
    size,
    suggest,
    text,
    whole,
)


def at(value: object, place: str = "f:1:1") -> Placed:
    return Placed(value, place, "" if value is None else str(value))


def mapping(**members: object) -> Placed:
    return Placed({key: at(value, f"f:2:{n}") for n, (key, value) in enumerate(members.items())}, "f:1:1")


def test_reader_takes_known_keys_and_complains_of_the_rest() -> None:
    problems = Problems()
    reader = Reader(mapping(port=80, hots="x"), problems, "settings")
    assert reader.take("port", whole(1, 99), 1) == 80
    assert reader.take("host", text, "here") == "here"
    reader.finish()
    assert list(problems) == ["f:2:1: unknown key `hots` in settings; did you mean `host`?"]


def test_reader_names_what_is_known_when_nothing_is_near() -> None:
    problems = Problems()
    reader = Reader(mapping(zzzzz=1), problems, "settings")
    reader.take("port", whole(1, 99), 1)
    reader.finish()
    assert list(problems) == ["f:2:0: unknown key `zzzzz` in settings; known here: port"]


def test_reader_collects_missing_and_wrong_values_and_goes_on() -> None:
    problems = Problems()
    reader = Reader(mapping(port="many"), problems, "settings")
    assert reader.take("port", whole(1, 99), 7) == 7
    assert reader.take("name", text, "", required=True) == ""
    reader.finish()
    assert list(problems) == [
        "f:2:0: `port`: expected a whole number from 1 to 99",
        "f:1:1: settings needs `name`",
    ]


def test_reader_of_something_else_than_a_mapping_complains_once() -> None:
    problems = Problems()
    reader = Reader(at("text"), problems, "settings")
    reader.take("name", text, "", required=True)
    reader.finish()
    assert list(problems) == ["f:1:1: expected settings with its keys, not text"]


def test_complaints_sort_by_line_and_column_as_numbers() -> None:
    problems = Problems()
    for place in ("f:10:2", "f:9:30", "f:9:4"):
        problems.add(place, "x")
    problems.sort()
    assert [place for place, _ in problems.found] == ["f:9:4", "f:9:30", "f:10:2"]


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1 h", 3600.0), ("24h", 86400.0)],
)
def test_durations(typed: str, seconds: float) -> None:
    assert duration(at(typed)) == pytest.approx(seconds)


@pytest.mark.parametrize("typed", ["2", 2, "0s", "-1s", "s", "2 weeks", "25h", "1e3s", "nan", "٢s", True, None, [], ""])
def test_what_is_no_duration(typed: object) -> None:
    with pytest.raises(Unfit):
        duration(at(typed))


@pytest.mark.parametrize(
    ("typed", "count"), [("32MiB", 32 << 20), ("10MB", 10_000_000), ("512k", 512 << 10), (1000, 1000), ("1.5KiB", 1536)]
)
def test_sizes(typed: object, count: int) -> None:
    assert size(at(typed)) == count


@pytest.mark.parametrize("typed", ["0", "-5", "1.5", "2TiB", "many", "9" * 400, None, {}])
def test_what_is_no_size(typed: object) -> None:
    with pytest.raises(Unfit):
        size(at(typed))


def test_text_is_what_was_typed() -> None:
    assert text(Placed(1.1, "", "1.10")) == "1.10"
    for value in (None, [], {}):
        with pytest.raises(Unfit):
            text(at(value))


@pytest.mark.parametrize(("typed", "truth"), [(True, True), ("no", False), ("ON", True), ("0", False)])
def test_flags(typed: object, truth: bool) -> None:
    assert flag(at(typed)) is truth


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "1.1", True, "x", "1_0"])
def test_scores_are_in_range(value: object) -> None:
    with pytest.raises(Unfit):
        number(0.0, 1.0)(at(value))


def test_one_of_suggests_and_several_complains_of_every_item() -> None:
    with pytest.raises(Unfit, match="expected one of mask, hash, not `maks`; did you mean `mask`"):
        one_of(("mask", "hash"))(at("maks"))
    node = Placed([at("mask", "f:1:2"), at("x", "f:1:5"), at("y", "f:1:8")], "f:1:1")
    with pytest.raises(Unfit) as raised:
        several(one_of(("mask", "hash")))(node)
    assert [place for place, _ in raised.value.complaints] == ["f:1:5", "f:1:8"]
    assert several(text)(at("alone")) == ("alone",)
    with pytest.raises(Unfit, match="empty"):
        several(text)(Placed([], "f:1:1"))


def test_suggestions_know_hyphens_case_and_beginnings() -> None:
    assert suggest("Max-Body", ["max_body"]) == "; did you mean `max_body`?"
    assert suggest("EMAIL", ["PHONE_NUMBER", "EMAIL_ADDRESS"]) == "; did you mean `EMAIL_ADDRESS`?"
    assert suggest("qqq", ["max_body"]) == ""


def test_a_hostile_word_stays_one_short_line() -> None:
    assert clip("a\nb\x1b[31m" + "x" * 100) == "a?b?[31m" + "x" * 32 + "..."


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_converters_answer_or_raise_unfit(typed: str) -> None:
    messages = []
    for convert in (duration, size, flag, whole(0, 9), number(0, 1), one_of(("a",))):
        try:
            convert(at(typed))  # type: ignore[operator]
        except Unfit as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
