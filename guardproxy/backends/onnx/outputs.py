"""Cuts a serialised ONNX model down to some of its outputs: what those do not need is not in it any more.

Asking a session for fewer outputs saves nothing, since it computes them all; a graph without them does. The model is
walked as protobuf wire format, so that serving needs no onnx package: whole fields are kept or left out, and none is
rewritten but the length of the graph. Numbers below are those of onnx.proto3; parts that no rule here names are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from guardproxy.errors import ConfigError

_GRAPH = 7  # of a ModelProto
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE = 1, 5, 11, 12, 13  # of a GraphProto
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_VALUE_NAME, _TENSOR_NAME = 1, 8
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _Field(NamedTuple):
    """One field of a message. [start, end) is all of it, [body, end) its content."""

    number: int
    wire: int
    start: int
    body: int
    end: int


def only(model: bytes, names: Collection[str]) -> bytes:
    """The model with the outputs `names` alone, in its own order, and the nodes, weights and inputs that they need.

    Raises ConfigError for a name that is no output, and for bytes that are no such model.
    """
    try:
        return _only(memoryview(model), frozenset(names))
    except (IndexError, UnicodeDecodeError):
        raise ConfigError("the graph is not readable as ONNX") from None


def outputs(model: bytes) -> tuple[str, ...]:
    """The names of the model's outputs, in order. Raises ConfigError for bytes that are no such model."""
    data = memoryview(model)
    try:
        graphs = [data[field.body : field.end] for field in _fields(data) if field.number == _GRAPH]
        return tuple(
            _text(graph[field.body : field.end], _VALUE_NAME)
            for graph in graphs
            for field in _fields(graph)
            if field.number == _OUTPUT
        )
    except (IndexError, UnicodeDecodeError):
        raise ConfigError("the graph is not readable as ONNX") from None


def _only(data: memoryview, names: frozenset[str]) -> bytes:
    parts: list[bytes | memoryview] = []
    seen = False
    for field in _fields(data):
        if field.number == _GRAPH and field.wire == _LENGTH:
            seen = True
            graph = _cut(data[field.body : field.end], names)
            parts += [_varint(_GRAPH << 3 | _LENGTH), _varint(sum(map(len, graph))), *graph]
        else:
            parts.append(data[field.start : field.end])
    if not seen:
        raise ConfigError("the graph is not readable as ONNX")
    return b"".join(parts)


def _cut(graph: memoryview, names: frozenset[str]) -> list[memoryview]:
    fields = list(_fields(graph))
    have = {_text(graph[f.body : f.end], _VALUE_NAME) for f in fields if f.number == _OUTPUT}
    if not names or not names <= have:
        raise ConfigError(f"the graph has no output {', '.join(sorted(names - have)) or 'asked for'}")
    wanted, nodes = _needed(graph, fields, names)
    kept: list[memoryview] = []
    for place, field in enumerate(fields):
        body = graph[field.body : field.end]
        if field.number == _NODE:
            keep = place in nodes
        elif field.number == _OUTPUT:
            keep = _text(body, _VALUE_NAME) in names
        elif field.number in (_INPUT, _VALUE):
            keep = _text(body, _VALUE_NAME) in wanted
        elif field.number == _INITIALIZER:
            keep = _text(body, _TENSOR_NAME) in wanted
        else:
            keep = True
        if keep:
            kept.append(graph[field.start : field.end])
    return kept


def _needed(graph: memoryview, fields: list[_Field], names: frozenset[str]) -> tuple[set[str], set[int]]:
    """The values that the outputs `names` are computed from, and the places of the nodes that do it.

    Nodes stand in an order in which each comes behind what it reads, so one way back through them is enough.
    """
    wanted, nodes = set(names), set()
    for place in range(len(fields) - 1, -1, -1):
        field = fields[place]
        if field.number != _NODE:
            continue
        body = graph[field.body : field.end]
        inputs: list[str] = []
        gives = False
        for part in _fields(body):
            value = body[part.body : part.end]
            if part.number == _NODE_INPUT:
                inputs.append(str(value, "utf-8"))
            elif part.number == _NODE_OUTPUT:
                gives = gives or str(value, "utf-8") in wanted
            elif part.number == _NODE_ATTRIBUTE and any(
                inner.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) for inner in _fields(value)
            ):
                raise ConfigError("the graph has branches or loops, which cannot be cut")
        if gives:
            nodes.add(place)
            wanted.update(inputs)
    return wanted, nodes


def _fields(data: memoryview) -> Iterator[_Field]:
    """The message's fields, in order. Raises IndexError where it is none."""
    at, size = 0, len(data)
    while at < size:
        start = at
        key, at = _read(data, at)
        wire = key & 7
        body = at
        if wire == _VARINT:
            _, at = _read(data, at)
        elif wire == _LENGTH:
            length, body = _read(data, at)
            at = body + length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise IndexError
        if at > size:
            raise IndexError
        yield _Field(key >> 3, wire, start, body, at)


def _text(data: memoryview, number: int) -> str:
    """The string in the field `number`, "" if there is none."""
    return next((str(data[f.body : f.end], "utf-8") for f in _fields(data) if f.number == number), "")


def _read(data: memoryview, at: int) -> tuple[int, int]:
    """The varint at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
