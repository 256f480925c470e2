"""Made-up checkpoints for tests, written by TensorFlow itself."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.networks.mobilenet_v2 import MOBILENET_V2, mobilenet_v2

# The target for `convert`, and the name of the result.
MOBILENET_V2_MULTIPLIERS = [parameters.depth_multiplier for parameters in MOBILENET_V2.published_parameters]

TARGETS = {
    "slim": ("slim", "c.ckpt"),
    "tf2": ("tf2", "c"),
    "keras": ("keras", "c.h5"),
    "keras_weights": ("keras", "c.weights.h5"),
    "safetensors": ("safetensors", "c.safetensors"),
    "huggingface": ("huggingface", "c"),
}


def network_values(depth_multiplier: float = 0.35, num_classes: int = 7, seed: int = 1) -> dict[str, np.ndarray]:
    """Raw values of a small MobileNet V2."""
    variables = mobilenet_v2(depth_multiplier, 96, num_classes).variables
    return {variable.name: synthetic_value(variable, seed) for variable in variables}


def training_values(averaged_seed: int = 1, raw_seed: int = 2) -> dict[str, np.ndarray]:
    """The values of a TF-Slim training checkpoint: raw and averaged values, optimizer slots and a step."""
    raw = network_values(seed=raw_seed)
    averaged = {f"{name}{AVERAGED_SUFFIX}": value for name, value in network_values(seed=averaged_seed).items()}
    slots = {f"{name}/RMSProp": np.ones_like(value) for name, value in raw.items()}
    return {**raw, **averaged, **slots, "global_step": np.int64(12345)}


def write_v2(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `prefix.index` and `prefix.data-00000-of-00001`."""
    names = list(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )


def write_v1(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes one file, as TensorFlow did before 2017."""
    names = list(tensors)
    tf.raw_ops.Save(filename=str(path), tensor_names=names, data=[tf.constant(tensors[name]) for name in names])


def write_partitioned(prefix: Path, values: Mapping[str, tuple[np.ndarray, list[int]]], write_version: int) -> None:
    """Writes partitioned variables and a global step with `tf.train.Saver`.

    Args:
        prefix: the checkpoint's prefix, or its file with V1.
        values: each variable's value, and its number of parts along each axis, by name.
        write_version: one of `tf.compat.v1.train.SaverDef`.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, (value, parts) in values.items():
            axes = [axis for axis, count in enumerate(parts) if count > 1]
            partitioner = v1.fixed_size_partitioner(parts[axes[0]], axes[0]) if axes else None

            def initial(shape, dtype, partition_info=None, value=value):
                offset = partition_info.var_offset if partition_info else [0] * len(shape)
                return tf.constant(value[tuple(slice(o, o + int(n)) for o, n in zip(offset, shape))], dtype)

            v1.get_variable(
                name, value.shape, value.dtype, initial, partitioner=partitioner, use_resource=False, trainable=False
            )
        v1.train.get_or_create_global_step()
        session.run(v1.global_variables_initializer())
        v1.train.Saver(write_version=write_version).save(session, str(prefix), write_meta_graph=False)


class Shapes(StoredValues):
    """Stored values with nothing but names, shapes and dtypes, `float32` unless said otherwise."""

    def __init__(self, shapes, dtypes=None):
        self.shapes = shapes
        self._dtypes = dtypes or {}

    def dtype(self, name):
        """Returns the dtype of a value."""
        return self._dtypes.get(name, "float32")

    def stored_chunks(self, name):
        """Has nothing to read."""
        raise NotImplementedError
