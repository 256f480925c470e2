"""What a Keras model does with images before its network: is it a linear mapping of their values?"""

from collections.abc import Callable, Sequence
import dataclasses

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
        positions: the calls of layers before it, as positions in the model's list.
        layers: the names of those that change images outside of training.
        scale: what they multiply values with; None if they do something else.
        offset: what they add after that; None likewise.
    """

    positions: frozenset[int]
    layers: tuple[str, ...]
    scale: float | None
    offset: float | None


def preprocessing(calls: Sequence[LayerCall], start: int, is_idle: Callable[[LayerCall], bool]) -> Preprocessing:
    """Describes what a model does before a call.

    Args:
        calls: the calls of the model's layers.
        start: the position of the call that takes the images. Zeros that are put around its input are its own.
        is_idle: tells whether a layer returns its input outside training.
    """
    waiting = [*calls[start].inputs]
    if len(waiting) == 1 and calls[waiting[0]].kind == "ZeroPadding2D":
        waiting = [*calls[waiting[0]].inputs]
    positions: set[int] = set()
    while waiting:
        position = waiting.pop()
        if position not in positions:
            positions.add(position)
            waiting += calls[position].inputs
    busy = [calls[position] for position in sorted(positions) if not is_idle(calls[position])]
    scale: float | None = 1.0
    offset: float | None = 0.0
    for call in busy:
        step = linear(call)
        if step is None or scale is None or offset is None:
            scale = offset = None
        else:
            scale, offset = scale * step[0], offset * step[0] + step[1]
    return Preprocessing(frozenset(positions), tuple(map(str, busy)), scale, offset)


def linear(call: LayerCall) -> tuple[float, float] | None:
    """Returns the factor and the summand of a layer that multiplies and adds numbers; None for others."""
    if len(call.inputs) != 1:
        return None
    if call.kind == "Rescaling":
        numbers = call.config["scale"], call.config["offset"]
        return (float(numbers[0]), float(numbers[1])) if all(isinstance(one, (int, float)) for one in numbers) else None
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
