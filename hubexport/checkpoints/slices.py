"""Joins values that TensorFlow stores in pieces: partitioned variables, and all values in V1 checkpoints.

A piece is a slice of the value: in each dimension a start and a length, or the whole dimension. Its key in the table
encodes the value's name and these numbers, so that keys sort like names and numbers: see
tensorflow/core/util/saved_tensor_slice_util.cc and tensorflow/core/lib/strings/ordered_code.cc.
"""

from collections.abc import Sequence
import math
import re

import numpy as np

from hubexport.checkpoints.stored_values import DamageError
from hubexport.networks.ops import Shape
from hubexport.protos import Message

# All keys of pieces begin with it: the number 0.
PIECE_KEY = b"\0"

Region = tuple[slice, ...]

_END_OF_NAME = b"\0\1"
_ESCAPES = {b"\0": b"\0\xff", b"\xff": b"\xff\0"}
# The length of a whole dimension: -1.
_WHOLE = b"\x7f"


def piece_key(name: str, piece: Message) -> bytes:
    """Returns the key of a piece.

    Args:
        name: the value's name.
        piece: the piece's TensorSliceProto, accepted by `regions`.
    """
    escaped = re.sub(rb"[\0\xff]", lambda match: _ESCAPES[match[0]], name.encode())
    rank = len(piece.extent)
    rank_bytes = rank.to_bytes((rank.bit_length() + 7) // 8, "big")
    key = PIECE_KEY + escaped + _END_OF_NAME + bytes([len(rank_bytes)]) + rank_bytes
    for extent in piece.extent:
        key += _encode_ordered(extent.start) + (_encode_ordered(extent.length) if extent.HasField("length") else _WHOLE)
    return key


def regions(pieces: Sequence[Message], shape: Shape) -> list[Region]:
    """Returns the region of a value that each of its pieces covers.

    Args:
        pieces: the pieces' TensorSliceProtos.
        shape: the shape of the whole value.
    Raises:
        DamageError: a piece exceeds the value, or together they do not have the value's number of elements.
    """
    covered = [_region(piece, shape) for piece in pieces]
    if sum(math.prod(region_shape(region)) for region in covered) != math.prod(shape) or not covered:
        raise DamageError("its pieces do not cover it exactly")
    return covered


def region_shape(region: Region) -> Shape:
    """Returns the shape of a piece."""
    return tuple(part.stop - part.start for part in region)


def join_pieces(shape: Shape, item_bytes: int, where: Sequence[Region], pieces: Sequence[bytes]) -> bytes:
    """Returns the bytes of a whole value.

    Args:
        shape: the shape of the whole value.
        item_bytes: the size of an element in bytes.
        where: the region of each piece, from `regions`.
        pieces: the bytes of each piece, as many as its region needs.
    Raises:
        DamageError: pieces overlap.
    """
    if len(pieces) == 1:
        return pieces[0]
    dtype = np.dtype(f"V{item_bytes}")
    whole, covered = np.empty(shape, dtype), np.zeros(shape, bool)
    for region, data in zip(where, pieces, strict=True):
        if covered[region].any():
            raise DamageError("its pieces overlap")
        covered[region] = True
        whole[region] = np.frombuffer(data, dtype).reshape(region_shape(region))
    return whole.tobytes()


def _region(piece: Message, shape: Shape) -> Region:
    if len(piece.extent) != len(shape):
        raise DamageError(f"a piece has {len(piece.extent)} dimensions, the value {len(shape)}")
    region = []
    for extent, size in zip(piece.extent, shape, strict=True):
        length = extent.length if extent.HasField("length") else size
        if extent.start < 0 or length < 0 or extent.start + length > size:
            raise DamageError("a piece reaches out of the value")
        region.append(slice(extent.start, extent.start + length))
    return tuple(region)


def _encode_ordered(number: int) -> bytes:
    """Encodes a non-negative number: as many ones as it takes bytes, then its bits, the first of which is 0."""
    length = number.bit_length() // 7 + 1
    return (((1 << length) - 1) << 7 * length | number).to_bytes(length, "big")
