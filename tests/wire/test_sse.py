"""SSE reading: however the bytes are split, the same events; whatever a client would read, we read."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.errors import WireError
from guardproxy.wire.sse import Event, SSEReader, encode, event_of, with_data

LINES = st.sampled_from(
    [b"data: {}", b"data:x", b"data: \xc3\xa9", b"data", b": note", b"event: a", b"id: 1", b"x", b""]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(st.tuples(LINES, ENDS), max_size=25), st.booleans()
).map(lambda t: t[0] + b"".join(line + end for line, end in t[1]) + (b"data: open" if t[2] else b""))


def read(raw: bytes, cuts: list[int]) -> list[Event]:
    reader = SSEReader(1 << 20)
    events: list[Event] = []
    edges = [0, *sorted({min(cut, len(raw)) for cut in cuts}), len(raw)]
    for start, end in pairwise(edges):
        events += map(event_of, reader.feed(raw[start:end]))
    return events + reader.finish()


def lines_as_the_specification_has_them(raw: bytes) -> list[bytes]:
    return raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


@settings(max_examples=300, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 200), max_size=30))
def test_events_do_not_depend_on_the_split_and_lose_no_byte(raw: bytes, cuts: list[int]) -> None:
    whole = read(raw, [])
    assert read(raw, cuts) == whole == read(raw, list(range(len(raw))))
    assert b"".join(event.raw for event in whole) == raw


@settings(max_examples=300, deadline=None)
@given(STREAMS)
def test_data_are_those_that_the_specification_says(raw: bytes) -> None:
    expected: list[bytes] = []
    data: list[bytes] = []
    for line in lines_as_the_specification_has_them(raw):
        if line == b"":
            if data:
                expected.append(b"\n".join(data))
            data = []
        elif line == b"data" or line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    if data:
        expected.append(b"\n".join(data))
    assert [event.data for event in read(raw, []) if event.data is not None] == expected


def test_names_and_several_data_lines() -> None:
    (event,) = read(b"event: ping\r\ndata: a\r\ndata:  b\r\n\r\n", [])
    assert (event.kind, event.data) == ("ping", b"a\n b")


def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    reader = SSEReader(1000)
    with pytest.raises(WireError) as raised:
        for _ in range(100):
            reader.feed(b"x" * 100)
    assert raised.value.code == "upstream_event_too_large"


def test_other_data_leave_the_other_lines_as_they_were() -> None:
    event = Event(b": c\r\nevent: a\r\ndata: {\r\ndata: }\r\nid: 7\r\n\r\n", "a", b"{\n}")
    assert with_data(event, b'{"n": 1}') == b': c\r\nevent: a\r\ndata: {"n": 1}\r\nid: 7\r\n\r\n'


def test_data_with_line_ends_stay_one_event() -> None:
    assert read(encode(b"a\nb", "k"), []) == [Event(b"event: k\ndata: a\ndata: b\n\n", "k", b"a\nb")]
