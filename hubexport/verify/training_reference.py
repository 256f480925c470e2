"""The float64 network in training mode, and how far float32 arithmetic has to be from it.

Batch norm takes the statistics of the batch. Dropout and dropped paths keep everything, as the copy of a module does
that draws no random numbers (`hubexport.runtime.steady_copy`): what is kept is divided by the chance of being kept.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Floats, Forward
from hubexport.networks.ops import Dropout, DropPath, Op, Scale, Softmax
from hubexport.verify.layer_errors import output_floor, shown_outputs


@dataclasses.dataclass(frozen=True)
class TrainingReference:
    """What a module should compute for a batch in training mode.

    Attributes:
        network: the network, with constants in place of chance.
        exact: float64 [batch, ...], the outputs that a module shows, by the name of their op.
        floors: the largest absolute error of float32 arithmetic in NumPy, by the name of the op.
        statistics: float64, what each moving average is moved towards, by its name.
        rounded_statistics: the same in float32.
    """

    network: Network
    exact: Mapping[str, Floats]
    floors: Mapping[str, float]
    statistics: Mapping[str, Floats]
    rounded_statistics: Mapping[str, Floats]


def measure_training(network: Network, values: Mapping[str, Array], images: Array) -> TrainingReference:
    """Computes a network in training mode, in float64 and in float32.

    Args:
        network: what the module should compute.
        values: the values of the network's variables, by name.
        images: float32 [batch, height, width, 3] in [0, 1].
    """
    steady = dataclasses.replace(network, ops=tuple(map(_keeping, network.ops)))
    kept = {*shown_outputs(network), network.features}
    # A softmax's floor takes its logits.
    kept |= {name for op in network.ops if isinstance(op, Softmax) for name in op.inputs}
    passes = [Forward(steady, values, images, dtype=dtype, training=True) for dtype in (np.float64, np.float32)]
    exact, rounded = (one.run(kept) for one in passes)
    floors = {op.name: output_floor(op, rounded, exact) for op in network.ops if op.name in kept}
    return TrainingReference(steady, exact, floors, *(one.batch_statistics for one in passes))


def _keeping(op: Op) -> Op:
    """Returns what an op that drops at random does if it keeps everything, and any other op itself."""
    if not isinstance(op, (Dropout, DropPath)):
        return op
    return Scale(name=op.name, inputs=op.inputs, layer=op.layer, factor=1 / op.keep_prob)
