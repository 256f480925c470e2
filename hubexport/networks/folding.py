"""Makes a network for inference alone: with fewer ops, and the same results.

Batch norms go into the convolutions before them, and the mapping of images to the network's range into the first
convolution. What does nothing in inference goes. The result is a network like any other, with values of its own: where
each writer of a deployment format starts.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
import dataclasses
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hubexport.arrays import StreamedValue, Value
from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, Variable
from hubexport.networks.shapes import padded

# The ops that a folded network does not have.
FOLDED = (ops.BatchNorm, ops.Dropout, ops.DropPath, ops.Identity)

_Doubles: TypeAlias = npt.NDArray[np.float64]
_Convolution: TypeAlias = ops.Conv | ops.DepthwiseConv


@dataclasses.dataclass(frozen=True)
class FoldedNetwork:
    """A network for inference, and its values.

    Attributes:
        network: has none of the ops in `FOLDED`. Its input mapping is what is left to do with the images. Its endpoints
            are those that were asked for.
        values: float32, for each of the network's variables, by name. A variable may have the name of one in the
            original network and another value.
    """

    network: Network
    values: Mapping[str, Value]


def fold(
    network: Network, values: Mapping[str, Value], *, endpoints: Collection[str] = (), white: float = 1.0
) -> FoldedNetwork:
    """Folds a network for inference.

    A batch norm goes into the convolution before it if nothing else needs that convolution's output. Otherwise it
    becomes a scale and a shift of each channel: a depthwise convolution with windows of one pixel, and a bias.

    The factor of the input mapping goes into the first convolution. So does its offset if nothing is padded there:
    padding is zero after the mapping, so that black pixels of the original image would not do in its place.

    All arithmetic is in float64; each result is rounded once.

    Args:
        network: what to fold.
        values: float32, for each of its variables, by name.
        endpoints: the keys of the endpoints that are still needed.
        white: the largest intensity of the images that the folded network will get; 0 is the smallest.
    """
    folding = _Folding(network, values, endpoints)
    folding.fold_batch_norms()
    folding.fold_input_mapping(white)
    return folding.result()


class _Folding:
    """A network that is being folded.

    Args:
        network: without what does nothing in inference yet.
        values: of its variables.
        endpoints: the keys of those that are still needed.
    """

    def __init__(self, network: Network, values: Mapping[str, Value], endpoints: Collection[str]) -> None:
        kept = {key: network.endpoints[key] for key in endpoints}
        self._network = _without_training_ops(dataclasses.replace(network, endpoints=kept))
        self._given = values
        self._computed: dict[str, _Doubles] = {}

    def result(self) -> FoldedNetwork:
        """Returns what it has become, with values in float32."""
        values = {variable.name: self._stored(variable) for variable in self._network.variables}
        return FoldedNetwork(self._network, values)

    def fold_batch_norms(self) -> None:
        """Replaces each batch norm."""
        by_name = {op.name: op for op in self._network.ops}
        uses = _uses(self._network)
        folded: dict[str, Op] = {}
        for op in self._network.ops:
            folded[op.name] = op
            if not isinstance(op, ops.BatchNorm):
                continue
            [source] = (by_name[name] for name in op.inputs)
            scale, shift = self._scale_and_shift(op)
            if isinstance(source, _Convolution) and uses[source.name] == 1:
                del folded[source.name]
                self._multiply_outputs(source, scale)
                biased = self._with_bias(source, shift + self._bias(source) * scale)
                folded[op.name] = dataclasses.replace(biased, name=op.name)
            else:
                folded[op.name] = self._channelwise(op, scale, shift)
        self._network = dataclasses.replace(self._network, ops=tuple(folded.values()))

    def fold_input_mapping(self, white: float) -> None:
        """Moves the input mapping into the first convolution, as far as it can go."""
        network = self._network
        scale = network.input_scale / white
        channels = network.image_shape[-1]
        assert channels is not None, "channels are never open"
        offset = np.broadcast_to(np.asarray(network.input_offset, np.float64), channels)
        first = self._first_convolution()
        if first is not None:
            kernel = self._double(first.kernel) * scale
            self._computed[first.kernel.name] = kernel
            offset, scale = offset / scale, 1.0
            pads_nothing = padded(first, network.image_shape) == ((0, 0), (0, 0))
            if offset.any() and pads_nothing and network.ops[0].name in first.inputs:
                lost = np.einsum("hwio,i->o" if isinstance(first, ops.Conv) else "hwim,i->im", kernel, offset)
                biased = self._with_bias(first, self._bias(first) - lost.reshape(-1))
                network = _replaced(network, {first.name: biased})
                offset = np.zeros_like(offset)
        means = tuple(offset.tolist()) if offset.any() else None
        self._network = dataclasses.replace(network, input_range=(0.0, scale), channel_means=means)

    def _first_convolution(self) -> _Convolution | None:
        """Returns the convolution that alone takes the images, padded or not; None if there is none."""
        uses = _uses(self._network)
        name = self._network.ops[0].name
        for op in self._network.ops[1:]:
            if name not in op.inputs:
                continue
            if uses[name] > 1:
                return None
            if isinstance(op, _Convolution):
                return op
            if not isinstance(op, ops.Pad):
                return None
            name = op.name
        return None

    def _scale_and_shift(self, op: ops.BatchNorm) -> tuple[_Doubles, _Doubles]:
        scale = 1 / np.sqrt(self._double(op.moving_variance) + op.epsilon)
        if op.gamma is not None:
            scale = scale * self._double(op.gamma)
        return scale, self._double(op.beta) - self._double(op.moving_mean) * scale

    def _multiply_outputs(self, op: _Convolution, factors: _Doubles) -> None:
        kernel = self._double(op.kernel)
        # The outputs of a depthwise convolution are two axes of its kernel.
        self._computed[op.kernel.name] = (kernel.reshape(*kernel.shape[:2], -1, factors.size) * factors).reshape(
            kernel.shape
        )

    def _bias(self, op: _Convolution) -> _Doubles | float:
        return 0.0 if op.bias is None else self._double(op.bias)

    def _with_bias(self, op: _Convolution, bias: _Doubles) -> _Convolution:
        variable = op.bias or Variable(f"{op.name}/biases", bias.shape, "bias")
        self._computed[variable.name] = bias
        return dataclasses.replace(op, bias=variable)

    def _channelwise(self, op: ops.BatchNorm, scale: _Doubles, shift: _Doubles) -> ops.DepthwiseConv:
        kernel = Variable(f"{op.name}/depthwise_weights", (1, 1, scale.size, 1), "depthwise_kernel")
        self._computed[kernel.name] = scale.reshape(kernel.shape)
        biased = self._with_bias(ops.DepthwiseConv(op.name, op.inputs, op.layer, kernel=kernel), shift)
        assert isinstance(biased, ops.DepthwiseConv)
        return biased

    def _double(self, variable: Variable) -> _Doubles:
        """Returns a variable's value as it is by now."""
        if variable.name in self._computed:
            return self._computed[variable.name]
        return _read(self._given[variable.name]).astype(np.float64)

    def _stored(self, variable: Variable) -> Value:
        if variable.name in self._computed:
            return self._computed[variable.name].astype(np.float32)
        return self._given[variable.name]


def _read(value: Value) -> npt.NDArray[Any]:
    return value.read() if isinstance(value, StreamedValue) else value


def _without_training_ops(network: Network) -> Network:
    """Takes out the ops that give what they take."""
    same: dict[str, str] = {}  # What gives the output of each op.
    kept = []
    for op in network.ops:
        inputs = tuple(same[name] for name in op.inputs)
        if isinstance(op, (ops.Dropout, ops.DropPath, ops.Identity)):
            [same[op.name]] = inputs
        else:
            same[op.name] = op.name
            kept.append(dataclasses.replace(op, inputs=inputs))
    return dataclasses.replace(
        network,
        ops=tuple(kept),
        endpoints={key: same[name] for key, name in network.endpoints.items()},
        features=same[network.features],
        logits=network.logits and same[network.logits],
    )


def _uses(network: Network) -> Counter[str]:
    """Counts how often the output of each op is needed, by ops and from outside."""
    return Counter(_needed(network))


def _needed(network: Network) -> Iterator[str]:
    for op in network.ops:
        yield from op.inputs
    yield from network.endpoints.values()
    yield network.features
    if network.logits is not None:
        yield network.logits


def _replaced(network: Network, by_name: Mapping[str, Op]) -> Network:
    return dataclasses.replace(network, ops=tuple(by_name.get(op.name, op) for op in network.ops))
