"""Models of Keras 2 around its MobileNet V2, as other people's programs build them."""

from pathlib import Path

import numpy as np
import tensorflow as tf

layers = tf.keras.layers

# Whole models and weights alone, of each format.
FILES = ("whole.h5", "whole.keras", "c.h5", "c.weights.h5")


def save(model: tf.keras.Model, path: Path) -> None:
    """Writes the whole model or its weights, depending on the file's name."""
    model.save(path) if path.name.startswith("whole") else model.save_weights(path)


def backbone(images=None, **options) -> tf.keras.Model:
    """Keras' MobileNet V2 at 0.35 without classifier, with values of its own."""
    shape = {"input_tensor": images} if images is not None else {"input_shape": (96, 96, 3)}
    return tf.keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, **shape, **options)


def make_up_values(model: tf.keras.Model) -> None:
    """Gives a model values with which activations are spread as after a training, so that they tell images apart."""
    random = np.random.RandomState(3)

    def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if "gamma" in name or "moving_variance" in name:
            return random.uniform(0.5, 1.5, shape)
        if "kernel" not in name:
            return random.normal(0, 0.3, shape)
        inputs = np.prod(shape[:2] if "depthwise_kernel" in name else shape[:-1])
        return random.normal(0, np.sqrt(2 / inputs), shape)

    model.set_weights([value(weight.name, tuple(weight.shape)) for weight in model.weights])


def _head(*more):
    return [layers.GlobalAveragePooling2D(), *more]


class _Double(layers.Layer):
    """A custom layer without weights."""

    def call(self, inputs):
        return inputs * 2


# The layers after the backbone, and whether they are a classifier by the model's description, and by its weights alone.
HEADS = {
    "dense": (lambda: _head(layers.Dense(3, name="flowers")), True, True),
    "softmax": (lambda: _head(layers.Dropout(0.2), layers.Dense(3, "softmax")), True, True),
    "apart": (lambda: _head(layers.Dense(3), layers.Activation("softmax")), True, True),
    "softmax layer": (lambda: _head(layers.Dense(3), layers.Softmax()), True, True),
    "flattened": (
        lambda: [layers.AveragePooling2D((3, 3)), layers.Flatten(), layers.Dropout(0.5), layers.Dense(3, "softmax")],
        True,
        True,
    ),
    "reshaped": (
        lambda: [layers.GlobalAveragePooling2D(keepdims=True), layers.Reshape([1280]), layers.Dense(3)],
        True,
        True,
    ),
    "hidden": (lambda: _head(layers.Dense(128, "relu"), layers.Dropout(0.5), layers.Dense(2)), False, False),
    "hidden as wide": (lambda: _head(layers.Dense(1280, "relu"), layers.Dense(2)), False, False),
    "batch norm": (lambda: _head(layers.BatchNormalization(), layers.Dense(3)), False, False),
    "batch norm behind": (lambda: _head(layers.Dense(3), layers.BatchNormalization()), False, False),
    "PReLU": (lambda: _head(layers.PReLU(), layers.Dense(3)), False, False),
    "no bias": (lambda: _head(layers.Dense(3, use_bias=False)), False, False),
    "convolution": (lambda: [layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(3, 1)], True, False),
    "not pooled": (lambda: [layers.Flatten(), layers.Dense(3)], False, False),
    "dense on pixels": (lambda: [layers.Dense(3), layers.GlobalAveragePooling2D()], False, True),
    "relu": (lambda: _head(layers.Dense(3, "relu")), False, True),
    "sigmoid": (lambda: _head(layers.Dense(1, "sigmoid")), False, True),
    "max pooling": (lambda: [layers.GlobalMaxPooling2D(), layers.Dense(3)], False, True),
    "relu behind": (lambda: _head(layers.Dense(3), layers.ReLU()), False, True),
    "scaled": (lambda: _head(layers.Rescaling(2.0), layers.Dense(3)), False, True),
    "own layer": (lambda: _head(_Double(), layers.Dense(3)), False, True),
    "only max pooling": (lambda: [layers.GlobalMaxPooling2D()], False, None),
    "nothing": (lambda: [], None, None),
    "only pooling": (lambda: _head(), None, None),
}
