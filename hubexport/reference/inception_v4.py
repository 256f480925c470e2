"""Inception V4, rewritten with tf_slim's layers; tf_slim itself lacks it."""

from collections.abc import Callable
import functools

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim

_Layer = Callable[[tf.Tensor], tf.Tensor]


def reference_inception_v4(
    images: tf.Tensor,
    num_classes: int | None,
    *,
    is_training: bool = False,
    batch_norm_decay: float = 0.9997,
    weight_decay: float = 4e-5,
    dropout_keep_prob: float = 0.8,
) -> Reference:
    """Builds the network into the current graph, with variables under `InceptionV4/`.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        num_classes: None leaves the classifier out.
        is_training: whether batch norm takes the batch's statistics and dropout is active.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses.
        dropout_keep_prob: 1.0 is no dropout.
    """
    from tf_slim.nets import inception

    endpoints: dict[str, tf.Tensor] = {}
    with tf.variable_scope("InceptionV4", use_resource=True), slim.arg_scope(
        inception.inception_v3_arg_scope(
            weight_decay, batch_norm_decay=batch_norm_decay, updates_collections=UPDATES_COLLECTION
        )
    ), slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training), slim.arg_scope(
        [slim.conv2d, slim.max_pool2d, slim.avg_pool2d], stride=1, padding="SAME"
    ):
        net = images * 2.0 - 1.0
        for name, block in _blocks():
            with tf.variable_scope(name):
                net = endpoints[name] = block(net)
        with tf.variable_scope("Logits"):
            net = endpoints["global_pool"] = tf.reduce_mean(net, [1, 2], keepdims=True)
            features = tf.squeeze(net, [1, 2])
            logits = None
            if num_classes is not None:
                net = slim.dropout(net, dropout_keep_prob, scope="Dropout_1b")
                net = endpoints["PreLogitsFlatten"] = slim.flatten(net, scope="PreLogitsFlatten")
                logits = slim.fully_connected(net, num_classes, activation_fn=None, scope="Logits")
                endpoints["Logits"] = logits
                endpoints["Predictions"] = tf.nn.softmax(logits)
    return Reference(
        features,
        logits,
        {f"InceptionV4/{name}": tensor for name, tensor in endpoints.items()},
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )


def _blocks() -> list[tuple[str, _Layer]]:
    """Returns the scope of each step of the network with what it does, within that scope."""
    stem = [
        ("Conv2d_1a_3x3", _here(32, 3, stride=2, padding="VALID")),
        ("Conv2d_2a_3x3", _here(32, 3, padding="VALID")),
        ("Conv2d_2b_3x3", _here(64, 3)),
        ("Mixed_3a", _joined([_max("0a")], [_conv("0a", 96, 3, stride=2, padding="VALID")])),
        (
            "Mixed_4a",
            _joined(
                [_conv("0a", 64, 1), _conv("1a", 96, 3, padding="VALID")],
                [
                    _conv("0a", 64, 1),
                    _conv("0b", 64, 1, 7),
                    _conv("0c", 64, 7, 1),
                    _conv("1a", 96, 3, padding="VALID"),
                ],
            ),
        ),
        ("Mixed_5a", _joined([_conv("1a", 192, 3, stride=2, padding="VALID")], [_max("1a")])),
    ]
    block_a = _joined(
        [_conv("0a", 96, 1)],
        [_conv("0a", 64, 1), _conv("0b", 96, 3)],
        [_conv("0a", 64, 1), _conv("0b", 96, 3), _conv("0c", 96, 3)],
        [_average, _conv("0b", 96, 1)],
    )
    reduction_a = _joined(
        [_conv("1a", 384, 3, stride=2, padding="VALID")],
        [_conv("0a", 192, 1), _conv("0b", 224, 3), _conv("1a", 256, 3, stride=2, padding="VALID")],
        [_max("1a")],
    )
    block_b = _joined(
        [_conv("0a", 384, 1)],
        [_conv("0a", 192, 1), _conv("0b", 224, 1, 7), _conv("0c", 256, 7, 1)],
        [
            _conv("0a", 192, 1),
            _conv("0b", 192, 7, 1),
            _conv("0c", 224, 1, 7),
            _conv("0d", 224, 7, 1),
            _conv("0e", 256, 1, 7),
        ],
        [_average, _conv("0b", 128, 1)],
    )
    reduction_b = _joined(
        [_conv("0a", 192, 1), _conv("1a", 192, 3, stride=2, padding="VALID")],
        [
            _conv("0a", 256, 1),
            _conv("0b", 256, 1, 7),
            _conv("0c", 320, 7, 1),
            _conv("1a", 320, 3, stride=2, padding="VALID"),
        ],
        [_max("1a")],
    )
    block_c = _joined(
        [_conv("0a", 256, 1)],
        [_conv("0a", 384, 1), _both(_conv("0b", 256, 1, 3), _conv("0c", 256, 3, 1))],
        [
            _conv("0a", 384, 1),
            _conv("0b", 448, 3, 1),
            _conv("0c", 512, 1, 3),
            _both(_conv("0d", 256, 1, 3), _conv("0e", 256, 3, 1)),
        ],
        [_average, _conv("0b", 256, 1)],
    )
    return [
        *stem,
        *((f"Mixed_5{letter}", block_a) for letter in "bcde"),
        ("Mixed_6a", reduction_a),
        *((f"Mixed_6{letter}", block_b) for letter in "bcdefgh"),
        ("Mixed_7a", reduction_b),
        *((f"Mixed_7{letter}", block_c) for letter in "bcd"),
    ]


def _here(filters: int, size: int, **options: object) -> _Layer:
    """A convolution whose variables are in the scope that it is called in."""

    def layer(net: tf.Tensor) -> tf.Tensor:
        scope = tf.get_variable_scope()
        return slim.conv2d(net, filters, [size, size], scope=scope, **options)

    return layer


def _conv(number: str, filters: int, height: int, width: int | None = None, **options: object) -> _Layer:
    kernel = [height, width or height]
    scope = f"Conv2d_{number}_{kernel[0]}x{kernel[1]}"
    return functools.partial(slim.conv2d, num_outputs=filters, kernel_size=kernel, scope=scope, **options)


def _max(number: str) -> _Layer:
    scope = f"MaxPool_{number}_3x3"
    return functools.partial(slim.max_pool2d, kernel_size=[3, 3], stride=2, padding="VALID", scope=scope)


def _average(net: tf.Tensor) -> tf.Tensor:
    return slim.avg_pool2d(net, [3, 3], scope="AvgPool_0a_3x3")


def _both(*layers: _Layer) -> _Layer:
    return lambda net: tf.concat([layer(net) for layer in layers], axis=3)


def _joined(*branches: list[_Layer]) -> _Layer:
    """Branches of one input, each in a scope of its own."""

    def block(net: tf.Tensor) -> tf.Tensor:
        ends = []
        for number, layers in enumerate(branches):
            with tf.variable_scope(f"Branch_{number}"):
                ends.append(functools.reduce(lambda inner, layer: layer(inner), layers, net))
        return tf.concat(ends, axis=3)

    return block
