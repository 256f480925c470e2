"""Trains a Reusable SavedModel, with gradient tapes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from hubexport.arrays import Array
from hubexport.modules.call_functions import computes_default_twice
from hubexport.modules.saved_model_interface import IMAGES
from hubexport.protos import Message
from hubexport.runtime.trainable_module import (
    Cotangents,
    Gradients,
    RegularizationLosses,
    TrainingPass,
    TrainingStep,
    loss_weights,
)


class Tf2Training:
    """See `hubexport.runtime.trainable_module.TrainableModule`.

    Args:
        directory: the directory of a TF2 SavedModel.
        values: the values of variables that differ in training from the module's, by name.
        meta_graph: its MetaGraph.
    """

    def __init__(self, directory: Path, values: Mapping[str, Array], meta_graph: Message) -> None:
        self._module: Any = tf.saved_model.load(str(directory))
        self._variables = {_name(variable): variable for variable in self._module.variables}
        # A tensor that was read shares its memory with the variable until that is changed.
        self._stored = {name: variable.read_value() for name, variable in self._variables.items()}
        self._values = {name: value for name, value in values.items() if name in self._variables}
        self._trainable = {_name(variable): variable for variable in self._module.trainable_variables}
        self._needs_both = {training: not computes_default_twice(meta_graph, training) for training in (False, True)}

    def train(self, images: Array, cotangents: Cotangents, learning_rate: float) -> list[TrainingStep]:
        return [
            self._train(images, cotangents, learning_rate, return_endpoints)
            for return_endpoints in (False, *[True] * self._needs_both[True])
        ]

    def _train(
        self, images: Array, cotangents: Cotangents, learning_rate: float, return_endpoints: bool
    ) -> TrainingStep:
        self._set(self._values)
        output, gradients = self._gradients(images, cotangents, self._trainable, True, return_endpoints)
        for name, gradient in gradients.values.items():
            self._variables[name].assign_sub(learning_rate * gradient)
        return TrainingStep(gradients.way, {gradients.way: {"default": output}}, self._values_to_reset(), gradients)

    def passes(self, images: Array, momentum: float | None = None) -> Iterator[TrainingPass]:
        hyperparameters = {} if momentum is None else {"batch_norm_momentum": tf.constant(momentum, tf.float32)}
        for return_endpoints in (True, *[False] * self._needs_both[True]):
            way = _call_text(True, return_endpoints)
            self._set(self._values)
            results = self._module(
                tf.constant(images), training=True, return_endpoints=return_endpoints, **hyperparameters
            )
            tensors = results if return_endpoints else {"default": results}
            yield TrainingPass(way, {way: _arrays(tensors)}, self._values_to_reset())

    def gradients(self, images: Array, cotangents: Cotangents, variables: Sequence[str]) -> list[Gradients]:
        wanted = {name: self._variables[name] for name in variables}
        return [
            self._gradients(images, cotangents, wanted, False, return_endpoints)[1]
            for return_endpoints in (False, *[True] * self._needs_both[False])
        ]

    def _gradients(
        self,
        images: Array,
        cotangents: Cotangents,
        variables: Mapping[str, tf.Variable],
        training: bool,
        return_endpoints: bool,
    ) -> tuple[Array, Gradients]:
        """Returns the default output and the gradients."""
        pixels = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            results = self._module(pixels, training=training, return_endpoints=return_endpoints)
            output = results["default"] if return_endpoints else results
            loss = tf.reduce_sum(output * cotangents["default"])
        by_variables, by_images = tape.gradient(loss, (dict(variables), {IMAGES: pixels}))
        way = _call_text(training, return_endpoints)
        gradients = Gradients(way, ("default",), _arrays(by_variables), _arrays(by_images).get(IMAGES))
        return output.numpy(), gradients

    def joint_gradient(self, first: Array, second: Array, cotangent: Array, variable: str) -> Array | None:
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(self._module(tf.constant(images)) * cotangent) for images in (first, second))
        return _arrays({variable: tape.gradient(loss, self._variables[variable])}).get(variable)

    def regularization_losses(self) -> list[RegularizationLosses]:
        functions = self._module.regularization_losses
        with tf.GradientTape() as tape:
            losses = [function() for function in functions]
            weights = loss_weights(len(losses))
            total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        gradients = _arrays(tape.gradient(total, self._variables)) if losses else {}
        return [RegularizationLosses("regularization_losses", tuple(map(float, losses)), gradients)]

    def _values_to_reset(self) -> dict[str, Array]:
        """Returns the values of all variables, and sets them to the module's."""
        values = {name: variable.numpy() for name, variable in self._variables.items()}
        self._set(self._stored)
        return values

    def _set(self, values: Mapping[str, Array | tf.Tensor]) -> None:
        for name, value in values.items():
            self._variables[name].assign(value)


def _call_text(training: bool, return_endpoints: bool) -> str:
    flags = {"training": training, "return_endpoints": return_endpoints}
    return f"__call__({', '.join(f'{name}=True' for name, is_set in flags.items() if is_set)})"


def _name(variable: tf.Variable) -> str:
    return variable.name.removesuffix(":0")


def _arrays(tensors: Mapping[str, tf.Tensor | None]) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
