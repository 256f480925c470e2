"""The reference of each family of networks, by the name that a variant's `network` key has."""

from collections.abc import Callable
import dataclasses
from typing import Any

import tensorflow.compat.v1 as tf

from hubexport.reference.inception import reference_inception
from hubexport.reference.inception_resnet_v2 import reference_inception_resnet_v2
from hubexport.reference.inception_v4 import reference_inception_v4
from hubexport.reference.mobilenet_v1 import reference_mobilenet_v1
from hubexport.reference.mobilenet_v2 import reference_mobilenet_v2
from hubexport.reference.mobilenet_v3 import reference_mobilenet_v3
from hubexport.reference.nasnet import reference_nasnet, reference_pnasnet
from hubexport.reference.reference import Reference
from hubexport.reference.resnet_v1 import reference_resnet_v1
from hubexport.reference.resnet_v2 import reference_resnet_v2
from hubexport.reference.vgg import reference_vgg


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


def _mobilenet_v3(architecture: str) -> FamilyReference:
    return FamilyReference(
        source="this network rewritten with tf_slim's layers",
        build=lambda images, parameters, *arguments, **options: reference_mobilenet_v3(
            images, architecture, parameters.depth_multiplier, *arguments, **options
        ),
        without_dropout={"dropout_keep_prob": 1.0},
    )


def _inception(version: int) -> FamilyReference:
    return FamilyReference(
        source=f"TF-Slim's own network, tf_slim.nets.inception.inception_v{version}_base, with a mean as its head",
        build=lambda images, parameters, *arguments, **options: reference_inception(
            images, version, *arguments, **options
        ),
        without_dropout={"dropout_keep_prob": 1.0},
    )


def _rewritten_inception(build: Callable[..., Reference]) -> FamilyReference:
    return FamilyReference(
        source="this network rewritten with tf_slim's layers",
        build=lambda images, parameters, *arguments, **options: build(images, *arguments, **options),
        without_dropout={"dropout_keep_prob": 1.0},
    )


def _nasnet(build: Callable[..., Reference], **scale: Any) -> FamilyReference:
    return FamilyReference(
        source="this network rewritten with tf_slim's layers",
        build=lambda images, parameters, *arguments, **options: build(images, *arguments, **scale | options),
        without_dropout={"dropout_keep_prob": 1.0, "drop_path_keep_prob": 1.0},
    )


def _resnet_v1(num_layers: int, *, from_caffe: bool) -> FamilyReference:
    return FamilyReference(
        source=f"TF-Slim's own network, tf_slim.nets.resnet_v1.resnet_v1_{num_layers}",
        build=lambda images, parameters, *arguments, **options: reference_resnet_v1(
            images, num_layers, *arguments, from_caffe=from_caffe, **options
        ),
    )


def _resnet_v2(num_layers: int) -> FamilyReference:
    return FamilyReference(
        source=f"TF-Slim's own network, tf_slim.nets.resnet_v2.resnet_v2_{num_layers}",
        build=lambda images, parameters, *arguments, **options: reference_resnet_v2(
            images, num_layers, *arguments, **options
        ),
    )


def _vgg(num_layers: int) -> FamilyReference:
    return FamilyReference(
        source=f"TF-Slim's own network, tf_slim.nets.vgg.vgg_{num_layers}",
        build=lambda images, parameters, *arguments, **options: reference_vgg(
            images, num_layers, *arguments, **options
        ),
        without_dropout={"dropout_keep_prob": 1.0},
    )


_MOBILENET_V3_NAMES = {
    "mobilenet_v3_large": "large",
    "mobilenet_v3_small": "small",
    "mobilenet_v3_large_minimalistic": "large_minimalistic",
    "mobilenet_v3_small_minimalistic": "small_minimalistic",
    "mobilenet_edgetpu": "edgetpu",
}
_RESNET_LAYERS = (50, 101, 152)


REFERENCES: dict[str, FamilyReference] = {
    "mobilenet_v1": _mobilenet(reference_mobilenet_v1),
    "mobilenet_v2": _mobilenet(reference_mobilenet_v2),
    **{name: _mobilenet_v3(architecture) for name, architecture in _MOBILENET_V3_NAMES.items()},
    **{f"inception_v{version}": _inception(version) for version in (1, 2, 3)},
    "inception_v4": _rewritten_inception(reference_inception_v4),
    "inception_resnet_v2": _rewritten_inception(reference_inception_resnet_v2),
    **{f"resnet_v1_{layers}": _resnet_v1(layers, from_caffe=False) for layers in _RESNET_LAYERS},
    **{f"resnet_v1_{layers}_caffe": _resnet_v1(layers, from_caffe=True) for layers in _RESNET_LAYERS},
    **{f"resnet_v2_{layers}": _resnet_v2(layers) for layers in _RESNET_LAYERS},
    **{f"vgg_{layers}": _vgg(layers) for layers in (16, 19)},
    "nasnet_mobile": _nasnet(reference_nasnet, num_cells=12, filters=44, stem_filters=32),
    "nasnet_large": _nasnet(
        reference_nasnet,
        num_cells=18,
        filters=168,
        stem_filters=96,
        skip_reduction_input=True,
        weight_decay=5e-5,
        drop_path_keep_prob=0.7,
    ),
    "pnasnet_mobile": _nasnet(reference_pnasnet, num_cells=9, filters=54, stem_filters=32),
    "pnasnet_large": _nasnet(reference_pnasnet, num_cells=12, filters=216, stem_filters=96, drop_path_keep_prob=0.6),
}
