"""The glance at a stream's events never sees anything else than reading them properly does."""

import json
from typing import Any

import jiter
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.wire.chat import ChatDialect
from guardproxy.wire.likeness import Likeness

DIALECT = ChatDialect()
TEXT = st.text(st.sampled_from('ab"\\\n\x00é漢😀{}:,'), min_size=1, max_size=6)


def data(content: Any, index: int = 0, more: dict[str, Any] | None = None, *, spaced: bool = False) -> bytes:
    choice = {"index": index, "delta": {"content": content, **(more or {})}, "finish_reason": None}
    document = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return (
        b"data: " + json.dumps(document, separators=(", ", ": ") if spaced else (",", ":"), ensure_ascii=False).encode()
    )


EVENTS = st.one_of(
    st.builds(data, TEXT),
    st.builds(data, TEXT, st.integers(0, 1)),
    st.builds(data, TEXT, more=st.dictionaries(st.sampled_from(["refusal", "x"]), TEXT, max_size=1)),
    st.builds(data, TEXT, spaced=st.just(True)),
    # What would be another document if it were spliced between the quotes of an event seen before.
    st.sampled_from(
        [
            data("ab").replace(b'"ab"', b'"a","content":"b"'),
            data("ab").replace(b'"ab"', b'"a","refusal":"b"'),
            data("ab").replace(b'"ab"', b'"a\xff"'),
            data("ab").replace(b'"ab"', b'"a\\u0062"'),
            data("ab").replace(b'"ab"', b'""'),
            data("ab").replace(b'"ab"', b"null"),
        ]
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_what_is_seen_at_a_glance_is_what_is_read(events: list[bytes]) -> None:
    likeness = Likeness()
    for event in events:
        seen = likeness.text(event)
        try:
            delta = DIALECT.delta(jiter.from_json(event[6:], catch_duplicate_keys=True, allow_inf_nan=False), "")
        except ValueError:
            assert seen is None
            continue
        if seen is None:
            likeness.learn(event, delta)
            continue
        assert [(s.channel, s.path, s.text) for s in delta.stretches] == [
            (likeness.stretch.channel, likeness.stretch.path, seen)  # type: ignore[union-attr]
        ]
        assert (delta.segments, delta.parts, delta.closes, delta.failed) == ((), (), (), False)


def test_ordinary_streams_are_seen_at_a_glance() -> None:
    likeness = Likeness()
    first = data("one")
    assert likeness.text(first) is None
    likeness.learn(first, DIALECT.delta(json.loads(first[6:]), ""))
    assert [likeness.text(data(word)) for word in ("two", "é漢", 'a "quote"', "", "four")] == [
        "two",
        "é漢",
        None,
        None,
        "four",
    ]
