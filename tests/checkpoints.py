"""Made-up checkpoints for tests, written by TensorFlow itself."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.networks.mobilenet_v2 import mobilenet_v2


def network_values(depth_multiplier: float = 0.35, num_classes: int = 7, seed: int = 1) -> dict[str, np.ndarray]:
    """Plain values of a small MobileNet V2."""
    variables = mobilenet_v2(depth_multiplier, 96, num_classes).variables
    return {variable.name: synthetic_value(variable, seed) for variable in variables}


def training_values(averaged_seed: int = 1, raw_seed: int = 2) -> dict[str, np.ndarray]:
    """What TF-Slim's training leaves: plain and averaged values, optimizer slots and a step."""
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
