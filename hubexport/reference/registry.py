"""The reference of each family of networks, by the name that a variant's `network` key has."""

from collections.abc import Callable
import dataclasses
from typing import Any

import tensorflow.compat.v1 as tf

from hubexport.reference.mobilenet_v1 import reference_mobilenet_v1
from hubexport.reference.mobilenet_v2 import reference_mobilenet_v2
from hubexport.reference.reference import Reference
from hubexport.reference.resnet_v2 import reference_resnet_v2


@dataclasses.dataclass(frozen=True)
class FamilyReference:
    """How a family's networks are built with TF-Slim.

    Attributes:
        source: whose code it is: TF-Slim's own network, or one rewritten in its idiom.
        build: builds a network from images, the family's parameters and the number of classes; see `__call__`.
        without_dropout: the keyword arguments of `build` that switch dropout off.
    """

    source: str
    build: Callable[..., Reference]
    without_dropout: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(
        self,
        images: tf.Tensor,
        parameters: Any,
        num_classes: int | None,
        *,
        is_training: bool = False,
        dropout: bool = True,
    ) -> Reference:
        """Builds a network into the current graph, with the family's training scope.

        Args:
            images: float32 `[batch, height, width, 3]`, RGB, intensities in [0, 1].
            parameters: the family's, as attributes like `depth_multiplier`.
            num_classes: the number of classes; None leaves the classifier out.
            is_training: whether batch norm uses the batch's statistics and dropout is active.
            dropout: whether training drops features, where the family does.
        """
        options = {} if dropout else self.without_dropout
        return self.build(images, parameters, num_classes, is_training=is_training, **options)


def _mobilenet(build: Callable[..., Reference]) -> FamilyReference:
    return FamilyReference(
        source="this network rewritten with tf_slim's layers",
        build=lambda images, parameters, *arguments, **options: build(
            images, parameters.depth_multiplier, *arguments, **options
        ),
        without_dropout={"dropout_keep_prob": 1.0},
    )


def _resnet_v2(num_layers: int) -> FamilyReference:
    return FamilyReference(
        source=f"TF-Slim's own network, tf_slim.nets.resnet_v2.resnet_v2_{num_layers}",
        build=lambda images, parameters, *arguments, **options: reference_resnet_v2(
            images, num_layers, *arguments, **options
        ),
    )


REFERENCES: dict[str, FamilyReference] = {
    "mobilenet_v1": _mobilenet(reference_mobilenet_v1),
    "mobilenet_v2": _mobilenet(reference_mobilenet_v2),
    **{f"resnet_v2_{num_layers}": _resnet_v2(num_layers) for num_layers in (50, 101, 152)},
}
