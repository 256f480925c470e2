"""Weights of TFLite models in fewer bits."""

import numpy as np
import numpy.typing as npt

_LARGEST_INT8 = 127


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
