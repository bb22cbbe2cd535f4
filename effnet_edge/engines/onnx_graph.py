"""Nodes and constants of an .onnx file, read without the library of the format.

Only what our int8 models consist of is understood: a graph without branches within nodes, and
constants whose bytes lie in the file itself. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from effnet_edge.protocol_buffer import (
    ProtocolBuffer,
    length_tag,
    packed_varints,
    varint_tag,
)

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
"""TensorProto.DataType."""

_ITEM_SIZES = {FLOAT: 4, UINT8: 1, INT8: 1, INT32: 4}
_SMALL = 64
"""Constants of so many bytes are kept when their place is found."""
_MOST = (1 << 31) - 1

_MODEL_GRAPH = length_tag(7)
_GRAPH_NODE, _GRAPH_CONSTANT = length_tag(1), length_tag(5)
_GRAPH_INPUT, _GRAPH_OUTPUT = length_tag(11), length_tag(12)
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME = length_tag(1), length_tag(2), length_tag(3)
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = length_tag(4), length_tag(5), length_tag(7)
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = length_tag(1), varint_tag(3)
_ATTRIBUTE_INTEGERS, _ATTRIBUTE_PACKED = varint_tag(8), length_tag(8)
_TENSOR_SIZE, _TENSOR_SIZES, _TENSOR_TYPE = varint_tag(1), length_tag(1), varint_tag(2)
_TENSOR_NAME, _TENSOR_DATA = length_tag(8), length_tag(9)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = length_tag(13), varint_tag(14)
_VALUE_NAME, _VALUE_TYPE = length_tag(1), length_tag(2)
_TYPE_TENSOR, _TYPE_ITEM, _TYPE_SHAPE = length_tag(1), varint_tag(1), length_tag(2)
_SHAPE_SIZE, _SIZE_VALUE = length_tag(1), varint_tag(1)


class Constant(NamedTuple):
    """A tensor: `TensorProto.DataType`, sizes, and its little-endian bytes: ``data``, or where
    they are. Their number is that which type and sizes make."""

    kind: int
    shape: tuple[int, ...]
    data: bytes | None
    position: int
    bytes: int


class Node(NamedTuple):
    """One call. ``attributes`` are those that are integers or lists of integers."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, tuple[int, ...]]


class Value(NamedTuple):
    """An input or output of the graph; a size that isn't a number is None."""

    name: str
    kind: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of the file, constants by name."""

    nodes: tuple[Node, ...]
    constants: dict[str, Constant]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


def read_graph(file: ProtocolBuffer) -> Graph:
    """Read the structure of the ONNX model ``file``, and of its constants only the smallest.

    Raises ValueError for what is no ONNX model, or one with constants of another kind.
    """
    graphs = [(at, size) for tag, size, at in file.fields() if tag == _MODEL_GRAPH]
    if len(graphs) != 1:
        raise ValueError("it has no graph" if not graphs else "it has several graphs")
    ((start, length),) = graphs
    nodes, inputs, outputs = [], [], []
    constants: dict[str, Constant] = {}
    for tag, size, at in file.fields(start, start + length):
        if tag == _GRAPH_NODE:
            nodes.append(_node(file, at, at + size))
        elif tag == _GRAPH_CONSTANT:
            name, constant = _constant(file, at, at + size)
            if name in constants:
                raise ValueError(f"it has two constants {name!r}")
            constants[name] = constant
        elif tag == _GRAPH_INPUT:
            inputs.append(_value(file, at, at + size))
        elif tag == _GRAPH_OUTPUT:
            outputs.append(_value(file, at, at + size))
    return Graph(tuple(nodes), constants, tuple(inputs), tuple(outputs))


def _text(file: ProtocolBuffer, position: int, size: int) -> str:
    return file.read(position, size).decode("utf-8", "replace")


def _node(file: ProtocolBuffer, start: int, end: int) -> Node:
    texts = {_NODE_NAME: "", _NODE_OPERATOR: "", _NODE_DOMAIN: ""}
    inputs, outputs = [], []
    attributes: dict[str, tuple[int, ...]] = {}
    for tag, size, at in file.fields(start, end):
        if tag == _NODE_INPUT:
            inputs.append(_text(file, at, size))
        elif tag == _NODE_OUTPUT:
            outputs.append(_text(file, at, size))
        elif tag == _NODE_ATTRIBUTE:
            name, values = _attribute(file, at, at + size)
            attributes[name] = values
        elif tag in texts:
            texts[tag] = _text(file, at, size)
    return Node(
        texts[_NODE_NAME],
        texts[_NODE_OPERATOR],
        texts[_NODE_DOMAIN],
        tuple(inputs),
        tuple(outputs),
        attributes,
    )


def _attribute(file: ProtocolBuffer, start: int, end: int) -> tuple[str, tuple[int, ...]]:
    name, values = "", []
    for tag, value, at in file.fields(start, end):
        if tag == _ATTRIBUTE_NAME:
            name = _text(file, at, value)
        elif tag in (_ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS):
            values.append(value)
        elif tag == _ATTRIBUTE_PACKED:
            values += packed_varints(file.read(at, value))
    return name, tuple(value - (1 << 64) if value >> 63 else value for value in values)


def _constant(file: ProtocolBuffer, start: int, end: int) -> tuple[str, Constant]:
    name, kind, position, length = "", 0, 0, 0
    shape: list[int] = []
    for tag, value, at in file.fields(start, end):
        if tag == _TENSOR_DATA:
            position, length = at, value
        elif tag == _TENSOR_SIZE:
            shape.append(value)
        elif tag == _TENSOR_NAME:
            name = _text(file, at, value)
        elif tag == _TENSOR_TYPE:
            kind = value
        elif tag == _TENSOR_SIZES:
            shape += packed_varints(file.read(at, value))
        elif tag == _TENSOR_EXTERNAL or (tag == _TENSOR_LOCATION and value):
            raise ValueError(f"its constant {name!r} is in another file")
    item = _ITEM_SIZES.get(kind)
    if item is None:
        raise ValueError(f"its constant {name!r} has the type {kind}, which our models don't use")
    if not all(1 <= size <= _MOST for size in shape) or math.prod(shape) * item != length:
        raise ValueError(f"its constant {name!r} of shape {shape} has {length} bytes")
    data = file.read(position, length) if length <= _SMALL else None
    return name, Constant(kind, tuple(shape), data, position, length)


def _value(file: ProtocolBuffer, start: int, end: int) -> Value:
    name, kind = "", 0
    shape: list[int | None] = []
    for tag, size, at in file.fields(start, end):
        if tag == _VALUE_NAME:
            name = _text(file, at, size)
        elif tag == _VALUE_TYPE:
            for span in _within(file, at, size, _TYPE_TENSOR):
                for inner, value, place in file.fields(*span):
                    if inner == _TYPE_ITEM:
                        kind = value
                    elif inner == _TYPE_SHAPE:
                        sizes = _within(file, place, value, _SHAPE_SIZE)
                        shape = [_size(file, *each) for each in sizes]
    return Value(name, kind, tuple(shape))


def _within(file: ProtocolBuffer, start: int, size: int, wanted: int) -> list[tuple[int, int]]:
    """Where messages of the tag ``wanted`` in a message start and end."""
    fields = file.fields(start, start + size)
    return [(at, at + length) for tag, length, at in fields if tag == wanted]


def _size(file: ProtocolBuffer, start: int, end: int) -> int | None:
    found = [value for tag, value, _ in file.fields(start, end) if tag == _SIZE_VALUE]
    return found[-1] if found else None
