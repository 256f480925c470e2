"""Writes flatbuffers from plain data: a `Table` names its fields, and tables are in each other.

The schema's own generated functions write the fields, so that a slot's number and type are nowhere twice.
"""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

# Of the values of tensors, which readers map into memory as they are.
_ALIGNMENT = 16
_ROOM_FOR_TABLES = 2**20


class Table:
    """A table of a schema.

    Args:
        kind: its name in the schema.
        fields: by the schema's name: a number, a text, a table, a list of texts or tables, a one-dimensional array of
            numbers, or bytes, which are aligned. None leaves a field out.
    """

    def __init__(self, kind: str, **fields: Any) -> None:
        self.kind = kind
        self.fields = {name: value for name, value in fields.items() if value is not None}


def packed(root: Table, schema: Any, identifier: bytes, size: int = 0) -> bytearray:
    """Returns a flatbuffer.

    Args:
        root: its root table.
        schema: has the functions `KindStart`, `KindAddField` and `KindEnd` for each kind of table.
        identifier: the four letters that tell the format.
        size: about how many bytes of values it holds.
    """
    builder = flatbuffers.Builder(size + _ROOM_FOR_TABLES)
    builder.Finish(_add(builder, root, schema), identifier)
    return builder.Bytes[builder.Head() :]


def _add(builder: flatbuffers.Builder, value: Any, schema: Any) -> Any:
    """Adds what a field refers to, and returns its place; or returns a number as it is."""
    match value:
        case Table():
            # A table cannot be begun within another.
            fields = {name: _add(builder, field, schema) for name, field in value.fields.items()}
            getattr(schema, f"{value.kind}Start")(builder)
            for name, field in fields.items():
                getattr(schema, f"{value.kind}Add{name}")(builder, field)
            return getattr(schema, f"{value.kind}End")(builder)
        case str():
            return builder.CreateString(value)
        case np.ndarray():
            return builder.CreateNumpyVector(value)
        case bytes():
            return _add_aligned(builder, value)
        case list():
            return _add_places(builder, [_add(builder, item, schema) for item in value])
    return value


def _add_places(builder: flatbuffers.Builder, places: Sequence[int]) -> Any:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()


def _add_aligned(builder: flatbuffers.Builder, content: bytes) -> Any:
    builder.StartVector(1, len(content), _ALIGNMENT)
    builder.head -= len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    return builder.EndVector()
