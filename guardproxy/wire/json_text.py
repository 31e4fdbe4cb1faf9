"""Where things stand in a JSON text: the literal behind a path, and the characters of a literal behind those of its
string.

For the writer only (patch.py), and only once something is to be edited. The text has been parsed strictly before, so
it is valid, has no duplicate members and is not too deep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from guardproxy.types import Mark, Path

Span = tuple[int, int]

_TOKEN = re.compile(r'[{}\[\]:,]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s{}\[\]:,"]+')
_UNIT = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL)


def literal_spans(text: str, paths: Iterable[Path]) -> dict[Path, Span]:
    """The span of each path's value in `text`, or of the member's name for a path that ends in Mark.KEY.

    Linear in the text. A path that does not exist in it is not in the answer.
    """
    wanted = set(paths)
    found: dict[Path, Span] = {}
    here: list[str | int] = []  # the path of the value that comes next
    starts: list[int] = []  # of the containers that are open
    name_next = False
    for token in _TOKEN.finditer(text):
        kind = token[0][0]
        if kind in "{[":
            starts.append(token.start())
            here.append("" if kind == "{" else 0)
            name_next = kind == "{"
        elif kind in "}]":
            here.pop()
            _note(found, wanted, here, (starts.pop(), token.end()))
            name_next = False
        elif kind == ",":
            if isinstance(here[-1], int):
                here[-1] += 1
            else:
                name_next = True
        elif kind == ":":
            name_next = False
        elif name_next:
            here[-1] = json.loads(token[0])
            if (key := (*here, Mark.KEY)) in wanted:
                found[key] = token.span()
        else:
            _note(found, wanted, here, token.span())
    return found


def _note(found: dict[Path, Span], wanted: set[Path], here: Sequence[str | int], span: Span) -> None:
    if (path := tuple(here)) in wanted:
        found[path] = span


def string_value(literal: str) -> str | None:
    """The string that a literal stands for; None if it is a number, true, false, null or a container."""
    return json.loads(literal) if literal[:1] == '"' else None


def unit_offsets(literal: str) -> list[int]:
    """Where each code point of a string literal's value starts in the literal, and where its closing quote is.

    The list is one longer than the value. An escaped surrogate pair is one code point.
    """
    inner = literal[1:-1]
    if "\\" not in inner:
        return list(range(1, len(literal)))
    return [1 + unit.start() for unit in _UNIT.finditer(inner)] + [len(literal) - 1]


def escaped(text: str) -> str:
    """`text` as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
