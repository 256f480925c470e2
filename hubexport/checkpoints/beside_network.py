"""What TF-Slim checkpoints hold beside a network: auxiliary heads, and values that modules have as constants."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hubexport.checkpoints.dtypes import holds_numbers
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, plain_shapes
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.errors import CheckpointError
from hubexport.networks.family import Family, UnusedVariables

# Of intensities up to 255. Sources of a mean differ in how many digits they give.
_TOLERANCE = 0.01
_MOST_SHOWN = 10


def unused_variables(stored: StoredValues, family: Family) -> Mapping[str, int]:
    """Counts the stored variables that modules of a family leave out, by what people call them.

    A variable counts once, whether its value, its average or both are stored; its optimizer slots do not count.
    """
    names = plain_shapes(stored)
    found = (family.unused(name) for name in names if name.rpartition("/")[0] not in names)
    return Counter(unused.title for unused in found if unused)


def check_constants(stored: StoredValues, family: Family, what: str) -> None:
    """Checks that the values that modules of a family have as constants are the same in a checkpoint.

    Args:
        stored: the checkpoint's values.
        family: the family.
        what: the first line of the error.
    Raises:
        CheckpointError: a value is another one, or damaged.
    """
    for problem, unused in _other_constants(stored, family):
        raise CheckpointError(
            what, why=problem, fix=f"use a checkpoint that was trained with the modules' {unused.title}"
        )


def constant_problems(stored: StoredValues, family: Family) -> list[str]:
    """Returns a line for each value that is not the constant that modules of a family have.

    Raises:
        CheckpointError: a value is damaged.
    """
    return [problem for problem, _ in _other_constants(stored, family)]


def _other_constants(stored: StoredValues, family: Family) -> Iterator[tuple[str, UnusedVariables]]:
    for name in stored.shapes:
        unused = family.unused(name.removesuffix(AVERAGED_SUFFIX))
        if unused and unused.value is not None and not _equals(stored, name, unused.value):
            found, wanted = _shown(stored, name), _numbers(unused.value)
            problem = f"its {unused.title}, {name}, is {found}, but modules of {family.title} have {wanted}"
            yield problem, unused


def _equals(stored: StoredValues, name: str, value: tuple[float, ...]) -> bool:
    if not holds_numbers(stored.dtype(name)) or stored.shapes[name] != (len(value),):
        return False
    return bool(np.allclose(stored.read(name), value, rtol=0, atol=_TOLERANCE))


def _shown(stored: StoredValues, name: str) -> str:
    shape = stored.shapes[name]
    if not holds_numbers(stored.dtype(name)) or len(shape) != 1 or not 0 < shape[0] <= _MOST_SHOWN:
        return f"{stored.dtype(name)} of shape {list(shape)}"
    return _numbers(stored.read(name))


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
