"""Compares the images per second of built modules with those of the same network in `tf.keras.applications`.

    python scripts/benchmark_inference.py [--variant NAME …] [--batch N …] [--seconds S] [--rounds N] [--processes N]

The TF1 module runs in a session, the TF2 module and the Keras model each in a tf.function. Their weights are random,
which does not change the time. All take images in [0, 1] and return logits. They take turns, so that load affects all,
in several processes, because the same graph differs by 5% between two processes. Figures are medians over all turns.
It needs the development environment: tensorflow-hub 0.15 is the last with hub.Module.
"""

import argparse
from collections.abc import Callable, Sequence
import multiprocessing
import os
from pathlib import Path
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_networks import KERAS_MODELS  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

from hubexport import Variant, build_modules, load_variant  # noqa: E402
from hubexport.arrays import Array  # noqa: E402

GOAL = 1.0
KERAS = "tf.keras.applications"

Predict = Callable[[], object]


def main() -> None:
    """Measures, and prints figures and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", nargs="+", default=["mobilenet_v2_100_224"], choices=KERAS_MODELS, metavar="NAME")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=0.7, help="the least duration of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=8)
    args = parser.parse_args()
    print(
        f"Images per second, medians of {args.rounds} turns of {args.seconds} s in each of {args.processes} processes"
    )
    for variant in map(load_variant, args.variant):
        print(f"\n{variant.name}\n{'batch':>5}  {'':24}{'images/s':>10}{'ratio':>8}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            specs = [spec for spec in variant.modules if spec.kind == "classification" and spec.version in (3, 5)]
            paths = build_modules(variant, specs, checkpoint="synthetic", output_dir=folder)
            for batch in args.batch:
                report(batch, measure_in_processes(args, variant, paths, batch))


def measure_in_processes(
    args: argparse.Namespace, variant: Variant, paths: Sequence[Path], batch: int
) -> dict[str, list[float]]:
    """Returns the images per second of each contender in every turn of every process."""
    rates: dict[str, list[float]] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(args.processes):
            task = (variant, paths, batch, args.seconds, args.rounds)
            for name, measured in pool.apply(measure, task).items():
                rates.setdefault(name, []).extend(measured)
    return rates


def contenders(variant: Variant, paths: Sequence[Path], *, batch: int) -> dict[str, Predict]:
    """Returns the contenders: functions that predict one batch."""
    size = variant.image_size
    images = np.random.RandomState(0).uniform(size=(batch, size, size, 3)).astype(np.float32)
    name, arguments = KERAS_MODELS[variant.name]
    model = getattr(tf.keras.applications, name)(
        input_shape=(size, size, 3),
        weights=None,
        classes=variant.num_classes,
        classifier_activation=None,
        **arguments,
    )
    network = variant.network_for("classification")
    scale, offset = network.input_scale, tf.constant(network.input_offset)
    predicts = {KERAS: in_function(lambda x: model(x * scale - offset, training=False), images)}
    for path in paths:
        if path.name == "3":
            predicts["TF1 module, session"] = in_session(path, images)
        else:
            predicts["TF2 module, tf.function"] = in_function(hub.load(str(path)), images)
    return predicts


def in_function(call: Callable[[tf.Tensor], tf.Tensor], images: Array) -> Predict:
    """Returns a contender that predicts in a tf.function."""
    function, tensor = tf.function(lambda x: call(x)), tf.constant(images)
    return lambda: function(tensor).numpy()


def in_session(module: Path, images: Array) -> Predict:
    """Returns a contender that predicts in a TensorFlow 1 session."""
    with tf.Graph().as_default() as graph:
        placeholder = tf.compat.v1.placeholder(tf.float32, [None, *images.shape[1:]])
        logits = hub.Module(str(module))(placeholder)
        initialize = tf.compat.v1.global_variables_initializer()
    session = tf.compat.v1.Session(graph=graph)
    session.run(initialize)
    return lambda: session.run(logits, {placeholder: images})


def measure(variant: Variant, paths: Sequence[Path], batch: int, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Returns the images per second of each contender in every turn but the first, which warms up."""
    tf.get_logger().setLevel("ERROR")
    predicts = contenders(variant, paths, batch=batch)
    rates: dict[str, list[float]] = {name: [] for name in predicts}
    for turn in range(rounds + 1):
        for name in predicts if turn % 2 else reversed(predicts):
            calls, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                predicts[name]()
                calls += 1
            rates[name].append(calls * batch / (time.perf_counter() - start))
    return {name: measured[1:] for name, measured in rates.items()}


def report(batch: int, rates: dict[str, list[float]]) -> None:
    """Prints the median rates, and the medians of their ratios to Keras in the same turn."""
    for name, measured in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(measured, rates[KERAS], strict=True))
        verdict = "" if name == KERAS else f"  goal {GOAL:.2f}  {'reached' if ratio >= GOAL else 'MISSED'}"
        print(f"{batch:5}  {name:24}{statistics.median(measured):10.1f}{ratio:8.3f}{verdict}")


if __name__ == "__main__":
    main()
