"""A network computed in NumPy, op by op: slow, short, and exact enough to judge float32 by.

In float64 the result is what the ops mean, practically without rounding; the same in float32 shows how much rounding to
expect of float32. Nothing here comes from TensorFlow.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.networks import ops
from hubexport.networks.network import Layer, Network
from hubexport.networks.ops import Op, Padding, Variable
from hubexport.networks.shapes import same_padding

Floats = npt.NDArray[np.floating[Any]]

_CEILING = 6


class Forward:
    """One pass over a batch of images.

    Args:
        network: what to compute.
        values: the values of all its variables, by name.
        images: [batch, height, width, channels], intensities in [0, 1].
        dtype: the dtype of all arithmetic: `numpy.float64` or `numpy.float32`.
        training: let batch norm take the statistics of the batch. Dropout and drop path keep everything all the same.
        known: outputs of ops that need not be computed again, by name.
    Attributes:
        outputs: [batch, *shape] of each op that was computed so far, by its name.
        batch_statistics: in training, what each moving average is moved towards, by the variable's name: the batch's
            mean, and its variance with Bessel's correction, as TensorFlow's FusedBatchNorm has it.
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
        self._values = values
        self._images = images.astype(dtype)
        self._training = training
        self.outputs: dict[str, Floats] = dict(known or {})
        self.batch_statistics: dict[str, Floats] = {}

    def run(self, keep: Collection[str] | None = None) -> dict[str, Floats]:
        """Computes all ops, and returns their outputs by name.

        Args:
            keep: the ops whose outputs are returned. Others are forgotten once no op needs them any more, since all of
                them together may take a gigabyte. Defaults to all ops.
        """
        for _ in self.steps(keep):
            pass
        return self.outputs

    def steps(self, keep: Collection[str] | None = None) -> Iterator[Layer]:
        """Computes one layer after another, and yields each once its outputs are there; for `keep` see `run`."""
        last_use = {name: op.layer for op in self._network.ops for name in (op.name, *op.inputs)}
        for layer in self._network.layers:
            if layer.output not in self.outputs:
                for op in layer.ops:
                    self.outputs[op.name] = RULES[type(op)](self, op, *(self.outputs[name] for name in op.inputs))
            yield layer
            if keep is not None:
                unused = [name for name in self.outputs if last_use[name] == layer.name and name not in keep]
                for name in unused:
                    del self.outputs[name]

    def _value(self, variable: Variable, dtype: np.dtype[Any]) -> Floats:
        """Converts a variable's value for one use: all values of a network at once may take gigabytes."""
        return self._values[variable.name].astype(dtype, copy=False)

    def _input(self, op: ops.Input) -> Floats:
        offset = np.asarray(self._network.input_offset, self._images.dtype)
        return self._images * self._network.input_scale - offset

    def _conv(self, op: ops.Conv, images: Floats) -> Floats:
        """Convolves over all channels: the sum over the kernel's pixels of one matrix product each."""
        kernel, dtype = self._values[op.kernel.name], images.dtype
        windows = _windows(images, kernel.shape[:2], op.stride, op.padding, 0)
        result = _sum_of_products(
            np.matmul, ((window, kernel[pixel].astype(dtype, copy=False)) for pixel, window in windows)
        )
        return result if op.bias is None else np.add(result, self._value(op.bias, dtype), out=result)

    def _depthwise_conv(self, op: ops.DepthwiseConv, images: Floats) -> Floats:
        kernel = self._value(op.kernel, images.dtype)
        windows = _windows(images[..., np.newaxis], kernel.shape[:2], op.stride, op.padding, 0)
        result = _sum_of_products(np.multiply, ((window, kernel[pixel]) for pixel, window in windows))
        result = result.reshape(*result.shape[:3], -1)
        return result if op.bias is None else np.add(result, self._value(op.bias, images.dtype), out=result)

    def _batch_norm(self, op: ops.BatchNorm, inputs: Floats) -> Floats:
        mean = inputs.mean(axis=(0, 1, 2)) if self._training else self._value(op.moving_mean, inputs.dtype)
        # From here on in place: new arrays of this size take longer than the arithmetic.
        result: Floats = inputs - mean
        if self._training:
            variance = np.square(result).mean(axis=(0, 1, 2))
            count = inputs[..., 0].size
            self.batch_statistics[op.moving_mean.name] = mean
            self.batch_statistics[op.moving_variance.name] = variance * count / (count - 1)
        else:
            variance = self._value(op.moving_variance, inputs.dtype)
        scale = 1 / np.sqrt(variance + inputs.dtype.type(op.epsilon))
        if op.gamma is not None:
            scale = self._value(op.gamma, inputs.dtype) * scale
        result *= scale
        result += self._value(op.beta, inputs.dtype)
        return result

    def _activation(self, op: ops.Activation, inputs: Floats) -> Floats:
        match op.kind:
            case "relu":
                return np.maximum(inputs, 0)
            case "relu6":
                return np.clip(inputs, 0, _CEILING)
            case "hard_sigmoid":
                return np.clip(inputs + 3, 0, _CEILING) * inputs.dtype.type(ops.HARD_SIGMOID_SLOPE)
            case "hard_swish":
                return inputs * np.clip(inputs + 3, 0, _CEILING) * inputs.dtype.type(ops.HARD_SWISH_SLOPE)

    def _pool(self, op: ops.Pool, images: Floats) -> Floats:
        if op.kind == "max":
            windows = _windows(images, op.window, op.stride, op.padding, -np.inf)
            return functools.reduce(np.maximum, (window for _, window in windows))
        windows = _windows(images, op.window, op.stride, op.padding, 0)
        counts = _windows(np.ones_like(images[:1, :, :, :1]), op.window, op.stride, op.padding, 0)
        total: Floats = functools.reduce(np.add, (window for _, window in windows))
        return total / functools.reduce(np.add, (window for _, window in counts))

    def _mean(self, op: ops.Mean, images: Floats) -> Floats:
        return images.mean(axis=(1, 2), keepdims=True)

    def _pad(self, op: ops.Pad, images: Floats) -> Floats:
        rows, columns = zip(op.before, op.after, strict=True)
        return np.pad(images, [(0, 0), rows, columns, (0, 0)])

    def _slice(self, op: ops.Slice, images: Floats) -> Floats:
        return images[:, op.begin[0] :, op.begin[1] :]

    def _concat(self, op: ops.Concat, *images: Floats) -> Floats:
        return np.concatenate(images, axis=-1)

    def _add(self, op: ops.Add, first: Floats, second: Floats) -> Floats:
        return first + second

    def _multiply(self, op: ops.Multiply, first: Floats, second: Floats) -> Floats:
        return first * second

    def _scale(self, op: ops.Scale, inputs: Floats) -> Floats:
        return inputs * inputs.dtype.type(op.factor)

    def _matmul(self, op: ops.MatMul, rows: Floats) -> Floats:
        result: Floats = rows @ self._value(op.kernel, rows.dtype) + self._value(op.bias, rows.dtype)
        return result

    def _squeeze(self, op: ops.Squeeze, images: Floats) -> Floats:
        return images.squeeze(axis=(1, 2))

    def _softmax(self, op: ops.Softmax, logits: Floats) -> Floats:
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        result: Floats = powers / powers.sum(axis=-1, keepdims=True)
        return result

    def _same(self, op: Op, inputs: Floats) -> Floats:
        return inputs


def batch_statistics(
    network: Network,
    values: Mapping[str, npt.NDArray[Any]],
    images: npt.NDArray[Any],
    dtype: type[np.floating[Any]] = np.float64,
) -> dict[str, Floats]:
    """Returns what a batch moves each moving average towards, without keeping the layers' outputs in memory.

    Args:
        network: what to compute.
        values: the values of all its variables, by name.
        images: [batch, height, width, channels], intensities in [0, 1].
        dtype: the dtype of all arithmetic.
    Returns:
        [channels] by the moving average's name; see `Forward.batch_statistics`. Those that come after what training
        drops at random are left out.
    """
    certain = tuple(op for op in network.ops if op.name not in network.random_ops)
    network = dataclasses.replace(network, ops=certain)
    forward = Forward(network, values, images, dtype=dtype, training=True)
    forward.run(keep=())
    return forward.batch_statistics


RULES: dict[type[Op], Callable[..., Floats]] = {
    ops.Input: Forward._input,
    ops.Conv: Forward._conv,
    ops.DepthwiseConv: Forward._depthwise_conv,
    ops.BatchNorm: Forward._batch_norm,
    ops.Activation: Forward._activation,
    ops.Pool: Forward._pool,
    ops.Mean: Forward._mean,
    ops.Pad: Forward._pad,
    ops.Slice: Forward._slice,
    ops.Concat: Forward._concat,
    ops.Add: Forward._add,
    ops.Multiply: Forward._multiply,
    ops.Scale: Forward._scale,
    ops.MatMul: Forward._matmul,
    ops.Squeeze: Forward._squeeze,
    ops.Dropout: Forward._same,
    ops.DropPath: Forward._same,
    ops.Softmax: Forward._softmax,
    ops.Identity: Forward._same,
}


def _sum_of_products(multiply: np.ufunc, factors: Iterator[tuple[Floats, Floats]]) -> Floats:
    """Adds up products in two arrays: to make new ones would take longer than the arithmetic."""
    total: Floats = multiply(*next(factors))
    product = np.empty_like(total)
    for pair in factors:
        total += multiply(*pair, out=product)
    return total


def _windows(
    images: Floats, window: tuple[int, ...], stride: tuple[int, int], padding: Padding, filler: float
) -> Iterator[tuple[tuple[int, ...], Floats]]:
    """Yields each pixel of a window with the pixels of the images that it meets, [batch, *output size, …].

    SAME is TensorFlow's: where the number of padded rows is odd, one more comes after the image than before it.
    """
    sizes = images.shape[1:3]
    around = [(0, 0), (0, 0)]
    if padding == "SAME":
        around = [same_padding(*lengths) for lengths in zip(sizes, window, stride, strict=True)]
        images = np.pad(images, [(0, 0), *around, *[(0, 0)] * (images.ndim - 3)], constant_values=filler)
    height, width = (
        (size + sum(more) - length) // step + 1 for size, more, length, step in zip(sizes, around, window, stride)
    )
    for row, column in np.ndindex(*window):
        rows = slice(row, row + (height - 1) * stride[0] + 1, stride[0])
        columns = slice(column, column + (width - 1) * stride[1] + 1, stride[1])
        yield (row, column), images[:, rows, columns]
