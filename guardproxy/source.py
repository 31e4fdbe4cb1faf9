"""Reads YAML so that every value knows its line and column, and nothing in it means anything by surprise.

Only what the YAML 1.2 core schema says is a number or a truth value is one: `no` is a word, `12:30` is no number and a
date is text. Duplicate keys, tags (which can name Python objects) and documents that unfold without end are errors.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import yaml

from guardproxy.strict import Placed, Problems, clip

MOST_VALUES = 200_000
MOST_DEPTH = 40
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")}
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE"}
_FALSE = {"false", "False", "FALSE"}
_INT = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)


def read_yaml(data: bytes | str, name: str, problems: Problems) -> Placed | None:
    """The document in `data` with places "name:line:column", counted from 1; None where it cannot be read at all.

    An empty document is a Placed None. Complaints go to `problems`.
    """
    try:
        content = data if isinstance(data, str) else data.decode("utf-8-sig")
        _check_depth(content, name)
        root = yaml.compose(content, Loader=_LOADER)
        return Placed(None, f"{name}:1:1") if root is None else _Builder(name, problems).build(root)
    except UnicodeDecodeError as error:
        problems.add(name, f"not UTF-8 text (byte {error.start})")
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(name, mark) if mark else name
        problems.add(place, f"not readable as YAML: {error.problem or error.context or 'malformed'}")
        return None
    except yaml.YAMLError:
        problems.add(name, "not readable as YAML: it holds characters that YAML does not allow")
        return None
    except _TooMuch as error:
        problems.add(str(error), f"nested more than {MOST_DEPTH} deep, or more than {MOST_VALUES} values")
        return None


class _Builder:
    """Turns composed nodes into Placed values. Aliases are unfolded, up to MOST_VALUES and MOST_DEPTH."""

    def __init__(self, name: str, problems: Problems) -> None:
        self._name, self._problems = name, problems
        self._left = MOST_VALUES

    def build(self, node: Any, depth: int = 0) -> Placed:
        place = _place(self._name, node.start_mark)
        self._left -= 1
        if depth > MOST_DEPTH or self._left < 0:
            raise _TooMuch(place)
        if node.tag not in _TAGS:
            self._problems.add(place, f"the tag `{clip(node.tag)}` is not allowed here; write the plain value")
        if isinstance(node, yaml.MappingNode):
            return Placed(self._mapping(node, depth), place)
        if isinstance(node, yaml.SequenceNode):
            return Placed([self.build(item, depth + 1) for item in node.value], place)
        plain = node.style is None or node.style == ""
        return Placed(_scalar(node.value) if plain else node.value, place, node.value)

    def _mapping(self, node: Any, depth: int) -> dict[str, Placed]:
        members: dict[str, Placed] = {}
        for key, value in node.value:
            place = _place(self._name, key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add(place, "a key must be a single word or text")
            elif key.value in members:
                first = members[key.value].key_place.removeprefix(f"{self._name}:")
                self._problems.add(place, f"the key `{clip(key.value)}` is written twice (first at {first})")
            else:
                members[key.value] = replace(self.build(value, depth + 1), key_place=place)
        return members


class _TooMuch(Exception):
    """The document unfolds into too much; the message is the place."""


def _check_depth(content: str, name: str) -> None:
    """Raises _TooMuch before the composer, which recurses in C, meets a document that would overflow its stack."""
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_DEPTH:
                raise _TooMuch(_place(name, event.start_mark))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _place(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


def _scalar(typed: str) -> str | int | float | bool | None:
    if typed in _NULL:
        return None
    if typed in _TRUE:
        return True
    if typed in _FALSE:
        return False
    if _INT.fullmatch(typed):
        return int(typed)
    return float(typed) if _FLOAT.fullmatch(typed) else typed
