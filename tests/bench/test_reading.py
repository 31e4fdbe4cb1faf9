"""A benchmark's reading of streams is the same for every cutting of the bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.bench.reading import Tally, has_text

STREAM = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\r\n\r\n'
    b": keep-alive\n\n"
    b'data: {"choices":[{"delta":{"content":"\xc3\xa9"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_every_cutting_reads_alike(places: list[int]) -> None:
    bounds = [0, *sorted(places), len(STREAM)]
    tally = Tally()
    for start, end in pairwise(bounds):
        tally.feed(STREAM[start:end], float(end))
    assert (tally.events, tally.ended, tally.failed, tally.declined) == (3, True, False, False)
    first = STREAM.index(b"data: ", STREAM.index(b"keep-alive"))
    assert tally.first is not None
    assert tally.last is not None
    assert first < tally.first <= tally.last


def test_a_failed_and_a_declined_stream() -> None:
    tally = Tally()
    tally.feed(b'data: {"error": {"message": "x"}}\n\n', 1.0)
    assert (tally.failed, tally.ended, tally.first) == (True, False, None)
    tally = Tally()
    tally.feed(b'data: {"choices":[{"delta":{},"finish_reason":"content_filter"}]}\n\ndata: [DONE]\n\n', 1.0)
    assert (tally.declined, tally.ended, tally.events) == (True, True, 1)


def test_what_counts_as_text() -> None:
    assert has_text(b'{"choices":[{"delta":{"tool_calls":[{}]}}]}')
    assert not has_text(b'{"choices":[{"delta":{"content":""}}]}')
    assert not has_text(b'{"choices":[],"usage":{}}')
    assert not has_text(b'{"choices":[3]}')
    assert not has_text(b"nonsense")
