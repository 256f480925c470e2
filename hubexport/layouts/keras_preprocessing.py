"""What a Keras model does with images before its network: is it a linear mapping of their values?"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from hubexport.layouts.keras_layers import LayerCall

# Keras 2 writes operators of tensors as layers of the one class TFOpLambda, Keras 3 as classes of their own.
_OPERATORS = {
    "math.truediv": "/",
    "math.divide": "/",
    "math.multiply": "*",
    "math.add": "+",
    "math.subtract": "-",
    "__operators__.add": "+",
    "TrueDivide": "/",
    "Divide": "/",
    "Multiply": "*",
    "Add": "+",
    "Subtract": "-",
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What comes before a network.

    Attributes:
        layers: the names of those that change images outside of training.
        scale: what they multiply values with; None if they do something else.
        offset: what they add after that, a number or one per channel; None likewise.
    """

    layers: tuple[str, ...]
    scale: float | None
    offset: float | tuple[float, ...] | None


def preprocessing(calls: Sequence[LayerCall]) -> Preprocessing:
    """Describes what a model does before its network.

    Args:
        calls: the calls of the layers before it, in order, without those that return their input outside training.
    """
    names = tuple(map(str, calls))
    scale, offset = 1.0, np.zeros([])
    for call in calls:
        numbers = factor_and_summand(call)
        if numbers is None:
            return Preprocessing(names, None, None)
        scale, offset = scale * numbers[0], offset * numbers[0] + numbers[1]
    return Preprocessing(names, scale, float(offset) if offset.ndim == 0 else tuple(offset.tolist()))


def factor_and_summand(call: LayerCall) -> tuple[float, float | tuple[float, ...]] | None:
    """Returns what a layer multiplies its input with, and what it adds then; None for layers that do something else."""
    if len(call.inputs) != 1:
        return None
    if call.kind == "Rescaling":
        scale, offset = call.config["scale"], call.config["offset"]
        if not isinstance(scale, (int, float)):
            return None
        return float(scale), tuple(map(float, offset)) if isinstance(offset, list) else float(offset)
    kind = call.config.get("function") if call.kind == "TFOpLambda" else call.kind
    if call.constants is None or len(call.constants) != 1 or kind not in _OPERATORS:
        return None
    [number] = call.constants
    match _OPERATORS[kind]:
        case "/":
            return (1 / number, 0.0) if number else None
        case "*":
            return number, 0.0
        case "+":
            return 1.0, number
        case _:
            return 1.0, -number
