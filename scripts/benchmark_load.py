"""Compares the time to load a built TF2 module with that of one that TensorFlow traced from TF-Slim's code.

    python scripts/benchmark_load.py [--variant NAME] [--kind KIND] [--runs N]

Both have the same variables, a function for each combination of training and intermediate results, and one for each
regularization loss. Each load is a whole process, without the time to import TensorFlow; the two take turns. Figures
are medians. It needs the development environment.
"""

import argparse
from collections.abc import Callable
import os
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
from typing import Any
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from tensorflow.python.ops.resource_variable_ops import ResourceVariable  # noqa: E402

from hubexport import ModuleSpec, Variant, build_modules, load_variant  # noqa: E402
from hubexport.reference.reference import Reference  # noqa: E402
from hubexport.reference.registry import REFERENCES  # noqa: E402
from hubexport.variants import Kind  # noqa: E402

GOAL = 0.7

LOAD = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow, tensorflow_hub
start = time.perf_counter()
tensorflow_hub.load(sys.argv[1])
print(time.perf_counter() - start)
"""


def main() -> None:
    """Measures, and prints figures and the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="nasnet_large")
    parser.add_argument("--kind", choices=["feature_vector", "classification"], default="classification")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    variant = load_variant(args.variant)
    with tempfile.TemporaryDirectory() as folder:
        spec = ModuleSpec.parse(f"{args.kind}/5")
        [built] = build_modules(variant, [spec], checkpoint="synthetic", output_dir=Path(folder, "built"))
        traced = Path(folder, "traced")
        save_traced(variant, args.kind, traced)
        seconds: dict[Path, list[float]] = {traced: [], built: []}
        for turn in range(args.runs):
            for path in seconds if turn % 2 else reversed(seconds):
                seconds[path].append(load_seconds(path))
        sizes = {path: (path / "saved_model.pb").stat().st_size for path in seconds}
    ratio = statistics.median(seconds[built]) / statistics.median(seconds[traced])
    print(f"hub.load of {variant.name}, {args.kind}, medians of {args.runs} runs\n")
    for name, path in ("traced", traced), ("built", built):
        print(f"{name:10}{statistics.median(seconds[path]):8.2f} s{sizes[path] / 2**20:8.2f} MiB of graphs")
    print(f"ratio     {ratio:8.3f}  goal {GOAL}  {'reached' if ratio <= GOAL else 'MISSED'}")


def load_seconds(path: Path) -> float:
    """Returns the time that `hub.load` takes in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return float(done.stdout)


def save_traced(variant: Variant, kind: Kind, path: Path) -> None:
    """Saves a module as TensorFlow traces it from TF-Slim's code."""
    size, num_classes = variant.image_size, variant.num_classes if kind == "classification" else None
    module, variables = tf.Module(), dict[str, tf.Variable]()

    def shared(_: Callable[..., tf.Variable], **arguments: Any) -> tf.Variable:
        """Makes each variable once, outside of the functions."""
        name, initial = arguments["name"], arguments["initial_value"]
        if name not in variables:
            with tf.init_scope():
                value = initial() if callable(initial) else initial
                variables[name] = ResourceVariable(value, arguments["trainable"], name=name)
        return variables[name]

    def network(images: tf.Tensor, is_training: bool) -> Reference:
        scope = tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), reuse=tf.compat.v1.AUTO_REUSE)
        with tf.variable_creator_scope(shared), scope, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return REFERENCES[variant.network](images, variant.family_parameters, num_classes, is_training=is_training)

    def call(images: tf.Tensor, training: bool = False, return_endpoints: bool = False) -> Any:
        built = network(images, training)
        output = built.features if built.logits is None else built.logits
        with tf.control_dependencies(built.update_ops if training else []):
            output = tf.identity(output)
        return {**built.endpoints, "default": output} if return_endpoints else output

    images = tf.TensorSpec([None, size, size, 3], tf.float32)
    function = tf.function(call, autograph=False)
    for training in (False, True):
        for return_endpoints in (False, True):
            function.get_concrete_function(images, training, return_endpoints)
    decays = {one.name: one.weight_decay for one in variant.network_for(kind).variables if one.weight_decay}

    def loss_of(variable: tf.Variable, decay: float) -> Callable[[], tf.Tensor]:
        return tf.function(lambda: decay * tf.nn.l2_loss(variable), input_signature=[])

    module.__call__ = function
    module.variables_ = list(variables.values())
    by_name = {variable.name.split(":")[0]: variable for variable in variables.values()}
    module.regularization_losses = [loss_of(by_name[name], decay) for name, decay in decays.items()]
    tf.saved_model.save(module, str(path))


if __name__ == "__main__":
    main()
