"""The one writer. What is not edited stays as it was, byte for byte: unknown members, number formats, white space,
escapes.

Edits are given by path and code points of the string there; a path may lead through a JSON document inside a string.
They are turned, inside out, into splices of the JSON text, and only those characters change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from guardproxy.types import Edit, Mark, Path
from guardproxy.wire.json_text import escaped, literal_spans, string_value, unit_offsets

Splice = tuple[int, int, str]
"""Replace [start, end) of a text by the string."""


def patch(document: bytes, edits: Iterable[Edit], emptied: Iterable[Path] = ()) -> bytes:
    """The document with the edits made and the values at `emptied` replaced by null. Edits of one place must not
    overlap.
    """
    text = document.decode()
    return splice(text, splices(text, edits, emptied)).encode()


def splice(text: str, changes: Sequence[Splice]) -> str:
    """`text` with the splices made; they must not overlap."""
    if not changes:
        return text
    out: list[str] = []
    position = 0
    for start, end, replacement in sorted(changes):
        out += (text[position:start], replacement)
        position = end
    return "".join((*out, text[position:]))


def splices(text: str, edits: Iterable[Edit], emptied: Iterable[Path] = ()) -> list[Splice]:
    """What to change in the JSON text `text`. An edit of a place that is not there changes nothing."""
    plain: dict[Path, list[Edit]] = defaultdict(list)
    nested: dict[Path, list[Edit]] = defaultdict(list)
    for edit in edits:
        if Mark.JSON in edit.path:
            step = edit.path.index(Mark.JSON)
            inner = Edit(edit.path[step + 1 :], edit.start, edit.end, edit.replacement, literal=edit.literal)
            nested[edit.path[:step]].append(inner)
        else:
            plain[edit.path].append(edit)
    nulls = set(emptied)
    spans = literal_spans(text, {*plain, *nested, *nulls})
    changes: list[Splice] = [(*spans[path], "null") for path in nulls if path in spans]
    for path in {*plain, *nested} - nulls:
        if path in spans:
            start, end = spans[path]
            changes += _literal(text[start:end], start, plain[path], nested[path])
    return changes


def _literal(literal: str, at: int, plain: Sequence[Edit], nested: Sequence[Edit]) -> list[Splice]:
    """Splices for one literal that stands at `at`."""
    value = string_value(literal)
    if value is None or any(edit.literal for edit in plain):
        return [(at, at + len(literal), f'"{escaped("".join(edit.replacement for edit in plain))}"')]
    changes = [(edit.start, edit.end, edit.replacement) for edit in plain]
    if nested:
        changes += splices(value, nested)
    offsets = unit_offsets(literal)
    return [(at + offsets[start], at + offsets[end], escaped(replacement)) for start, end, replacement in changes]
