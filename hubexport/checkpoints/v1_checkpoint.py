"""Reads TensorFlow's V1 checkpoints, the format before 2017, without TensorFlow.

Such a checkpoint is one table. Its empty key has a `SavedTensorSlices` that lists the values with their dtypes, shapes
and pieces. Each piece has its own entry: another `SavedTensorSlices`, with a `SavedSlice` in it, and in that a
`TensorProto` with nothing but the numbers. See tensorflow/core/util/saved_tensor_slice.proto and
saved_tensor_slice_util.h.
"""

from collections.abc import Iterator
import math
from typing import BinaryIO

from google.protobuf.message import DecodeError
import numpy as np

from hubexport.arrays import CHUNK_BYTES
from hubexport.checkpoints.dtypes import bits_dtype, tensorflow_dtype
from hubexport.checkpoints.leveldb_table import LeveldbTable
from hubexport.checkpoints.slices import join_pieces, piece_key, region_shape, regions
from hubexport.checkpoints.stored_values import StoredValues, checked_shape, unique_dict
from hubexport.protos import SavedTensorSlices
from hubexport.system.damage import DamageError, damage_in
from hubexport.system.proto_wire import Bytes, bytes_fields, read_varints

_META_KEY = b""
# A hundred times the list of a MobileNet V2's training checkpoint.
_MAX_META_BYTES = 4 << 20

# Field numbers: in a SavedTensorSlices, a SavedSlice, and a TensorProto.
_DATA, _TENSOR, _CONTENT = 2, 3, 4
# Fields of a TensorProto whose bytes are NumPy's.
_FIXED_FIELDS = {"float32": 5, "float64": 6, "complex64": 9, "complex128": 12}
# Fields with varints; other dtypes use `int_val`.
_VARINT_FIELDS = {"int64": 10, "bool": 11, "float16": 13, "bfloat16": 13, "uint32": 16, "uint64": 17}
_INT_FIELD = 7
# Of a piece, at least this much is read at a time.
_MIN_PART_BYTES = 4096


class V1Reader(StoredValues):
    """The values of a V1 checkpoint by name.

    One block of the file at a time is in memory, and of a large block only parts.

    Args:
        file: the file, open for reading for as long as values are read.
    Raises:
        DamageError: the file is not a V1 checkpoint, or its list of values is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._table = LeveldbTable(file)
        found = self._table.find(_META_KEY)
        if found is None or len(found[1]) > _MAX_META_BYTES:
            raise DamageError("it has no list of its values, or one that is too long")
        block, place = found
        try:
            tensors = SavedTensorSlices.FromString(block[place.start : place.stop]).meta.tensor
        except DecodeError as error:
            raise DamageError("its list of values cannot be decoded") from error
        self._tensors = unique_dict((tensor.name, tensor) for tensor in tensors)
        self.shapes = {tensor.name: checked_shape(dim.size for dim in tensor.shape.dim) for tensor in tensors}

    def dtype(self, name: str) -> str:
        return tensorflow_dtype(self._tensors[name].type)

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        """Reads the bytes of one value; None for strings and unknown dtypes."""
        bits = bits_dtype(self.dtype(name))
        return None if bits is None else self._value_chunks(name, bits.itemsize)

    def _value_chunks(self, name: str, item_bytes: int) -> Iterator[bytes]:
        dtype, shape, slices = self.dtype(name), self.shapes[name], self._tensors[name].slice
        with damage_in(name):
            where = regions(slices, shape)
            keys = [piece_key(name, piece) for piece in slices]
            if len(set(keys)) < len(keys):
                raise DamageError("it has a piece twice")
            pieces = []
            for key, region in zip(keys, where, strict=True):
                if (found := self._table.find(key)) is None:
                    raise DamageError("a piece is missing")
                piece = _Piece(*found, dtype, item_bytes)
                wanted = math.prod(region_shape(region)) * item_bytes
                if (stored := piece.count_bytes()) != wanted:
                    raise DamageError(f"{stored} bytes do not fit {dtype} of shape {list(region_shape(region))}")
                pieces.append(piece)
            # All pieces have a part in memory at the same time.
            part_bytes = max(_MIN_PART_BYTES, CHUNK_BYTES // len(pieces))
            yield from join_pieces(shape, item_bytes, where, [piece.parts(part_bytes) for piece in pieces])


class _Piece:
    """The numbers of a piece, which is the value of an entry: a `SavedTensorSlices`.

    Args:
        block: the block that has the entry.
        place: the place of the entry's value in the block.
        dtype: the dtype of the numbers.
        item_bytes: the size of a number in NumPy's memory layout.
    Raises:
        DamageError: the entry is damaged, or has no numbers.
    """

    def __init__(self, block: Bytes, place: range, dtype: str, item_bytes: int) -> None:
        self._block = block
        self._item_bytes = item_bytes
        fields = [place]
        for number in (_DATA, _TENSOR):
            fields = [inner for outer in fields for inner in bytes_fields(block, outer, number)]
            if len(fields) != 1:
                raise DamageError("a piece holds no values")
        [tensor] = fields
        self._places = bytes_fields(block, tensor, _CONTENT)
        self._in_varints = not self._places and dtype not in _FIXED_FIELDS
        if not self._places:
            number = _FIXED_FIELDS.get(dtype) or _VARINT_FIELDS.get(dtype, _INT_FIELD)
            self._places = bytes_fields(block, tensor, number)

    def count_bytes(self) -> int:
        """Returns how many bytes the numbers take in NumPy's memory layout."""
        if not self._in_varints:
            return sum(map(len, self._places))
        # Each number ends with a byte whose top bit is 0.
        parts = (np.frombuffer(part, np.int8) for part in self._stored_parts(CHUNK_BYTES))
        return self._item_bytes * sum(int(np.count_nonzero(part >= 0)) for part in parts)

    def parts(self, part_bytes: int) -> Iterator[bytes]:
        """Yields the numbers in NumPy's memory layout, from `part_bytes` of the file at a time."""
        if not self._in_varints:
            return self._stored_parts(part_bytes)
        # Floats of 16 bits are stored as their bits.
        bits = np.dtype(f"<u{self._item_bytes}")
        return (numbers.astype(bits).tobytes() for numbers in read_varints(self._stored_parts(part_bytes)))

    def _stored_parts(self, part_bytes: int) -> Iterator[bytes]:
        for place in self._places:
            for start in range(place.start, place.stop, part_bytes):
                yield self._block[start : min(start + part_bytes, place.stop)]
