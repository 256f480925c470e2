"""TF2 SavedModels without tensorflow_hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from hubexport.arrays import Array

# The endpoint that has the features, with the image axes.
FEATURES_ENDPOINT = "MobilenetV2/global_pool"


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
        outputs = {}
        for name, function in self.loaded.signatures.items():
            [argument] = function.structured_input_signature[1]
            [outputs[name]] = function(**{argument: tf.constant(images)}).values()
        return {name: output.numpy() for name, output in outputs.items()}
