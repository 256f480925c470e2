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
    packer = _Packer(schema, size)
    return packer.finished(root, identifier)


class _Packer:
    """Adds tables to a flatbuffer, from the innermost ones on.

    Args:
        schema: see `packed`.
        size: about how many bytes of values there will be.
    """

    def __init__(self, schema: Any, size: int) -> None:
        self._schema = schema
        self._builder = flatbuffers.Builder(size + _ROOM_FOR_TABLES)
        self._places: dict[tuple[str, bytes], Any] = {}

    def finished(self, root: Table, identifier: bytes) -> bytearray:
        """Returns a flatbuffer with a root table."""
        self._builder.Finish(self._add(root), identifier)
        return self._builder.Bytes[self._builder.Head() :]

    def _add(self, value: Any) -> Any:
        """Adds what a field refers to, and returns its place; or returns a number as it is."""
        match value:
            case Table():
                # A table cannot be begun within another.
                fields = {name: self._add(field) for name, field in value.fields.items()}
                getattr(self._schema, f"{value.kind}Start")(self._builder)
                for name, field in fields.items():
                    getattr(self._schema, f"{value.kind}Add{name}")(self._builder, field)
                return getattr(self._schema, f"{value.kind}End")(self._builder)
            case str():
                return self._builder.CreateSharedString(value)
            case np.ndarray():
                # Many tensors have the same shape, or the same zero points.
                key = (value.dtype.str, value.tobytes())
                if key not in self._places:
                    self._places[key] = self._builder.CreateNumpyVector(value)
                return self._places[key]
            case bytes():
                return self._add_aligned(value)
            case list():
                return self._add_places([self._add(item) for item in value])
        return value

    def _add_places(self, places: Sequence[int]) -> Any:
        self._builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        return self._builder.EndVector()

    def _add_aligned(self, content: bytes) -> Any:
        builder = self._builder
        builder.StartVector(1, len(content), _ALIGNMENT)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        return builder.EndVector()
