"""JSON rendered as text: every name and leaf has its place, and the text is linear in the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.types import Mark, Piece, Scope, Segment
from guardproxy.wire.common import (
    all_names,
    embedded,
    error_body,
    event_bytes,
    flatten,
    has_text,
    is_name,
    joined,
    messages_error_body,
)

AT = {"channel": "c", "role": "r", "scope": Scope.TOOL_CALL}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def flat(value: Any) -> Segment:
    segment = flatten(value, ("x",), channel="c", role="r", scope=Scope.TOOL_CALL)
    assert segment is not None
    return segment


def test_an_object_as_lines_with_pieces() -> None:
    segment = flat({"to": "ann", "who": {"ages": [7, "old"], "ok": True, "none": None}})
    assert segment.text == "to: ann\nwho:\nages:\n7\nold\nok: \nnone: "
    assert [(segment.text[piece.start : piece.end], piece.path, piece.literal) for piece in segment.pieces] == [
        ("to", ("x", "to", Mark.KEY), False),
        ("ann", ("x", "to"), False),
        ("who", ("x", "who", Mark.KEY), False),
        ("ages", ("x", "who", "ages", Mark.KEY), False),
        ("7", ("x", "who", "ages", 0), True),
        ("old", ("x", "who", "ages", 1), False),
        ("ok", ("x", "who", "ok", Mark.KEY), False),
        ("none", ("x", "who", "none", Mark.KEY), False),
    ]
    assert (segment.channel, segment.path, segment.role, segment.scope) == ("c", ("x",), "r", Scope.TOOL_CALL)


def test_numbers_read_as_they_were_meant() -> None:
    assert flat({"card": 4111e12, "x": 0.5, "y": 1e300, "z": float("inf"), "n": -3}).text == (
        "card: 4111000000000000\nx: 0.5\ny: 1e+300\nz: inf\nn: -3"
    )


@pytest.mark.parametrize("value", [{}, [], [[], {}], "", None, True, {"": ""}, [False]])
def test_nothing_to_say_is_no_segment(value: Any) -> None:
    assert flatten(value, (), **AT) is None


@given(JSON)
def test_every_string_and_number_has_its_place(value: Any) -> None:
    segment = flatten(value, (), **AT)
    expected: list[tuple[Any, str]] = []

    def walk(inner: Any, path: tuple[Any, ...]) -> None:
        if isinstance(inner, dict):
            for key, member in inner.items():
                expected.append(((*path, key, Mark.KEY), key))
                walk(member, (*path, key))
        elif isinstance(inner, list):
            for index, member in enumerate(inner):
                walk(member, (*path, index))
        elif isinstance(inner, str):
            expected.append((path, inner))
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            expected.append((path, "number"))

    walk(value, ())
    expected = [(path, text) for path, text in expected if text]
    pieces = segment.pieces if segment else ()
    text = segment.text if segment else ""
    assert [(p.path, "number" if p.literal else text[p.start : p.end]) for p in pieces] == expected
    ends = [0, *(piece.end for piece in pieces)]
    assert all(end <= piece.start for end, piece in zip(ends, pieces, strict=False))


def test_an_array_does_not_repeat_its_name() -> None:
    name = "k" * 1000
    assert len(flat({name: ["v"] * 1000}).text) < 4000


def test_embedded_json_is_flattened_behind_the_mark() -> None:
    segment = embedded(' {"to":"\\u0061nn"} ', ("x",), **AT)
    assert (segment.text, segment.path) == ("to: ann", ("x", Mark.JSON))
    assert segment.pieces == (Piece(0, 2, ("x", Mark.JSON, "to", Mark.KEY)), Piece(4, 7, ("x", Mark.JSON, "to")))


@pytest.mark.parametrize("text", ["hello", '"quoted"', "12", "{}", "[true]", "{broken", "", "\ud800", '{"a": NaN}'])
def test_what_is_no_document_stays_text(text: str) -> None:
    assert embedded(text, ("x",), **AT) == Segment("c", ("x",), "r", Scope.TOOL_CALL, text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\u0061nn@example.org", "a": "b"}',
        '{"a": "\\u0061nn@example.org", "n": NaN}',
        '{"a": "\\u0061nn@example.org", "b": "cut sho',
        '{"a": "\\u0061nn@example.org"} trailing',
        "[" * 300 + '"\\u0061nn@example.org"' + "]" * 300,
        '{"a": "\\u0061nn@example.org", "b": "\\ud800"}',
        '{"a": "\\u0061nn@example.org", "b": "\\ud83d\\ude00" x}',
    ],
)
def test_escapes_hide_nothing_in_what_only_a_lenient_parser_reads(text: str) -> None:
    segment = embedded(text, ("x",), **AT)
    assert "ann@example.org" in segment.text
    assert segment.pieces == (Piece(0, len(segment.text), ("x",), literal=True),)
    segment.text.encode()


@given(JSON)
def test_embedding_never_raises_and_keeps_every_string(value: Any) -> None:
    segment = embedded(json.dumps(value), ("x",), **AT)
    if isinstance(value, dict | list) and has_text(value):
        for piece in segment.pieces:
            if not piece.literal:
                is_key = piece.path[-1] is Mark.KEY
                inner: Any = value
                for step in piece.path[2:-2] if is_key else piece.path[2:]:
                    inner = inner[step]
                assert not is_key or piece.path[-2] in inner
                assert (piece.path[-2] if is_key else inner) == segment.text[piece.start : piece.end]


def test_names_and_texts() -> None:
    assert is_name("call_1.a:b/c-D")
    assert not is_name("two words")
    assert not is_name("a@b.org")
    assert not is_name("x" * 129)
    assert not is_name("naïve")
    assert not is_name("line\n")
    assert has_text({"a": [{"b": "c"}]})
    assert has_text({"two words": 1})
    assert not has_text({"a": [1, None, {"b": ""}]})
    assert all_names({"a": ["b", 1, {"c": "d"}]})
    assert not all_names({"a": ["b c"]})


def test_joined_texts_have_nothing_between_them() -> None:
    segment = joined([(("a",), "xy"), (("b",), "z")], ("p",), channel="c", role="r", scope=Scope.PROMPT)
    assert (segment.text, segment.pieces) == ("xyz", (Piece(0, 2, ("a",)), Piece(2, 3, ("b",))))


def test_bodies_of_ours() -> None:
    assert event_bytes({"a": "é\n"}) == b'data: {"a":"\\u00e9\\n"}\n\n'
    assert event_bytes({}, "ping") == b"event: ping\ndata: {}\n\n"
    assert error_body("m", "c") == {
        "error": {"message": "m", "type": "invalid_request_error", "param": None, "code": "c"}
    }
    assert messages_error_body("m", "c")["error"]["message"] == "m"
