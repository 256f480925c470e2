"""Joins values that TensorFlow stores in pieces: partitioned variables, and all values in V1 checkpoints.

A piece is a slice of the value: in each dimension a start and a length, or the whole dimension. Its key in the table
encodes the value's name and these numbers, so that keys sort like names and numbers: see
tensorflow/core/util/saved_tensor_slice_util.cc and tensorflow/core/lib/strings/ordered_code.cc.
"""

from collections.abc import Iterator, Sequence
import itertools
import math
import re

import numpy as np

from hubexport.arrays import CHUNK_BYTES
from hubexport.checkpoints.stored_values import in_chunks
from hubexport.networks.ops import Shape
from hubexport.protos import Message
from hubexport.system.damage import DamageError

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


def join_pieces(
    shape: Shape, item_bytes: int, where: Sequence[Region], pieces: Sequence[Iterator[bytes]]
) -> Iterator[bytes]:
    """Yields the bytes of a whole value, in chunks of `CHUNK_BYTES`.

    The elements of a piece follow each other in the whole value as they do in the piece, with those of other pieces
    between them. So each piece is read once, from its start to its end.

    Args:
        shape: the shape of the whole value.
        item_bytes: the size of an element in bytes.
        where: the region of each piece, from `regions`.
        pieces: the bytes of each piece in parts of any size, together as many as its region needs.
    Raises:
        DamageError: pieces overlap.
    """
    if len(pieces) == 1:
        return in_chunks(pieces[0])
    return in_chunks(_joined(shape, item_bytes, where, [_Stream(piece) for piece in pieces]))


def _joined(shape: Shape, item_bytes: int, where: Sequence[Region], streams: Sequence["_Stream"]) -> Iterator[bytes]:
    dtype = np.dtype(f"V{item_bytes}")
    for box in boxes(shape, item_bytes):
        whole, covered = np.empty(region_shape(box), dtype), np.zeros(region_shape(box), bool)
        for region, stream in zip(where, streams, strict=True):
            common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, region, strict=True)]
            lengths = [stop - start for start, stop in common]
            if min(lengths, default=1) <= 0:
                continue
            here = tuple(slice(a - part.start, b - part.start) for (a, b), part in zip(common, box, strict=True))
            if covered[here].any():
                raise DamageError("its pieces overlap")
            covered[here] = True
            whole[here] = np.frombuffer(stream.read(math.prod(lengths) * item_bytes), dtype).reshape(lengths)
        yield whole.tobytes()
    for stream in streams:  # Only at its end is a piece known to be sound.
        stream.finish()


def boxes(shape: Shape, item_bytes: int) -> Iterator[Region]:
    """Yields the regions of `CHUNK_BYTES` at most that make up a value, in the order of its elements.

    The elements of each region follow each other in the value.
    """
    axis, inner_bytes = len(shape), item_bytes
    while axis > 0 and inner_bytes * shape[axis - 1] <= CHUNK_BYTES:
        axis -= 1
        inner_bytes *= shape[axis]
    whole_axes = tuple(slice(0, length) for length in shape[axis:])
    if axis == 0:
        yield whole_axes
        return
    step = max(1, CHUNK_BYTES // inner_bytes)
    for outer in itertools.product(*map(range, shape[: axis - 1])):
        for start in range(0, shape[axis - 1], step):
            rows = slice(start, min(start + step, shape[axis - 1]))
            yield (*(slice(index, index + 1) for index in outer), rows, *whole_axes)


class _Stream:
    """Bytes that come in parts of any size, and are taken in others."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._part = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Returns the next bytes; fewer only at the end."""
        taken = bytearray()
        while len(taken) < size:
            if not self._part:
                if (part := next(self._parts, None)) is None:
                    break
                self._part = memoryview(part)
            rest = size - len(taken)
            taken += self._part[:rest]
            self._part = self._part[rest:]
        return bytes(taken)

    def finish(self) -> None:
        """Reads to the end, where damage may show."""
        for _ in self._parts:
            pass


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
