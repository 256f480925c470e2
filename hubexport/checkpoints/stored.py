"""What every reader of trained values offers, whatever the file."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy.typing as npt

from hubexport.networks.layers import Shape


class DamageError(ValueError):
    """The bytes are damaged, or not of the format; the message says why in a few words."""


def holds_numbers(dtype: str) -> bool:
    """Tells whether a dtype is one of NumPy's numbers."""
    return dtype.rstrip("0123456789") in ("bool", "float", "int", "uint")


class StoredValues(Protocol):
    """Stored values by name."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shapes of all stored values, by name."""

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value of numbers.

        Raises:
            DamageError: it is damaged, or holds no numbers.
        """


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
