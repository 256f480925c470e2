"""Trains a TF1 Hub module: by its graph version `train`, and by gradients through its graph version for inference."""

from collections.abc import Mapping, Sequence
import contextlib
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from hubexport.arrays import Array
from hubexport.runtime.tf1_graph import LoadedGraphVersion, opened_graph_version
from hubexport.runtime.trainable_module import TrainingOutputs, TrainingStep


class Tf1Training:
    """See `hubexport.runtime.trainable_module.TrainableModule`.

    Args:
        directory: the directory of a TF1 Hub module.
        stack: closes the module's sessions when it is left.
    """

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._inference = stack.enter_context(opened_graph_version(directory))
        self._train = stack.enter_context(opened_graph_version(directory, ["train"]))
        with self._train.graph.as_default():
            self._variables = {variable.op.name: variable for variable in tf.global_variables()}
            self.trainable = tuple(variable.op.name for variable in tf.trainable_variables())
            self._update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
            self._losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)

    def values(self) -> dict[str, Array]:
        return self._train.values()

    def reset(self) -> None:
        self._train.restore()

    def train(self, images: Array, cotangent: Array, learning_rate: float) -> TrainingStep:
        images_tensor, output = _default_tensors(self._train)
        with self._train.graph.as_default():
            loss = tf.reduce_sum(output * cotangent)
            gradients = _gradients(loss, [self._variables[name] for name in self.trainable])
            pairs = [(gradient, self._variables[name]) for name, gradient in gradients.items()]
            with tf.control_dependencies(self._update_ops):
                descend = tf.train.GradientDescentOptimizer(learning_rate).apply_gradients(pairs)
        gradient_values, _ = self._train.session.run([gradients, descend], {images_tensor: images})
        return TrainingStep(self.values(), gradient_values)

    def update(self, images: Array, momentum: float | None = None) -> TrainingOutputs:
        signatures = self._train.meta_graph.signature_def
        fetches = [signatures[name].outputs["default"].name for name in ("default", "image_feature_vector")]
        feed: dict[str, Any] = {signatures["default"].inputs["images"].name: images}
        if momentum is not None:
            inputs = next(s.inputs for s in signatures.values() if "batch_norm_momentum" in s.inputs)
            feed[inputs["batch_norm_momentum"].name] = momentum
        outputs, _ = self._train.session.run([fetches, self._update_ops], feed)
        return TrainingOutputs(*outputs)

    def gradients(self, images: Array, cotangent: Array, variables: Sequence[str]) -> dict[str, Array]:
        images_tensor, output = _default_tensors(self._inference)
        with self._inference.graph.as_default():
            wanted = [variable for variable in tf.global_variables() if variable.op.name in variables]
            gradients = _gradients(tf.reduce_sum(output * cotangent), wanted)
        return self._inference.session.run(gradients, {images_tensor: images})

    def joint_gradient(self, first: Array, second: Array, cotangent: Array, variable: str) -> Array | None:
        images, output = _default_tensors(self._inference)
        with self._inference.graph.as_default():
            variables = {v.op.name: v for v in tf.global_variables()}
            # Like hub.Module, the second application shares the variables of the first.
            handles = {v.handle.name: v.handle for v in variables.values()}
            second_images, second_output = tf.import_graph_def(
                self._inference.meta_graph.graph_def, handles, [images.name, output.name], name="second_application"
            )
            joint = tf.reduce_sum(output * cotangent) + tf.reduce_sum(second_output * cotangent)
            gradients = _gradients(joint, [variables[variable]])
        return self._inference.session.run(gradients, {images: first, second_images: second}).get(variable)

    def regularization_losses(self) -> list[float]:
        return [float(loss) for loss in self._train.session.run(self._losses)]


def _default_tensors(version: LoadedGraphVersion) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the images and the output of the default signature."""
    definition = version.meta_graph.signature_def["default"]
    names = definition.inputs["images"].name, definition.outputs["default"].name
    images, output = (version.graph.get_tensor_by_name(name) for name in names)
    return images, output


def _gradients(loss: tf.Tensor, variables: Sequence[tf.Variable]) -> Mapping[str, tf.Tensor]:
    """Returns the gradients of a loss by the names of the variables that it depends on."""
    pairs = zip(variables, tf.gradients(loss, variables), strict=True)
    return {variable.op.name: gradient for variable, gradient in pairs if gradient is not None}
