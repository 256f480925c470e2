"""Computes a network in NumPy, layer by layer: slow, short, and exact enough to judge float32 by.

In float64 the result is what the layer list means, practically without rounding; the same in float32 shows how much
rounding to expect of float32. Nothing here comes from TensorFlow.
"""

from collections.abc import Iterator, Mapping
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.networks.layers import (
    Add,
    Convolution,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool,
    Identity,
    Input,
    Layer,
    Network,
    Softmax,
    SpatialSqueeze,
)

Floats = npt.NDArray[np.floating[Any]]

_RELU6_CEILING = 6


class Forward:
    """One forward pass over a batch of images.

    Args:
        network: the network.
        values: the values of its variables, by name; others are ignored.
        images: [batch, height, width, channels], RGB, intensities in [0, 1].
        dtype: the dtype of all arithmetic, `numpy.float64` or `numpy.float32`.
        training: whether batch norm uses the statistics of the batch. Dropout never drops anything.
        known: outputs of layers that are not to be computed again, by the layer's name.
    Attributes:
        outputs: the output [batch, *shape] of each layer computed so far, by the layer's name.
        batch_statistics: in training, the targets of the moving averages, by the variable's name: the batch's mean
            [channels], and its variance [channels] with Bessel's correction, as in TensorFlow's FusedBatchNorm.
    """

    def __init__(
        self,
        network: Network,
        values: Mapping[str, npt.NDArray[Any]],
        images: npt.NDArray[Any],
        *,
        dtype: type[np.floating[Any]] = np.float64,
        training: bool = False,
        known: Mapping[str, Floats] | None = None,
    ) -> None:
        self._network = network
        self._values = {variable.name: values[variable.name].astype(dtype) for variable in network.variables}
        self._images = images.astype(dtype)
        self._training = training
        self.outputs: dict[str, Floats] = dict(known or {})
        self.batch_statistics: dict[str, Floats] = {}

    def run(self) -> dict[str, Floats]:
        """Computes all layers, and returns their outputs by name."""
        for _ in self.steps():
            pass
        return self.outputs

    def steps(self) -> Iterator[Layer]:
        """Computes one layer after another, and yields each layer after its output is computed."""
        for layer in self._network.layers:
            if layer.name not in self.outputs:
                inputs = [self.outputs[name] for name in layer.inputs]
                self.outputs[layer.name] = self._compute(layer, *inputs)
            yield layer

    def _compute(self, layer: Layer, *inputs: Floats) -> Floats:
        match layer:
            case Input():
                lowest, highest = self._network.input_range
                return self._images * (highest - lowest) + lowest
            case Convolution():
                return self._convolution(layer, inputs[0])
            case Add():
                return inputs[0] + inputs[1]
            case Identity() | Dropout():
                return inputs[0]
            case GlobalAveragePool():
                return inputs[0].mean(axis=(1, 2), keepdims=True)
            case SpatialSqueeze():
                return inputs[0].squeeze(axis=(1, 2))
            case Softmax():
                powers = np.exp(inputs[0] - inputs[0].max(axis=-1, keepdims=True))
                return powers / powers.sum(axis=-1, keepdims=True)
        raise NotImplementedError(f"cannot compute a {type(layer).__name__} in NumPy")

    def _convolution(self, layer: Convolution, images: Floats) -> Floats:
        weights = self._values[layer.weights(images.shape[1:]).name]
        convolve = _convolve_depthwise if isinstance(layer, DepthwiseConv2D) else _convolve
        result = convolve(images, weights, layer.stride)
        if layer.batch_norm:
            result = self._batch_norm(f"{layer.name}/BatchNorm", result)
        else:
            result += self._values[f"{layer.name}/biases"]
        if layer.activation == "relu6":
            np.clip(result, 0, _RELU6_CEILING, out=result)
        return result

    def _batch_norm(self, scope: str, inputs: Floats) -> Floats:
        if self._training:
            mean, variance = self._batch_moments(scope, inputs)
        else:
            mean, variance = (self._values[f"{scope}/{name}"] for name in ("moving_mean", "moving_variance"))
        scale = self._values[f"{scope}/gamma"] / np.sqrt(variance + inputs.dtype.type(self._network.batch_norm_epsilon))
        result: Floats = (inputs - mean) * scale + self._values[f"{scope}/beta"]
        return result

    def _batch_moments(self, scope: str, inputs: Floats) -> tuple[Floats, Floats]:
        mean, variance = inputs.mean(axis=(0, 1, 2)), inputs.var(axis=(0, 1, 2))
        count = inputs[..., 0].size
        self.batch_statistics[f"{scope}/moving_mean"] = mean
        self.batch_statistics[f"{scope}/moving_variance"] = variance * count / (count - 1)
        return mean, variance


def _convolve(images: Floats, weights: Floats, stride: int) -> Floats:
    """Convolves over all channels: the sum of one matrix product for each pixel of the kernel."""
    products = (window @ kernel for window, kernel in _windows(images, weights, stride))
    return functools.reduce(np.add, products)


def _convolve_depthwise(images: Floats, weights: Floats, stride: int) -> Floats:
    """Convolves each channel by itself."""
    products = (window * kernel[:, 0] for window, kernel in _windows(images, weights, stride))
    return functools.reduce(np.add, products)


def _windows(images: Floats, weights: Floats, stride: int) -> Iterator[tuple[Floats, Floats]]:
    """Yields, for each pixel of the kernel, its inputs [batch, *output size, channels] and its weights.

    The padding is TensorFlow's SAME: zeros on both sides, with the odd one at the end.
    """
    padding = [_same_padding(size, weights.shape[0], stride) for size in images.shape[1:3]]
    padded = np.pad(images, [(0, 0), *padding, (0, 0)])
    height, width = (-(-size // stride) for size in images.shape[1:3])
    for row, column in np.ndindex(weights.shape[:2]):
        rows = slice(row, row + (height - 1) * stride + 1, stride)
        columns = slice(column, column + (width - 1) * stride + 1, stride)
        yield padded[:, rows, columns], weights[row, column]


def _same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2
