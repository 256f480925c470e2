"""The interface that every reader of trained values offers, and parts that the readers share."""

import abc
from collections.abc import Iterable, Iterator, Mapping
import contextlib
from typing import Any, TypeVar

import numpy.typing as npt

from hubexport.checkpoints.dtypes import decode_numbers, holds_numbers
from hubexport.errors import printable
from hubexport.networks.ops import Shape

_Value = TypeVar("_Value")

# NumPy's arrays can have no more.
_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 1 << 58


class DamageError(ValueError):
    """The bytes are damaged, or not of the expected format; the message says why in a few words."""


@contextlib.contextmanager
def damage_in(what: str) -> Iterator[None]:
    """Names the damaged file or value in the message of a DamageError."""
    try:
        yield
    except DamageError as error:
        raise DamageError(f"{what}: {error}") from error


class StoredValues(abc.ABC):
    """Stored values by name.

    Attributes:
        shapes: the shapes of all stored values, by name.
    """

    shapes: Mapping[str, Shape]

    @abc.abstractmethod
    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""

    @abc.abstractmethod
    def stored_bytes(self, name: str) -> bytes | None:
        """Reads one value of any dtype as bytes that are equal for equal values, in whatever container.

        Returns:
            The bytes of the elements; for strings their lengths, then the strings. None if they are not available.
        Raises:
            DamageError: the value is damaged.
            OSError: its file cannot be read.
        """

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one numeric value, in the dtype that `hubexport.checkpoints.dtypes.decode_numbers` gives it.

        Raises:
            DamageError: the value is damaged or not numeric.
            OSError: its file cannot be read.
        """
        if not holds_numbers(self.dtype(name)):
            raise DamageError(f"{name}: values of type {self.dtype(name)} cannot be read as numbers")
        data = self.stored_bytes(name)
        assert data is not None, "the bytes of numbers are always available"
        return decode_numbers(self.dtype(name), data).reshape(self.shapes[name])


def checked_shape(lengths: Iterable[int]) -> Shape:
    """Returns a shape that a file claims.

    Raises:
        DamageError: no array can have this shape.
    """
    count, shape = 1, tuple(lengths)
    for length in shape:
        count *= max(length, 1)
        if length < 0 or count > _MAX_ELEMENTS or len(shape) > _MAX_DIMENSIONS:
            raise DamageError("it has an impossible shape")
    return shape


class Renamed(StoredValues):
    """Stored values under other names.

    Args:
        stored: the values.
        names: the name of each value in `stored`, by its new name.
    """

    def __init__(self, stored: StoredValues, names: Mapping[str, str]) -> None:
        self._stored = stored
        self._names = names
        self.shapes = {name: stored.shapes[old] for name, old in names.items()}

    def dtype(self, name: str) -> str:
        return self._stored.dtype(self._names[name])

    def read(self, name: str) -> npt.NDArray[Any]:
        return self._stored.read(self._names[name])

    def stored_bytes(self, name: str) -> bytes | None:
        return self._stored.stored_bytes(self._names[name])


def unique_dict(pairs: Iterable[tuple[str, _Value]]) -> dict[str, _Value]:
    """Returns values by name.

    Raises:
        DamageError: two values have the same name.
    """
    values: dict[str, _Value] = {}
    for name, value in pairs:
        if name in values:
            raise DamageError(f"the name '{printable(name)}' is there twice")
        values[name] = value
    return values
