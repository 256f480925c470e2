"""TF2 SavedModels without tensorflow_hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from hubexport.arrays import Array


class LoadedSavedModel:
    """A Reusable SavedModel, called as it is for inference.

    Attributes:
        loaded: what `tf.saved_model.load` gives.
    """

    def __init__(self, directory: Path) -> None:
        self.loaded: Any = tf.saved_model.load(str(directory))

    def run(self, images: Array, outputs: Sequence[str] = ("default",)) -> dict[str, Array]:
        """Calls the module.

        Args:
            images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
            outputs: `default`, or keys of what it returns with `return_endpoints=True`.
        Returns:
            Float32 [batch, ...] by output.
        """
        if tuple(outputs) == ("default",):
            return {"default": self.loaded(tf.constant(images)).numpy()}
        found = self.loaded(tf.constant(images), return_endpoints=True)
        return {key: found[key].numpy() for key in outputs}

    def values(self) -> dict[str, Array]:
        """Returns the values of all variables, by name."""
        return {variable.name.removesuffix(":0"): variable.numpy() for variable in self.loaded.variables}

    def run_signatures(self, images: Array) -> dict[str, Array]:
        """Returns the only output of each signature, float32 [batch, ...], by the signature's name."""
        return {name: run_signature(function, images) for name, function in self.loaded.signatures.items()}


def run_signature(function: Any, images: Array) -> Array:
    """Runs one of a SavedModel's `signatures`, and returns its only output.

    Args:
        function: it, which takes one tensor.
        images: float32 [batch, height, width, 3], intensities as it takes them.
    """
    [argument] = function.structured_input_signature[1]
    [output] = function(**{argument: tf.constant(images)}).values()
    return output.numpy()
