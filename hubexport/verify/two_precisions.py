"""A network in float64 and in float32, side by side on two cores."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.network import Layer, Network
from hubexport.networks.numpy_forward import Floats, Forward


class TwoPrecisions:
    """A pass in float64, which is practically exact, and one in float32, which shows how much rounding to expect.

    Args:
        network: what to compute.
        values: the values of all its variables, by name.
        images: float32 [batch, height, width, 3] in [0, 1].
        training: see `Forward`.
    Attributes:
        exact: the pass in float64.
        rounded: the pass in float32.
    """

    def __init__(self, network: Network, values: Mapping[str, Array], images: Array, *, training: bool = False) -> None:
        self.exact = Forward(network, values, images, training=training)
        self.rounded = Forward(network, values, images, dtype=np.float32, training=training)

    def run(self, keep: Collection[str] | None = None) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Computes both, and returns the outputs of both by op; for `keep` see `Forward.run`."""
        with ThreadPoolExecutor(1) as other:
            rounded = other.submit(self.rounded.run, keep)
            return self.exact.run(keep), rounded.result()

    def steps(self, keep: Collection[str]) -> Iterator[Layer]:
        """Computes one layer after another in both, and yields each; for `keep` see `Forward.run`."""
        exact, rounded = self.exact.steps(keep), self.rounded.steps(keep)
        with ThreadPoolExecutor(1) as other:
            while True:
                following = other.submit(next, rounded, None)
                layer = next(exact, None)
                following.result()
                if layer is None:
                    return
                yield layer
