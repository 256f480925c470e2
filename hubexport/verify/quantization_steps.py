"""How far the steps of a quantization move a network's outputs: the floor of formats that store less than float32.

The same network, with its values rounded to the format's steps, is computed in float64. What the steps move there, they
move in the deployment, too: by as much if both round alike, and by about as much otherwise.
"""

import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.deployments.inference_model import WHITE, InferenceModel
from hubexport.networks import ops
from hubexport.networks.numpy_forward import Floats, Forward
from hubexport.networks.ops import Op, Variable

# The quantizations of all formats by what happens to values: `none` is float32. TFLite's integers are signed and
# symmetric, with a step for each channel of a kernel; TF.js' have one step for all of a variable. Interpreters of
# TFLite compute with integers, so that results have steps, too.
_PER_CHANNEL = ("dynamic", "int8")
_PER_VARIABLE = {"uint8": 8, "uint16": 16}
_WITH_ACTIVATIONS = ("dynamic", "int8")
_INT8_STEPS, _UINT8_STEPS = 127, 255


def quantized_outputs(model: InferenceModel, quantization: str, images: Array) -> dict[str, Floats]:
    """Returns a model's outputs, float64 [batch, ...], by name, with values (and maybe results) rounded to steps.

    Args:
        model: what to compute, not quantized.
        quantization: how it will be: an option `quantize` of a deployment format.
        images: float32 [batch, height, width, 3] in [0, 1].
    """
    values = {
        variable.name: _rounded(variable, model.value(variable).astype(np.float64), quantization)
        for variable in model.network.variables
    }
    forward = Forward(model.network, values, images * WHITE[model.pixels])
    for layer in forward.steps({*model.outputs.values()}):
        for op in layer.ops if quantization in _WITH_ACTIVATIONS else ():
            if op.name in forward.outputs and _has_steps_of_its_own(op):
                forward.outputs[op.name] = _to_steps(forward.outputs[op.name])
    return {key: forward.outputs[name] for key, name in model.outputs.items()}


def _rounded(variable: Variable, value: npt.NDArray[np.float64], quantization: str) -> npt.NDArray[np.float64]:
    # TF.js' small variables have too few steps in 8 bits, so they get float16.
    small = variable.role in ("bias", "depthwise_kernel") and quantization == "uint8"
    if quantization == "float16" or small:
        return value.astype(np.float16).astype(np.float64)
    if quantization in _PER_VARIABLE:
        return _to_steps(value, 2 ** _PER_VARIABLE[quantization] - 1)
    if quantization in _PER_CHANNEL and value.ndim > 1:
        # The outputs of a depthwise convolution are two axes of its kernel.
        outputs = -2 if variable.role == "depthwise_kernel" else -1
        channels = value.reshape(*value.shape[:outputs], -1)
        step = np.abs(channels).max(axis=tuple(range(channels.ndim - 1))) / _INT8_STEPS
        step = np.where(step > 0, step, 1)
        return (np.round(channels / step) * step).reshape(value.shape)
    return value


def _to_steps(value: Floats, steps: int = _UINT8_STEPS) -> npt.NDArray[np.float64]:
    lowest, highest = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    step = (highest - lowest) / steps or 1.0
    return np.round(value / step) * step


def _has_steps_of_its_own(op: Op) -> bool:
    """Tells whether a converter gives an op's results a scale of their own, and does not take that of its input."""
    return not isinstance(op, (ops.Squeeze, ops.Pad, ops.Slice))
