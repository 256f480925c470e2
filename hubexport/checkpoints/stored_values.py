"""What every reader of trained values offers, whatever the file."""

import abc
from collections.abc import Iterable, Iterator, Mapping
import contextlib
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from hubexport.checkpoints.dtypes import holds_numbers, numbers
from hubexport.errors import printable
from hubexport.networks.layers import Shape

_Value = TypeVar("_Value")

# Of NumPy's arrays.
_MOST_DIMENSIONS = 32
_MOST_ELEMENTS = 1 << 58


class DamageError(ValueError):
    """The bytes are damaged, or not of the format; the message says why in a few words."""


@contextlib.contextmanager
def damage_attributed_to(what: str) -> Iterator[None]:
    """Says of damage of what it is."""
    try:
        yield
    except DamageError as error:
        raise DamageError(f"{what}: {error}") from error


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


def unique_dict(pairs: Iterable[tuple[str, _Value]]) -> dict[str, _Value]:
    """Returns values by name: none may take the name of another.

    Raises:
        DamageError: a name is there twice.
    """
    named: dict[str, _Value] = {}
    for name, value in pairs:
        if name in named:
            raise DamageError(f"the name '{printable(name)}' is there twice")
        named[name] = value
    return named
