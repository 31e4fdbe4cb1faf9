"""Every dialect, every place: a sentence planted anywhere in a document is located, at a path that leads back to it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path as Path_
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.types import Mark, Path, Segment
from guardproxy.wire.base import Delta, Dialect, Located
from guardproxy.wire.chat import ChatDialect
from guardproxy.wire.completions import CompletionsDialect
from guardproxy.wire.embeddings import EmbeddingsDialect
from guardproxy.wire.messages import MessagesDialect
from guardproxy.wire.responses import ResponsesDialect

MARKER = "zq planted words zq"

CHAT, COMPLETIONS, RESPONSES = ChatDialect(), CompletionsDialect(), ResponsesDialect()
EMBEDDINGS, MESSAGES = EmbeddingsDialect(), MessagesDialect()
DIALECTS: dict[str, Dialect] = {each.name: each for each in (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES)}
DOCUMENTS: list[tuple[str, Dialect, str, Any]] = [
    (each["dialect"], DIALECTS[each["dialect"]], each["way"], each["document"])
    for each in json.loads((Path_(__file__).parent / "documents.json").read_text())
]
UNSEEN = {"id", "object", "created", "created_at", "completed_at", "model", "system_fingerprint", "service_tier"} | {
    "usage",
    "obfuscation",
    "item_id",
}
"""The members of a response's or an event's envelope, which the server writes and not the model."""
ENVELOPE_AT = {(), ("response",), ("message",)}


def resolve(document: Any, path: Path) -> Any:
    """What a path leads to."""
    for number, step in enumerate(path):
        if step is Mark.JSON:
            return resolve(json.loads(document), path[number + 1 :])
        if step is Mark.KEY:
            return path[number - 1]
        if path[number + 1 : number + 2] == (Mark.KEY,):
            assert step in document
        else:
            document = document[step]
    return document


def read(dialect: Dialect, way: str, document: Any) -> Located | Delta:
    return dialect.delta(document, "") if way == "delta" else getattr(dialect, way)(document)


def places(located: Located | Delta, document: Any) -> Iterator[tuple[Path, str]]:
    """Every place that was located, with the text there; fails if a path does not lead to its text."""
    if isinstance(located, Delta):
        for stretch in located.stretches:
            assert resolve(document, stretch.path) == stretch.text
            yield stretch.path, stretch.text
    for segment in located.segments:
        yield from _pieces(segment, document)
    for part in located.parts:
        value = resolve(document, part.path)
        yield part.path, value if isinstance(value, str) else ""


def _pieces(segment: Segment, document: Any) -> Iterator[tuple[Path, str]]:
    if not segment.pieces:
        assert resolve(document, segment.path) == segment.text
        yield segment.path, segment.text
    for piece in segment.pieces:
        text = segment.text[piece.start : piece.end]
        if not piece.literal:
            assert resolve(document, piece.path) == text
        yield piece.path, text


def strings(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from strings(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from strings(member, (*path, index))


def objects(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        yield path
    for key, member in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from objects(member, (*path, key))


def planted(document: Any, path: Path, value: Any) -> Any:
    """A copy of the document with `value` at `path`."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    resolve(changed, path[:-1])[path[-1]] = value
    return changed


def is_envelope(way: str, path: Path) -> bool:
    if way == "request" or not path:
        return False
    return any(path[: len(at)] == at and path[len(at)] in UNSEEN for at in ENVELOPE_AT if len(path) > len(at))


def names() -> list[str]:
    return [f"{name}-{way}-{number}" for number, (name, _, way, _) in enumerate(DOCUMENTS)]


@pytest.mark.parametrize(("name", "dialect", "way", "document"), DOCUMENTS, ids=names())
def test_a_sentence_in_the_place_of_any_string_is_located(name: str, dialect: Dialect, way: str, document: Any) -> None:
    for path in strings(document):
        changed = planted(document, path, MARKER)
        found = list(places(read(dialect, way, changed), changed))
        if is_envelope(way, path):
            continue
        assert any(place[: len(path)] == path and MARKER in text for place, text in found), path


@pytest.mark.parametrize("value", [MARKER, {"deep": [{"deeper": MARKER}]}, {MARKER: 1}, [1, [MARKER]]])
@pytest.mark.parametrize(("name", "dialect", "way", "document"), DOCUMENTS, ids=names())
def test_a_member_that_nobody_knows_is_located(
    name: str, dialect: Dialect, way: str, document: Any, value: Any
) -> None:
    for path in objects(document):
        here = (*path, "x_new")
        if is_envelope(way, here) or path[-1:] == ("usage",):
            continue
        changed = planted(document, here, value)
        found = list(places(read(dialect, way, changed), changed))
        assert any(place[: len(here)] == here and MARKER in text for place, text in found), path


@pytest.mark.parametrize(("name", "dialect", "way", "document"), DOCUMENTS, ids=names())
def test_a_member_whose_name_is_a_sentence_is_located(name: str, dialect: Dialect, way: str, document: Any) -> None:
    for path in objects(document):
        here = (*path, MARKER)
        if is_envelope(way, here) or path[-1:] == ("usage",):
            continue
        changed = planted(document, here, True)
        found = list(places(read(dialect, way, changed), changed))
        assert ((*here, Mark.KEY), MARKER) in found, path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(MARKER) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "text", "content", "role", "index", "delta", "arguments", "function", "image_url", "source", "x y",
         "output", "tools", "logprobs", "input", "error", "message", "choices", "id"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("logprobs", [MARKER, [{"token": MARKER}], {"content": [{"token": MARKER}]}])
def test_token_probabilities_in_a_request_are_text_like_any_other(logprobs: Any) -> None:
    part = {"type": "text", "text": "hi", "logprobs": logprobs}
    document = {"messages": [{"role": "user", "content": [part]}]}
    assert any(MARKER in segment.text for segment in ChatDialect().request(document).segments)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(DOCUMENTS), st.data(), JSON)
def test_wrong_types_anywhere_raise_nothing_and_hide_nothing(
    chosen: tuple[str, Dialect, str, Any], data: st.DataObject, value: Any
) -> None:
    _, dialect, way, document = chosen
    spots = [(), *(path for path in [*objects(document), *strings(document)] if path)]
    path = data.draw(st.sampled_from(spots))
    changed = planted(document, path, value)
    found = list(places(read(dialect, way, changed), changed))
    for place in strings(value):
        whole = (*path, *place)
        if resolve(changed, whole) != MARKER or is_envelope(way, whole):
            continue
        assert any(whole[: len(at)] == at or at[: len(whole)] == whole for at, text in found if MARKER in text) or (
            any(whole[: len(at)] == at for at, _ in found)
        ), whole


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES]), JSON, st.sampled_from(["", "error", "x"]))
def test_any_document_at_all_raises_nothing(dialect: Dialect, document: Any, kind: str) -> None:
    dialect.request(document)
    dialect.response(document)
    dialect.delta(document, kind)
    dialect.keep(document)


def test_a_document_as_deep_as_the_parser_allows() -> None:
    deep: Any = MARKER
    for _ in range(195):
        deep = [deep]
    for document in ({"messages": [{"role": "user", "content": deep}]}, {"input": deep}, {"prompt": deep}, {"x": deep}):
        for dialect in (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES):
            assert any(MARKER in segment.text for segment in dialect.request(document).segments)
