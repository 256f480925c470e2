"""Weights in float16, which has fewer large numbers than float32."""

import numpy as np
import numpy.typing as npt

from hubexport.errors import UsageError


def halves(name: str, value: npt.NDArray[np.float32], otherwise: str) -> npt.NDArray[np.float16]:
    """Rounds values to float16.

    Args:
        name: what errors call them.
        value: finite.
        otherwise: the quantization to choose instead.
    Raises:
        UsageError: a value is too large.
    """
    largest = float(np.abs(value).max(initial=0))
    with np.errstate(over="ignore"):
        rounded = value.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise UsageError(
            "cannot write the model in float16",
            why=f"{name} has a value of {largest:g} once batch norms are folded, and float16 ends at 65504",
            fix=f"leave quantization out, or choose {otherwise}",
        )
    return rounded
