"""Weights of TFLite models in fewer bits."""

import numpy as np
import numpy.typing as npt

from hubexport.errors import UsageError

_LARGEST_INT8 = 127


def halves(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Rounds values to float16.

    Args:
        name: what errors call them.
        value: finite.
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
            fix="leave quantization out, or choose dynamic",
        )
    return rounded


def quantized_rows(
    value: npt.NDArray[np.float32], axis: int | None
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Rounds weights to int8, so that 0 stays 0 and the largest is 127 or -127.

    Args:
        value: the weights, finite.
        axis: each place of this axis has a scale of its own; None for one scale.
    Returns:
        The integers, in the same shape, and the scales: an integer times its scale is about the weight.
    """
    others = tuple(one for one in range(value.ndim) if one != axis)
    largest = np.abs(value).max(axis=others if axis is not None else None, keepdims=True).astype(np.float64)
    scales = (largest / _LARGEST_INT8).astype(np.float32)
    # Where all weights are zero any scale will do, but zero, or one that float32 cannot divide by.
    scales[scales < np.finfo(np.float32).tiny] = 1
    integers = np.clip(np.rint(value / scales), -_LARGEST_INT8, _LARGEST_INT8)
    return integers.astype(np.int8), scales.reshape(-1)
