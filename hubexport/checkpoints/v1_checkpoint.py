"""Reads TensorFlow's V1 checkpoints, the format before 2017, without TensorFlow.

Such a checkpoint is one table. Its empty key has a `SavedTensorSlices` that lists the values with their dtypes, shapes
and pieces. Each piece has its own entry: another `SavedTensorSlices`, with a `SavedSlice` in it, and in that a
`TensorProto` with nothing but the numbers. See tensorflow/core/util/saved_tensor_slice.proto and
saved_tensor_slice_util.h.
"""

import math
from typing import BinaryIO

from google.protobuf.message import DecodeError

from hubexport.checkpoints.dtypes import bits_dtype, tensorflow_dtype
from hubexport.checkpoints.leveldb_table import LeveldbTable
from hubexport.checkpoints.proto_wire import bytes_fields, read_varints
from hubexport.checkpoints.slices import join_pieces, piece_key, region_shape, regions
from hubexport.checkpoints.stored_values import DamageError, StoredValues, checked_shape, damage_in, unique_dict
from hubexport.protos import SavedTensorSlices

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


class V1Reader(StoredValues):
    """The values of a V1 checkpoint by name; one block of the file at a time is in memory.

    Args:
        file: the file, open for reading for as long as values are read.
    Raises:
        DamageError: the file is not a V1 checkpoint, or its list of values is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._table = LeveldbTable(file)
        listed = self._table.find(_META_KEY)
        if listed is None or len(listed) > _MAX_META_BYTES:
            raise DamageError("it has no list of its values, or one that is too long")
        try:
            tensors = SavedTensorSlices.FromString(listed).meta.tensor
        except DecodeError as error:
            raise DamageError("its list of values cannot be decoded") from error
        self._tensors = unique_dict((tensor.name, tensor) for tensor in tensors)
        self.shapes = {tensor.name: checked_shape(dim.size for dim in tensor.shape.dim) for tensor in tensors}

    def dtype(self, name: str) -> str:
        return tensorflow_dtype(self._tensors[name].type)

    def stored_bytes(self, name: str) -> bytes | None:
        """Reads the bytes of one value; None for strings and unknown dtypes."""
        dtype, shape, slices = self.dtype(name), self.shapes[name], self._tensors[name].slice
        if (bits := bits_dtype(dtype)) is None:
            return None
        with damage_in(name):
            where = regions(slices, shape)
            keys = [piece_key(name, piece) for piece in slices]
            if len(set(keys)) < len(keys):
                raise DamageError("it has a piece twice")
            pieces = []
            for key, region in zip(keys, where, strict=True):
                stored = self._table.find(key)
                if stored is None:
                    raise DamageError("a piece is missing")
                pieces.append(_piece_bytes(stored, dtype, bits.itemsize))
                if len(pieces[-1]) != math.prod(region_shape(region)) * bits.itemsize:
                    raise DamageError(
                        f"{len(pieces[-1])} bytes do not fit {dtype} of shape {list(region_shape(region))}"
                    )
            return join_pieces(shape, bits.itemsize, where, pieces)


def _piece_bytes(entry: bytes, dtype: str, item_bytes: int) -> bytes:
    """Returns the numbers of a piece in NumPy's memory layout."""
    fields = [memoryview(entry)]
    for number in (_DATA, _TENSOR):
        fields = [inner for outer in fields for inner in bytes_fields(outer, number)]
        if len(fields) != 1:
            raise DamageError("a piece holds no values")
    [tensor] = fields
    if content := bytes_fields(tensor, _CONTENT):
        return b"".join(content)
    if dtype in _FIXED_FIELDS:
        return b"".join(bytes_fields(tensor, _FIXED_FIELDS[dtype]))
    packed = b"".join(bytes_fields(tensor, _VARINT_FIELDS.get(dtype, _INT_FIELD)))
    # Floats of 16 bits are stored as their bits.
    return read_varints(packed).astype(f"<u{item_bytes}").tobytes()
