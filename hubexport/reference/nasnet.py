"""NASNet-A and PNASNet-5, rewritten with tf_slim's layers; tf_slim itself lacks them."""

from collections.abc import Iterator
import contextlib

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim

# Two operations and the states that they take, five times; then the states that are not part of the output.
_NASNET_NORMAL = (
    "separable_5x5 0 separable_3x3 1",
    "separable_5x5 1 separable_3x3 1",
    "avg_pool 0 none 1",
    "avg_pool 1 avg_pool 1",
    "separable_3x3 0 none 0",
    {0},
)
_NASNET_REDUCTION = (
    "separable_5x5 0 separable_7x7 1",
    "max_pool 0 separable_7x7 1",
    "avg_pool 0 separable_5x5 1",
    "none 3 avg_pool 2",
    "separable_3x3 2 max_pool 0",
    {0, 1, 2},
)
_PNASNET = (
    "separable_5x5 1 max_pool 1",
    "separable_7x7 0 max_pool 0",
    "separable_5x5 0 separable_3x3 0",
    "separable_3x3 4 max_pool 0",
    "separable_3x3 1 none 0",
    {0, 1},
)


def reference_nasnet(
    images: tf.Tensor,
    num_classes: int | None,
    *,
    num_cells: int,
    filters: int,
    stem_filters: int,
    skip_reduction_input: bool = False,
    weight_decay: float = 4e-5,
    drop_path_keep_prob: float = 1.0,
    dropout_keep_prob: float = 0.5,
    is_training: bool = False,
    batch_norm_decay: float = 0.9997,
) -> Reference:
    """Builds NASNet-A into the current graph, with variables under `conv0`, `cell_stem_0` and so on.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1]; height and width are known.
        num_classes: None leaves the classifier out.
        num_cells: the number of normal cells.
        filters: of the first normal cell.
        stem_filters: of the first convolution.
        skip_reduction_input: whether the cell after a reduction cell does not see that cell's input.
        weight_decay: scale of the L2 losses, of depthwise weights, too.
        drop_path_keep_prob: of the last cell; 1.0 drops no paths.
        dropout_keep_prob: 1.0 is no dropout.
        is_training: whether batch norm takes the batch's statistics and dropout is active.
        batch_norm_decay: of the moving averages.
    """
    endpoints: dict[str, tf.Tensor] = {}
    with _scopes(weight_decay, is_training, batch_norm_decay):
        cell = _Cells(num_cells + 4, drop_path_keep_prob if is_training else 1.0)
        stem = _conv0(images, stem_filters)
        earlier, net = stem, cell(stem, None, _NASNET_REDUCTION, filters / 4, 2, "cell_stem_0")
        earlier, net = net, cell(net, earlier, _NASNET_REDUCTION, filters / 2, 2, "cell_stem_1")
        endpoints["Stem"] = net
        reductions = 0
        for number in range(num_cells):
            if number in (num_cells // 3, num_cells * 2 // 3):
                filters *= 2
                reduced = cell(net, earlier, _NASNET_REDUCTION, filters, 2, f"reduction_cell_{reductions}")
                endpoints[f"Reduction_Cell_{reductions}"] = reduced
                reductions += 1
                earlier, net = (earlier if skip_reduction_input else net), reduced
            earlier, net = net, cell(net, earlier, _NASNET_NORMAL, filters, 1, f"cell_{number}")
            endpoints[f"Cell_{number}"] = net
        return _classified(net, endpoints, num_classes, dropout_keep_prob, is_training)


def reference_pnasnet(
    images: tf.Tensor,
    num_classes: int | None,
    *,
    num_cells: int,
    filters: int,
    stem_filters: int,
    weight_decay: float = 4e-5,
    drop_path_keep_prob: float = 1.0,
    dropout_keep_prob: float = 0.5,
    is_training: bool = False,
    batch_norm_decay: float = 0.9997,
) -> Reference:
    """Builds PNASNet-5 into the current graph, with variables under `conv0`, `cell_stem_0` and so on.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1]; height and width are known.
        num_classes: None leaves the classifier out.
        num_cells: the number of cells after the stem.
        filters: of the first of these.
        stem_filters: of the first convolution.
        weight_decay: scale of the L2 losses, of depthwise weights, too.
        drop_path_keep_prob: of the last cell; 1.0 drops no paths.
        dropout_keep_prob: 1.0 is no dropout.
        is_training: whether batch norm takes the batch's statistics and dropout is active.
        batch_norm_decay: of the moving averages.
    """
    endpoints: dict[str, tf.Tensor] = {}
    with _scopes(weight_decay, is_training, batch_norm_decay):
        cell = _Cells(num_cells + 2, drop_path_keep_prob if is_training else 1.0)
        stem = _conv0(images, stem_filters)
        earlier, net = stem, cell(stem, None, _PNASNET, filters / 4, 2, "cell_stem_0")
        earlier, net = net, cell(net, earlier, _PNASNET, filters / 2, 2, "cell_stem_1")
        endpoints["Stem"] = net
        for number in range(num_cells):
            stride = 2 if number in (num_cells // 3, num_cells * 2 // 3) else 1
            filters *= stride
            earlier, net = net, cell(net, earlier, _PNASNET, filters, stride, f"cell_{number}")
            endpoints[f"Cell_{number}"] = net
        return _classified(net, endpoints, num_classes, dropout_keep_prob, is_training)


@contextlib.contextmanager
def _scopes(weight_decay: float, is_training: bool, batch_norm_decay: float) -> Iterator[None]:
    with tf.variable_scope(tf.get_variable_scope(), use_resource=True), slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d, slim.fully_connected],
        weights_regularizer=slim.l2_regularizer(weight_decay),
        activation_fn=None,
    ), slim.arg_scope([slim.conv2d, slim.separable_conv2d], biases_initializer=None), slim.arg_scope(
        [slim.batch_norm],
        decay=batch_norm_decay,
        epsilon=0.001,
        scale=True,
        is_training=is_training,
        updates_collections=UPDATES_COLLECTION,
    ), slim.arg_scope(
        [slim.max_pool2d, slim.avg_pool2d], padding="SAME"
    ):
        yield


def _conv0(images: tf.Tensor, filters: int) -> tf.Tensor:
    net = slim.conv2d(images * 2.0 - 1.0, filters, [3, 3], stride=2, padding="VALID", scope="conv0")
    return slim.batch_norm(net, scope="conv0_bn")


class _Cells:
    """Builds cells one after another, each with a greater probability of dropped paths than the one before."""

    def __init__(self, total: int, last_keep_prob: float) -> None:
        self._total = total
        self._last_keep_prob = last_keep_prob
        self._built = 0

    def __call__(
        self,
        net: tf.Tensor,
        earlier: tf.Tensor | None,
        table: tuple,  # type: ignore[type-arg]
        filters: float,
        stride: int,
        scope: str,
    ) -> tf.Tensor:
        filters = int(filters)
        self._built += 1
        keep_prob = 1 - self._built / self._total * (1 - self._last_keep_prob)
        *pairs, hidden = table
        with tf.variable_scope(scope):
            state_1 = net if earlier is None else _reduced(earlier, net, filters)
            state_0 = slim.conv2d(tf.nn.relu(net), filters, [1, 1], scope="1x1")
            states = [slim.batch_norm(state_0, scope="beginning_bn"), state_1]
            for number, pair in enumerate(pairs):
                left, left_state, right, right_state = pair.split()
                with tf.variable_scope(f"comb_iter_{number}"):
                    with tf.variable_scope("left"):
                        first = _operation(left, states, int(left_state), filters, stride, keep_prob)
                    with tf.variable_scope("right"):
                        second = _operation(right, states, int(right_state), filters, stride, keep_prob)
                    states.append(first + second)
            return tf.concat([state for number, state in enumerate(states) if number not in hidden], axis=3)


def _reduced(earlier: tf.Tensor, net: tf.Tensor, filters: int) -> tf.Tensor:
    if earlier.shape[2] != net.shape[2]:
        earlier = tf.nn.relu(earlier)
        path_1 = tf.nn.avg_pool(earlier, [1, 1, 1, 1], [1, 2, 2, 1], "VALID")
        path_1 = slim.conv2d(path_1, filters // 2, [1, 1], scope="path1_conv")
        path_2 = tf.pad(earlier, [[0, 0], [0, 1], [0, 1], [0, 0]])[:, 1:, 1:, :]
        path_2 = tf.nn.avg_pool(path_2, [1, 1, 1, 1], [1, 2, 2, 1], "VALID")
        path_2 = slim.conv2d(path_2, filters // 2 + filters % 2, [1, 1], scope="path2_conv")
        return slim.batch_norm(tf.concat([path_1, path_2], axis=3), scope="final_path_bn")
    if earlier.shape[3] != filters:
        earlier = slim.conv2d(tf.nn.relu(earlier), filters, [1, 1], scope="prev_1x1")
        return slim.batch_norm(earlier, scope="prev_bn")
    return earlier


def _operation(
    operation: str, states: list[tf.Tensor], state: int, filters: int, stride: int, keep_prob: float
) -> tf.Tensor:
    net = states[state]
    if state >= 2:
        stride = 1
    if operation == "none":
        if stride > 1 or net.shape[3] != filters:
            net = slim.conv2d(tf.nn.relu(net), filters, [1, 1], stride=stride, scope="1x1")
            net = slim.batch_norm(net, scope="bn_1")
        return net
    if operation.startswith("separable"):
        size = operation.removeprefix("separable_")
        kernel = [int(length) for length in size.split("x")]
        for number, step in ((1, stride), (2, 1)):
            scope = f"{operation}_{number}"
            net = slim.separable_conv2d(tf.nn.relu(net), filters, kernel, depth_multiplier=1, stride=step, scope=scope)
            net = slim.batch_norm(net, scope=f"bn_sep_{size}_{number}")
    else:
        pool = slim.max_pool2d if operation == "max_pool" else slim.avg_pool2d
        net = pool(net, [3, 3], stride=stride)
        if net.shape[3] != filters:
            net = slim.batch_norm(slim.conv2d(net, filters, [1, 1], scope="1x1"), scope="bn_1")
    if keep_prob < 1:
        kept = tf.floor(keep_prob + tf.random_uniform([tf.shape(net)[0], 1, 1, 1]))
        net = net / keep_prob * kept
    return net


def _classified(
    net: tf.Tensor,
    endpoints: dict[str, tf.Tensor],
    num_classes: int | None,
    dropout_keep_prob: float,
    is_training: bool,
) -> Reference:
    with tf.variable_scope("final_layer"):
        features = endpoints["global_pool"] = tf.reduce_mean(tf.nn.relu(net), [1, 2])
        logits = None
        if num_classes is not None:
            net = slim.dropout(features, dropout_keep_prob, is_training=is_training, scope="dropout")
            logits = endpoints["Logits"] = slim.fully_connected(net, num_classes, scope="FC")
            endpoints["Predictions"] = tf.nn.softmax(logits, name="predictions")
    return Reference(
        features,
        logits,
        endpoints,
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )
