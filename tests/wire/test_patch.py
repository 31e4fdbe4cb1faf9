"""The writer: what is edited changes, everything else stays byte for byte."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.types import Edit, Mark, Path
from guardproxy.wire.patch import patch

TEXT = st.text(st.sampled_from('ab"\\/\n\u00e9\u20ac\U0001f600 {}[]:,'), max_size=12)
VALUES = st.recursive(
    st.one_of(TEXT, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=20,
)


def strings(value: Any, path: Path = ()) -> list[tuple[Path, str]]:
    if isinstance(value, str):
        return [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, member in items for found in strings(member, (*path, key))]


def put(value: Any, path: Path, new: str) -> Any:
    if not path:
        return new
    if path[0] is Mark.JSON:
        return json.dumps(put(json.loads(value), path[1:], new), ensure_ascii=False)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)  # type: ignore[index]
    return copy


@settings(max_examples=200, deadline=None)
@given(VALUES, st.booleans(), st.data())
def test_an_edit_changes_its_place_and_nothing_else(value: Any, ascii_only: bool, data: st.DataObject) -> None:
    document = json.dumps({"doc": value, "tail": 1.50}, ensure_ascii=ascii_only, indent=1).encode()
    places = strings({"doc": value})
    assert patch(document, []) == document
    if not places:
        return
    path, text = data.draw(st.sampled_from(places))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    new = data.draw(TEXT)
    out = patch(document, [Edit(path, start, end, new)])
    assert json.loads(out) == put({"doc": value, "tail": 1.50}, path, text[:start] + new + text[end:])
    if start == end and new == "":
        assert out == document


@settings(max_examples=100, deadline=None)
@given(VALUES, st.data())
def test_an_edit_inside_a_document_in_a_string(value: Any, data: st.DataObject) -> None:
    inner = json.dumps({"in": value}, ensure_ascii=data.draw(st.booleans()))
    document = json.dumps({"arguments": inner}, ensure_ascii=data.draw(st.booleans())).encode()
    places = strings({"in": value})
    if not places:
        return
    path, text = data.draw(st.sampled_from(places))
    out = patch(document, [Edit(("arguments", Mark.JSON, *path), 0, len(text), "<new>")])
    assert json.loads(json.loads(out)["arguments"]) == put({"in": value}, path, "<new>")


def test_what_is_not_edited_keeps_its_form() -> None:
    document = b'{ "a" : "mail b\\u006fb@x.org \\/ \\u00e9" , "n":1.0e+2,"big":12345678901234567890123, "z":null }'
    out = patch(document, [Edit(("a",), 5, 14, "[E]")])
    assert out == b'{ "a" : "mail [E] \\/ \\u00e9" , "n":1.0e+2,"big":12345678901234567890123, "z":null }'


def test_numbers_names_and_emptied_places() -> None:
    document = b'{"card": 4111, "b@x.org": {"k": true}, "logprobs": {"content": [1, "x"]}}'
    edits = [Edit(("card",), 0, 4, "[CARD]", literal=True), Edit(("b@x.org", Mark.KEY), 0, 7, "[E]")]
    assert patch(document, edits, [("logprobs",)]) == b'{"card": "[CARD]", "[E]": {"k": true}, "logprobs": null}'


def test_a_surrogate_pair_is_one_character() -> None:
    assert patch(b'{"a":"x\\ud83d\\ude00y"}', [Edit(("a",), 1, 2, "-")]) == b'{"a":"x-y"}'


def test_a_place_that_is_not_there_changes_nothing() -> None:
    assert patch(b'{"a":"b"}', [Edit(("c", 0), 0, 1, "x"), Edit(("a", Mark.JSON, "q"), 0, 1, "x")][:1]) == b'{"a":"b"}'
