"""Disguises come off, honest prose stays, and every plain character knows the original ones behind it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.normalise import Plain, normalise

SAMPLES = {
    "full-width digits": ("１２３－４５", "123-45"),
    "arabic digits": ("٣٤٥", "345"),
    "mixed-script digits": ("1٢३4", "1234"),
    "mathematical letters": ("𝐣𝐨𝐡𝐧@𝘦𝘹.com", "john@ex.com"),
    "ligature": ("ﬁne", "fine"),
    "zero width": ("jo\u200bhn", "john"),
    "soft hyphen": ("jo\u00adhn", "john"),
    "bidi": ("\u202ejohn\u202c", "john"),
    "variation selector and keycap": ("4\ufe0f\u20e31\ufe0f\u20e3", "41"),
    "tag characters": ("jo\U000e0041\U000e007fhn", "john"),
    "hangul filler": ("jo\u3164hn", "john"),
    "zalgo": ("j\u0335o\u0336h\u0337n\u0338", "john"),
    "accent composed": ("e\u0301te\u0301", "été"),
    "accent on a digit": ("4\u03011", "41"),
    "dashes": ("1‐2‑3‒4–5—6−7", "1-2-3-4-5-6-7"),
    "spaces": ("1\u00a02\u20093\u30004", "1 2 3 4"),
    "C0 controls": ("4\x001\x7f1", "411"),
    "cyrillic in latin": ("jоhn@еxample.com", "john@example.com"),
    "wholly look-alike local part": ("сосо@example.com", "coco@example.com"),
    "look-alike domain": ("john@аррӏе.com", "john@apple.com"),
    "ideographic stop": ("john@example。com", "john@example.com"),
    "greek": ("ραypal.com", "paypal.com"),
    "json escape": ("john\\u0040example.com", "john@example.com"),
    "braced escape": ("john\\u{40}example.com", "john@example.com"),
    "hex escape": ("john\\x40example.com", "john@example.com"),
    "decimal entity": ("john&#64;example.com", "john@example.com"),
    "hex entity": ("john&#x40;example.com", "john@example.com"),
    "named entities": ("john&commat;example&period;com", "john@example.com"),
    "percent": ("john%40example.com", "john@example.com"),
    "twice escaped": ("john%2540example.com", "john@example.com"),
    "escape made by an escape": ("%4%300", "@0"),
    "escaped look-alike": ("\\u0430pple", "apple"),
    "escape behind a zero width": ("%\u200b40", "@"),
    "escape with a look-alike x": ("\\х40", "@"),
    "escaped white space": ("ssn\\n078", "ssn\n078"),
    "escaped quotes": ('{\\"a\\": 1}', '{"a": 1}'),
    "lone surrogate": ("a\ud800b", "a\ufffdb"),
    "curly quotes": ("“it’s”", '"it\'s"'),
}


@pytest.mark.parametrize(("text", "plain"), SAMPLES.values(), ids=SAMPLES)
def test_a_disguise_comes_off(text: str, plain: str) -> None:
    assert normalise(text).text == plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Plain ASCII, with R&D at 50% and a back\\slash.",
        "C:\\temp\\new folder",
        "Привет, это текст про API и ключи; т.е. обычная проза.",
        "Ελληνικό κείμενο με API και αριθμούς 42",
        "Schöne Grüße aus Málaga, l'été à Łódź",
        "नमस्ते दुनिया",
        "你好，世界。这是一个测试。",
        "안녕하세요 세계",
        "สวัสดีชาวโลก",
    ],
)
def test_honest_text_keeps_its_letters(text: str) -> None:
    plain = normalise(text).text
    assert plain.replace(",", "，") == text.replace(",", "，")


def test_ascii_without_escapes_is_the_same_object() -> None:
    text = "The quick brown fox & 100% of C:\\dogs"
    assert normalise(text).text is text
    assert normalise(text) == Plain(text)


def test_same_length_replacements_need_no_maps() -> None:
    assert normalise("a\u2014b\u2019c") == Plain("a-b'c")


def test_an_edit_takes_the_invisible_characters_inside_with_it() -> None:
    text = "mail \u200bjo\u200b\u200bhn\u200b now"
    plain = normalise(text)
    start = plain.text.index("john")
    begin, end = plain.original(start, start + 4)
    assert text[begin:end].strip("\u200b") == "jo\u200b\u200bhn"
    assert text[:begin] + text[end:] in ("mail \u200b now", "mail  now")


def test_an_escape_maps_to_all_its_characters() -> None:
    text = "a%2540b"
    plain = normalise(text)
    assert plain.text == "a@b"
    assert plain.original(1, 2) == (1, 6)


def test_only_invisible_characters_leave_nothing() -> None:
    assert normalise("\u200b\u200b").text == ""


PIECES = [*'ab 4;x\\&%u{}#0nt"@.', "\u200b", "\u0301", "о", "х", "ﬁ", "４", "。", "\u0335", "é", "%4", "&#", "\\u00"]
nasty = st.lists(st.one_of(st.sampled_from(PIECES), st.characters()), max_size=30).map("".join)


@settings(max_examples=300, deadline=None)
@given(nasty)
def test_maps_are_monotone_in_range_and_cover_everything(text: str) -> None:
    plain = normalise(text)
    if plain.starts:
        assert len(plain.starts) == len(plain.ends) == len(plain.text)
        assert all(0 <= a < b <= len(text) for a, b in zip(plain.starts, plain.ends, strict=True))
        assert list(plain.starts) == sorted(plain.starts)
        assert list(plain.ends) == sorted(plain.ends)
    elif plain.text:
        assert len(plain.text) == len(text)
    if plain.text:
        assert plain.original(0, len(plain.text)) == (0, len(text))


@settings(max_examples=300, deadline=None)
@given(nasty)
def test_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text).text
    assert normalise(once).text == once
    once.encode()  # the pattern engine needs UTF-8


def _time(text: str) -> float:
    times = []
    for _ in range(2):
        begin = time.process_time()
        normalise(text)
        times.append(time.process_time() - begin)
    return min(times)


@pytest.mark.parametrize("piece", ["%25", "\u200b", "&#64;", "\\\\", "о", "e\u0301", "&" * 3, "а@b。"])
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (30_000 // len(piece))
    # twice if linear, four times if quadratic; the best of a few tries, for the machine may be busy
    assert any(_time(text + text) < 3 * max(_time(text), 0.003) for _ in range(5))
