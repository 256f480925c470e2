"""The arrays that hold a variable's values, whole or in chunks."""

from collections.abc import Callable, Iterator
import dataclasses
import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# A variable's value: float32, of any shape.
Array: TypeAlias = npt.NDArray[np.float32]
FLOAT_BYTES = 4

# The most bytes of one value that are in memory at a time. Chunks of this size stay in a processor's cache while they
# are read, checked, and written. A larger value is never whole in memory: a single variable of VGG has 411 MB.
CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class StreamedValue:
    """A value that is read anew, chunk by chunk, each time that it is needed.

    Attributes:
        shape: the value's shape.
        chunks: returns its elements in order, as flat arrays of `CHUNK_BYTES` at most. It raises what reading raises.
        dtype: their dtype.
    """

    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[npt.NDArray[Any]]]
    dtype: np.dtype[Any] = np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """The size of all elements in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> npt.NDArray[Any]:
        """Reads the whole value into memory."""
        # There may be none: values may be empty.
        return np.concatenate([np.empty(0, self.dtype), *self.chunks()]).reshape(self.shape)


Value: TypeAlias = Array | StreamedValue


def streamed(array: npt.NDArray[Any]) -> StreamedValue:
    """Returns the value of an array in memory, in chunks."""
    array = np.asarray(array)

    def chunks() -> Iterator[npt.NDArray[Any]]:
        flat = np.ascontiguousarray(array).reshape(-1)
        step = CHUNK_BYTES // array.dtype.itemsize
        return (flat[start : start + step] for start in range(0, flat.size, step))

    return StreamedValue(array.shape, chunks, array.dtype)


def as_streamed(value: npt.NDArray[Any] | StreamedValue) -> StreamedValue:
    """Returns a value in chunks, whether it is in memory or not."""
    return value if isinstance(value, StreamedValue) else streamed(value)
