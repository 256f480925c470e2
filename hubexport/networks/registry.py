"""The networks that a variant's `network` key may name."""

from collections.abc import Callable

from hubexport.networks.layers import Network
from hubexport.networks.mobilenet_v2 import mobilenet_v2

# Each takes (depth_multiplier, image_size in pixels, num_classes or None for no classifier).
NETWORKS: dict[str, Callable[[float, int, int | None], Network]] = {
    "mobilenet_v2": mobilenet_v2,
}

# The depth multipliers of TF-Slim's published checkpoints, which recognition tries.
PUBLISHED_DEPTH_MULTIPLIERS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
