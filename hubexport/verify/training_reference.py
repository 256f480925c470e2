"""The float64 network in training mode, and how far float32 arithmetic has to be from it.

Batch norm takes the statistics of the batch. Dropout and dropped paths keep everything, as the copy of a module does
that draws no random numbers (`hubexport.runtime.steady_copy`): what is kept is divided by the chance of being kept.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Floats
from hubexport.networks.ops import Dropout, DropPath, Op, Scale
from hubexport.verify.layer_errors import layer_difference, output_floor
from hubexport.verify.two_precisions import TwoPrecisions

# What training values of gamma are multiplied by. With the module's own, few activations may reach the upper end of
# ReLU6, so that another activation would compute the same.
_GAMMA_FACTOR = np.float32(2)


@dataclasses.dataclass(frozen=True)
class TrainingReference:
    """What a module should compute for a batch in training mode.

    Attributes:
        network: the network, with constants in place of chance.
        values: the values of all its variables, by name.
        images: float32 [batch, height, width, 3] in [0, 1].
        exact: float64 [batch, ...], the main outputs, by the name of their op.
        floors: the largest absolute error of float32 arithmetic in NumPy, by the name of the op.
        statistics: float64, what each moving average is moved towards, by its name.
        rounded_statistics: the same in float32.
    """

    network: Network
    values: Mapping[str, Array]
    images: Array
    exact: Mapping[str, Floats]
    floors: Mapping[str, float]
    statistics: Mapping[str, Floats]
    rounded_statistics: Mapping[str, Floats]

    def errors_in_floors(self, shown: Mapping[str, Array]) -> dict[str, float]:
        """Returns the error of each output that a module shows, by op, in float32 floors of its own.

        Each is compared with what the float64 network makes of the outputs that the module shows before it. Through
        many batch norms, rounding would grow until it hid a mistake.

        Args:
            shown: float32 [batch, ...] by op, from one application of the module.
        """
        passes = TwoPrecisions(self.network, self.values, self.images, training=True)
        exact, rounded = passes.exact.outputs, passes.rounded.outputs
        errors = {}
        for layer in passes.steps(keep=()):
            for op in layer.ops:
                if op.name in shown:
                    output = shown[op.name]
                    errors[op.name] = layer_difference(output, exact[op.name]) / output_floor(op, rounded, exact)
                    if output.shape == exact[op.name].shape:
                        exact[op.name] = output.astype(np.float64)
                        rounded[op.name] = output
        return errors


def training_gammas(network: Network, values: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the values of gamma that a module is trained from, by name, so that all activations matter."""
    return {
        variable.name: values[variable.name] * _GAMMA_FACTOR
        for variable in network.variables
        if variable.role == "gamma"
    }


def measure_training(network: Network, values: Mapping[str, Array], images: Array) -> TrainingReference:
    """Computes a network in training mode, in float64 and in float32.

    Args:
        network: what the module should compute.
        values: the values of the network's variables, by name.
        images: float32 [batch, height, width, 3] in [0, 1].
    """
    steady = dataclasses.replace(network, ops=tuple(map(_keeping, network.ops)))
    kept = {network.features, network.logits or network.features}
    passes = TwoPrecisions(steady, values, images, training=True)
    exact, rounded = passes.run(kept)
    floors = {op.name: output_floor(op, rounded, exact) for op in network.ops if op.name in kept}
    statistics = passes.exact.batch_statistics, passes.rounded.batch_statistics
    return TrainingReference(steady, values, images, exact, floors, *statistics)


def _keeping(op: Op) -> Op:
    """Returns what an op that drops at random does if it keeps everything, and any other op itself."""
    if not isinstance(op, (Dropout, DropPath)):
        return op
    return Scale(name=op.name, inputs=op.inputs, layer=op.layer, factor=1 / op.keep_prob)
