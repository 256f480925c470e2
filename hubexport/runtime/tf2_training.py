"""Trains a Reusable SavedModel, with gradient tapes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from hubexport.arrays import Array
from hubexport.runtime.trainable_module import TrainingOutputs, TrainingStep


class Tf2Training:
    """See `hubexport.runtime.trainable_module.TrainableModule`.

    Args:
        directory: the directory of a TF2 SavedModel.
        features_endpoint: the key of its endpoint with the features.
    """

    def __init__(self, directory: Path, features_endpoint: str) -> None:
        self._features_endpoint = features_endpoint
        self._module: Any = tf.saved_model.load(str(directory))
        self._variables = {_name(variable): variable for variable in self._module.variables}
        # A tensor that was read shares its memory with the variable until that is changed.
        self._initial = {name: variable.read_value() for name, variable in self._variables.items()}
        self.trainable = tuple(_name(variable) for variable in self._module.trainable_variables)

    def values(self) -> dict[str, Array]:
        return {name: variable.numpy() for name, variable in self._variables.items()}

    def reset(self) -> None:
        for name, value in self._initial.items():
            self._variables[name].assign(value)

    def train(self, images: Array, cotangent: Array, learning_rate: float) -> TrainingStep:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self._module(images, training=True) * cotangent)
        wanted = {name: self._variables[name] for name in self.trainable}
        gradients = _arrays(tape.gradient(loss, wanted))
        for name, gradient in gradients.items():
            self._variables[name].assign_sub(learning_rate * gradient)
        return TrainingStep(self.values(), gradients)

    def update(self, images: Array, momentum: float | None = None) -> TrainingOutputs:
        hyperparameters = {} if momentum is None else {"batch_norm_momentum": tf.constant(momentum, tf.float32)}
        results = self._module(tf.constant(images), training=True, return_endpoints=True, **hyperparameters)
        pooled = results[self._features_endpoint].numpy()
        return TrainingOutputs(results["default"].numpy(), pooled.reshape(len(pooled), -1))

    def gradients(self, images: Array, cotangent: Array, variables: Sequence[str]) -> dict[str, Array]:
        wanted = {name: self._variables[name] for name in variables}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(self._module(tf.constant(images)) * cotangent)
        return _arrays(tape.gradient(loss, wanted))

    def joint_gradient(self, first: Array, second: Array, cotangent: Array, variable: str) -> Array | None:
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(self._module(tf.constant(images)) * cotangent) for images in (first, second))
        return _arrays({variable: tape.gradient(loss, self._variables[variable])}).get(variable)

    def regularization_losses(self) -> list[float]:
        return [float(loss()) for loss in self._module.regularization_losses]


def _name(variable: tf.Variable) -> str:
    return variable.name.removesuffix(":0")


def _arrays(tensors: Mapping[str, tf.Tensor | None]) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
