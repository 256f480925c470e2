"""Values that TensorFlow stores in pieces: those of partitioned variables, and all in V1 checkpoints.

A piece is a slice of the value: in each dimension a start and a length, or all of it. Its key in the table is made of
the value's name and these numbers, coded so that keys are in the order of what they are made of: see
tensorflow/core/util/saved_tensor_slice_util.cc and tensorflow/core/lib/strings/ordered_code.cc.
"""

from collections.abc import Sequence
import math
import re

import numpy as np

from hubexport.checkpoints.stored_values import DamageError
from hubexport.networks.layers import Shape
from hubexport.protos import Message

# What all keys of pieces begin with: the number 0.
PIECE_KEY = b"\0"

Region = tuple[slice, ...]

_END_OF_NAME = b"\0\1"
_ESCAPES = {b"\0": b"\0\xff", b"\xff": b"\xff\0"}
# As a length: -1.
_WHOLE = b"\x7f"


def piece_key(name: str, piece: Message) -> bytes:
    """Returns the key of a piece.

    Args:
        name: of the value.
        piece: its TensorSliceProto, of which `regions` approves.
    """
    escaped = re.sub(rb"[\0\xff]", lambda found: _ESCAPES[found[0]], name.encode())
    rank = len(piece.extent)
    rank_bytes = rank.to_bytes((rank.bit_length() + 7) // 8, "big")
    key = PIECE_KEY + escaped + _END_OF_NAME + bytes([len(rank_bytes)]) + rank_bytes
    for extent in piece.extent:
        key += _ordered(extent.start) + (_ordered(extent.length) if extent.HasField("length") else _WHOLE)
    return key


def regions(pieces: Sequence[Message], shape: Shape) -> list[Region]:
    """Returns where in a value its pieces are.

    Args:
        pieces: their TensorSliceProtos.
        shape: of the whole value.
    Raises:
        DamageError: one reaches out of the value, or they have not as many elements as it.
    """
    found = [_region(piece, shape) for piece in pieces]
    if sum(math.prod(shape_of(region)) for region in found) != math.prod(shape) or not found:
        raise DamageError("its pieces do not cover it exactly")
    return found


def shape_of(region: Region) -> Shape:
    """Returns the shape of a piece."""
    return tuple(one.stop - one.start for one in region)


def joined(shape: Shape, item_bytes: int, where: Sequence[Region], pieces: Sequence[bytes]) -> bytes:
    """Returns the bytes of a whole value.

    Args:
        shape: of the whole value.
        item_bytes: how many bytes an element has.
        where: what `regions` returned.
        pieces: the bytes of each, as many as it needs.
    Raises:
        DamageError: they overlap.
    """
    if len(pieces) == 1:
        return pieces[0]
    dtype = np.dtype(f"V{item_bytes}")
    whole, covered = np.empty(shape, dtype), np.zeros(shape, bool)
    for region, data in zip(where, pieces, strict=True):
        if covered[region].any():
            raise DamageError("its pieces overlap")
        covered[region] = True
        whole[region] = np.frombuffer(data, dtype).reshape(shape_of(region))
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


def _ordered(number: int) -> bytes:
    """Codes a number of 0 or more: its length as so many ones and a zero, then its bits, of which the first is 0."""
    length = number.bit_length() // 7 + 1
    return (((1 << length) - 1) << 7 * length | number).to_bytes(length, "big")
