"""What every reader of trained values offers, whatever the file."""

import abc
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy.typing as npt

from hubexport.checkpoints.dtypes import holds_numbers, numbers
from hubexport.networks.layers import Shape

# Of NumPy's arrays.
_MOST_DIMENSIONS = 32
_MOST_ELEMENTS = 1 << 58


class DamageError(ValueError):
    """The bytes are damaged, or not of the format; the message says why in a few words."""


class StoredValues(Protocol):
    """Stored values by name."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shapes of all stored values, by name."""

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value of numbers; `hubexport.checkpoints.dtypes.numbers` says as what.

        Raises:
            DamageError: it is damaged, or holds no numbers.
        """

    def stored_bytes(self, name: str) -> bytes | None:
        """Reads one value of any dtype: equal values have equal bytes, whatever stores them.

        Returns:
            The bytes of its elements; of strings their lengths, then the strings; None if that cannot be told.
        Raises:
            DamageError: it is damaged.
        """


class StoredReader(abc.ABC):
    """What readers of files have in common: numbers are made of bytes.

    Attributes:
        shapes: of all stored values, by name.
    """

    shapes: dict[str, Shape]

    @abc.abstractmethod
    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype."""

    @abc.abstractmethod
    def stored_bytes(self, name: str) -> bytes | None:
        """Reads one value of any dtype."""

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value of numbers."""
        if not holds_numbers(self.dtype(name)):
            raise DamageError(f"{name}: values of type {self.dtype(name)} cannot be read as numbers")
        data = self.stored_bytes(name)
        assert data is not None, "all numbers have bytes"
        return numbers(self.dtype(name), data).reshape(self.shapes[name])


def checked_shape(lengths: Iterable[int]) -> Shape:
    """Returns a shape that a file claims.

    Raises:
        DamageError: no array can have it.
    """
    count, shape = 1, tuple(lengths)
    for length in shape:
        count *= max(length, 1)
        if length < 0 or count > _MOST_ELEMENTS or len(shape) > _MOST_DIMENSIONS:
            raise DamageError("it has an impossible shape")
    return shape


class Renamed:
    """Stored values under other names.

    Args:
        stored: the values.
        names: of each value in `stored`, by its new name.
    """

    def __init__(self, stored: StoredValues, names: Mapping[str, str]) -> None:
        self._stored = stored
        self._names = names
        self.shapes: dict[str, Shape] = {name: stored.shapes[old] for name, old in names.items()}

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype."""
        return self._stored.dtype(self._names[name])

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value of numbers."""
        return self._stored.read(self._names[name])

    def stored_bytes(self, name: str) -> bytes | None:
        """Reads one value of any dtype."""
        return self._stored.stored_bytes(self._names[name])


def unique_names(renamings: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns old names by new ones, for `Renamed`: no value may take the name of another.

    Args:
        renamings: each value's old name and its new one.
    Raises:
        DamageError: two values would get the same name.
    """
    names: dict[str, str] = {}
    for old, new in renamings:
        if new in names:
            raise DamageError(f"two values have the name {new}")
        names[new] = old
    return names
