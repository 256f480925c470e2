"""Trains a TF1 Hub module: by its graph version `train`, and by gradients through its graph version for inference."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from hubexport.arrays import Array
from hubexport.modules.saved_model_interface import IMAGES
from hubexport.runtime.tf1_graph import LoadedGraphVersion, opened_graph_version
from hubexport.runtime.trainable_module import (
    Cotangents,
    Gradients,
    MainOutput,
    RegularizationLosses,
    TrainingPass,
    TrainingStep,
    loss_weights,
)

_TRAIN = "train"
_MOMENTUM = "batch_norm_momentum"


class Tf1Training:
    """See `hubexport.runtime.trainable_module.TrainableModule`.

    Args:
        directory: the directory of a TF1 Hub module.
        values: the values of variables that differ in training from the module's, by name.
        stack: closes the module's sessions when it is left.
    """

    def __init__(self, directory: Path, values: Mapping[str, Array], stack: contextlib.ExitStack) -> None:
        self._inference = stack.enter_context(opened_graph_version(directory, optimized=False))
        self._train = stack.enter_context(opened_graph_version(directory, [_TRAIN], optimized=False))
        with self._train.graph.as_default():
            self._update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
            variables = [variable for variable in tf.global_variables() if variable.op.name in values]
            placeholders = {tf.placeholder(variable.dtype.base_dtype): variable for variable in variables}
            self._values = {placeholder: values[v.op.name] for placeholder, v in placeholders.items()}
            self._set = [variable.assign(placeholder).op for placeholder, variable in placeholders.items()]
        self._reset()

    def _reset(self) -> None:
        """Sets the variables to the values that training begins with."""
        self._train.restore()
        self._train.session.run(self._set, self._values)

    def train(self, images: Array, cotangents: Cotangents, learning_rate: float) -> list[TrainingStep]:
        loss = self._training_loss
        with self._train.graph.as_default():
            variables = {variable.op.name: variable for variable in tf.trainable_variables()}
            gradients = {name: gradient for name, gradient in loss.gradients.items() if name in variables}
            pairs = [(gradient, variables[name]) for name, gradient in gradients.items()]
            with tf.control_dependencies(self._update_ops):
                descend = tf.train.GradientDescentOptimizer(learning_rate).apply_gradients(pairs)
        fetches = [gradients, loss.by_images, self._train.output(), descend]
        values, by_images, default, _ = self._train.session.run(fetches, loss.feed(images, cotangents))
        after = self._train.values()
        self._reset()
        found = Gradients(f"[{_TRAIN}]", loss.outputs, values, _sum(by_images))
        return [TrainingStep(found.way, {"default": {"default": default}}, after, found)]

    def passes(self, images: Array, momentum: float | None = None) -> Iterator[TrainingPass]:
        signatures = self._train.meta_graph.signature_def
        inputs = [IMAGES] if momentum is None else [IMAGES, _MOMENTUM]
        names: dict[tuple[str, ...], list[str]] = {}
        for name in sorted(signatures):
            if all(key in signatures[name].inputs for key in inputs):
                names.setdefault(tuple(signatures[name].inputs[key].name for key in inputs), []).append(name)
        for tensors, sharing in names.items():
            feed = dict(zip(tensors, (images, momentum)))
            fetches = {name: {key: out.name for key, out in signatures[name].outputs.items()} for name in sharing}
            outputs, _ = self._train.session.run([fetches, self._update_ops], feed)
            after = self._train.values()
            self._reset()
            yield TrainingPass(f"[{_TRAIN}], {', '.join(sharing)}", outputs, after)

    def gradients(self, images: Array, cotangents: Cotangents, variables: Sequence[str]) -> list[Gradients]:
        loss = self._inference_loss
        wanted = {name: loss.gradients[name] for name in variables if name in loss.gradients}
        values, by_images = self._inference.session.run([wanted, loss.by_images], loss.feed(images, cotangents))
        return [Gradients("[]", loss.outputs, values, _sum(by_images))]

    def joint_gradient(self, first: Array, second: Array, cotangent: Array, variable: str) -> Array | None:
        images, output = self._inference.images(), self._inference.output()
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

    def regularization_losses(self) -> list[RegularizationLosses]:
        return [
            _regularization_losses(version, f"graph version [{', '.join(version.meta_graph.meta_info_def.tags)}]")
            for version in (self._inference, self._train)
        ]

    @functools.cached_property
    def _inference_loss(self) -> "_Loss":
        return _loss(self._inference)

    @functools.cached_property
    def _training_loss(self) -> "_Loss":
        return _loss(self._train)


@dataclasses.dataclass(frozen=True)
class _Loss:
    """A loss of the main outputs of all signatures, and its gradients.

    Attributes:
        images: the tensors of the images, those of all signatures.
        cotangents: the placeholders of the cotangents, by output.
        gradients: the gradients by the variables that it depends on, by name.
        by_images: the gradients by those of the images' tensors that it depends on.
    """

    images: tuple[tf.Tensor, ...]
    cotangents: Mapping[MainOutput, tf.Tensor]
    gradients: Mapping[str, tf.Tensor]
    by_images: tuple[tf.Tensor, ...]

    @property
    def outputs(self) -> tuple[MainOutput, ...]:
        """The outputs that the loss has products of."""
        return tuple(self.cotangents)

    def feed(self, images: Array, cotangents: Cotangents) -> dict[tf.Tensor, Array]:
        """Returns what a session needs to compute the gradients."""
        return dict.fromkeys(self.images, images) | {
            placeholder: cotangents[output] for output, placeholder in self.cotangents.items()
        }


def _loss(version: LoadedGraphVersion) -> _Loss:
    signatures = version.meta_graph.signature_def
    # Signatures with the same tensor compute the same. `default` is the first in order.
    outputs: dict[str, MainOutput] = {}
    for name in sorted(signatures):
        outputs.setdefault(version.output(name).name, "features" if "feature_vector" in name else "default")
    with version.graph.as_default():
        cotangents = {output: tf.placeholder(tf.float32) for output in outputs.values()}
        products = [
            tf.reduce_sum(version.graph.get_tensor_by_name(tensor) * cotangents[output])
            for tensor, output in outputs.items()
        ]
        loss, variables = tf.add_n(products), tf.global_variables()
        images = [*{version.images(name).name: version.images(name) for name in signatures}.values()]
        gradients = tf.gradients(loss, [*variables, *images])
    by_variables, by_images = gradients[: len(variables)], gradients[len(variables) :]
    return _Loss(
        tuple(images),
        cotangents,
        _by_name(variables, by_variables),
        tuple(gradient for gradient in by_images if gradient is not None),
    )


def _sum(gradients: Sequence[Array]) -> Array | None:
    """Returns the gradient by images that all tensors get; None if there is none."""
    return np.sum(gradients, axis=0) if gradients else None


def _regularization_losses(version: LoadedGraphVersion, where: str) -> RegularizationLosses:
    with version.graph.as_default():
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        if not losses:
            return RegularizationLosses(where, (), {})
        weighted = [weight * loss for weight, loss in zip(loss_weights(len(losses)), losses, strict=True)]
        gradients = _gradients(tf.add_n(weighted), tf.global_variables())
    values, gradient_values = version.session.run([losses, gradients])
    return RegularizationLosses(where, tuple(map(float, values)), gradient_values)


def _gradients(loss: tf.Tensor, variables: Sequence[tf.Variable]) -> dict[str, tf.Tensor]:
    """Returns the gradients of a loss by the names of the variables that it depends on."""
    return _by_name(variables, tf.gradients(loss, variables))


def _by_name(variables: Sequence[tf.Variable], gradients: Sequence[tf.Tensor | None]) -> dict[str, tf.Tensor]:
    pairs = zip(variables, gradients, strict=True)
    return {variable.op.name: gradient for variable, gradient in pairs if gradient is not None}
