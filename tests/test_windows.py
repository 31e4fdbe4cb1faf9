"""Windows are a function of the text alone, cover it, and never cut what must not be cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy import windows
from guardproxy.types import Scope, Segment, Window
from guardproxy.windows import Windower, windows_of

TEXTS = st.lists(
    st.one_of(
        st.text(st.sampled_from("ab.,!? \n\té漢。𝒳"), max_size=40),
        st.sampled_from(
            ["word ", "x" * 300, "漢字。" * 30, "-----BEGIN RSA PRIVATE KEY-----\n", "-----END KEY-----\n"]
        ),
    ),
    max_size=60,
).map("".join)


def segment(text: str) -> Segment:
    return Segment("c", (), "assistant", Scope.COMPLETION, text)


def shape(found: list[Window]) -> list[tuple[int, int, int, int, str]]:
    return [(w.context_start, w.start, w.end, w.release, w.text) for w in found]


def in_pieces(text: str, cuts: list[int]) -> list[Window]:
    windower = Windower(segment(""))
    found: list[Window] = []
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    for start, end in pairwise(edges):
        found += windower.feed(text[start:end])
    return found + windower.finish()


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 4000), max_size=60))
def test_windows_do_not_depend_on_how_the_text_arrives(text: str, cuts: list[int]) -> None:
    assert shape(in_pieces(text, cuts)) == shape(windows_of(segment(text)))


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_windows_do_not_depend_on_it_character_by_character(text: str) -> None:
    assert shape(in_pieces(text[:1500], list(range(1500)))) == shape(windows_of(segment(text[:1500])))


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_windows_cover_the_text_without_gap_and_each_says_what_it_is(text: str) -> None:
    position = 0
    for window in windows_of(segment(text)):
        assert window.start == position
        assert window.context_start <= window.start <= window.release <= window.end
        assert window.text == text[window.context_start : window.end]
        assert window.start - window.context_start <= windows.CONTEXT
        position = window.release
    assert position == len(text)


@settings(max_examples=100, deadline=None)
@given(TEXTS.filter(bool), st.integers(0, 1 << 20), st.integers(1, windows.HOLDBACK))
def test_any_phrase_up_to_the_holdback_is_whole_in_a_window_that_may_report_it(text: str, at: int, size: int) -> None:
    start = at % len(text)
    end = min(len(text), start + size)
    assert any(
        w.context_start <= start < w.release and start >= w.start and end <= w.end for w in windows_of(segment(text))
    )


@pytest.mark.parametrize("before", range(0, 200, 7))
def test_a_token_is_never_parted(before: int) -> None:
    token = "t" * (windows.TOKEN - windows.HOLDBACK - 1)
    text = "a " * before + token + " and so on" * 300
    start = text.index(token)
    assert any(w.start <= start < w.release and start + len(token) <= w.end for w in windows_of(segment(text)))


@pytest.mark.parametrize("before", [0, 30, 63, 64, 90, 500])
def test_a_private_key_is_one_window(before: int) -> None:
    armour = "-----BEGIN " + "RSA PRIVATE KEY-----\n" + "MIIEabcd0123\n" * 120 + "-----END " + "RSA PRIVATE KEY-----\n"
    text = "word. " * before + armour + "and then more text. " * 50
    start = text.index("-----BEGIN")
    assert any(w.start <= start < w.release and start + len(armour) <= w.end for w in windows_of(segment(text)))


def test_an_armour_that_never_ends_holds_no_more_than_its_bound() -> None:
    text = "-----BEGIN " + "PRIVATE KEY-----\n" + "A" * 50_000
    windower = Windower(segment(""))
    held = 0
    released = 0
    for start in range(0, len(text), 100):
        for window in windower.feed(text[start : start + 100]):
            released = window.release
        held = max(held, windower.length - released)
    assert held <= windows.BLOCK + windows.LARGEST + windows.SLACK + 200


def test_the_first_window_is_small() -> None:
    first = windows_of(segment("a short word or two more " * 100))[0]
    assert first.end <= windows.SMALLEST * 3 // 2
    assert first.release >= 10


def test_history_gives_the_text_so_far() -> None:
    text = "one two three. " * 60
    windower = Windower(segment(""))
    for start in range(0, len(text), 7):
        for window in windower.feed(text[start : start + 7]):
            assert "".join(window.history)[: window.end] == text[: window.end]
