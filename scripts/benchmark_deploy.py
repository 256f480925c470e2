"""Compares our deployments with those that other converters make of our TF2 modules and of `tf.keras.applications`.

    python scripts/benchmark_deploy.py [--variant NAME …] [--runs N] [--batch N …] [--seconds S] [--rounds N]
                                       [--processes N]

Writing: each run is a whole process, and the contenders alternate, so that load affects all. Size: of all files,
without the names of classes, which only ours have.
Speed: images per second, of contenders that take turns, in several processes. Figures are medians; weights are random,
which changes neither time nor size. All models take images in [0, 1] and return logits.
It needs the development environment, and sets up one for each converter.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
import json
import multiprocessing
import os
from pathlib import Path
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_networks import KERAS_MODELS  # noqa: E402
import numpy as np  # noqa: E402
from process_cost import ProcessCost, measure, median_cost, verdict  # noqa: E402

from hubexport import Variant, build_modules, load_variant  # noqa: E402
from hubexport.arrays import Array  # noqa: E402
from hubexport.consumers.environments import Environment, create  # noqa: E402
from hubexport.deployments.registry import DEPLOYMENTS  # noqa: E402
from hubexport.progress import Progress  # noqa: E402

REQUIREMENTS = Path(__file__).resolve().parents[1] / "tests" / "requirements"
KERAS_TO_ONNX = Path(__file__).with_name("keras_to_onnx.py")
# The other converter to each format, in an environment of its own, and its arguments.
CONVERTERS: dict[str, tuple[str, Callable[[Path, Path], list[str]]]] = {
    "onnx": (
        "tf2onnx",
        lambda module, target: [
            *("-m", "tf2onnx.convert", "--saved-model", str(module), "--output", str(target)),
            *("--opset", "17", "--signature_def", "serving_default"),
        ],
    ),
    "tfjs": (
        "tensorflowjs",
        lambda module, target: [
            *("-m", "tensorflowjs.converters.converter", "--input_format=tf_saved_model"),
            *("--output_format=tfjs_graph_model", "--signature_name=serving_default", str(module), str(target)),
        ],
    ),
}
TIME_GOAL, SIZE_GOAL, SPEED_GOAL = 0.1, 1.0, 1.0
OURS = "ONNX Runtime, ours"
# The same file, in a session that knows the size of the images: Keras' own network has one size, a module may not.
SIZE_TOLD = "ours, size told"
THREADS = 2

Predict = Callable[[], object]


def main() -> None:
    """Measures, and prints figures and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    variants = ["mobilenet_v2_100_224", "resnet_v2_50", "inception_v3"]
    parser.add_argument("--variant", nargs="+", default=variants, choices=KERAS_MODELS, metavar="NAME")
    parser.add_argument("--runs", type=int, default=5, help="of each conversion")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=0.7, help="the least duration of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=8)
    args = parser.parse_args()
    for name in args.variant:
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            benchmark(args, load_variant(name), Path(folder))


def benchmark(args: argparse.Namespace, variant: Variant, folder: Path) -> None:
    """Measures one network."""
    # The names of classes are in our files alone.
    variant = variant.model_copy(update={"labels": None})
    [module] = build_modules(variant, ["classification/5"], checkpoint="synthetic", output_dir=folder)
    print(f"\n  Writing and size, medians of {args.runs} alternating runs of whole processes")
    print(f"  {'':28}{'wall s':>8}{'cpu s':>8}{'peak MiB':>10}{'bytes':>13}")
    models: dict[str, Path] = {}
    for to, (converter, arguments) in CONVERTERS.items():
        python = python_of(converter)
        if to not in DEPLOYMENTS or python is None:
            print(f"  {to}: left out: {'no such environment' if to in DEPLOYMENTS else 'not a format yet'}")
            continue
        targets = {"hubexport": target(folder / "ours", to), converter: target(folder / "theirs", to)}
        convert = ["-m", "hubexport", "convert", str(module), str(targets["hubexport"]), "--to", to, "--overwrite"]
        costs: dict[str, list[ProcessCost]] = {name: [] for name in targets}
        try:
            for _ in range(args.runs):
                costs["hubexport"].append(measure(convert))
                costs[converter].append(measure(arguments(module, targets[converter]), python))
        except SystemExit as error:
            # tensorflowjs_converter refuses some networks: its optimizer makes ops that TF.js does not have.
            print(f"  {to}: left out: {str(error)[:60]} …", flush=True)
            continue
        report_writing(to, costs, targets)
        models |= {f"{to}, ours": targets["hubexport"], f"{to}, {converter}": targets[converter]}
    if "onnx, ours" in models:
        speed(args, variant, module, models, folder)


def python_of(name: str) -> Path | None:
    """Returns the interpreter of a converter's environment; None if there are no requirements of it."""
    requirements = REQUIREMENTS / f"{name}.txt"
    return create(Environment(name, "3.11", requirements), Progress()) if requirements.is_file() else None


def target(folder: Path, to: str) -> Path:
    """Returns where to write a model: a file, or a folder."""
    folder.mkdir(exist_ok=True)
    return folder / f"model{DEPLOYMENTS[to].suffix or f'-{to}'}"


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


def report_writing(to: str, costs: Mapping[str, Sequence[ProcessCost]], targets: Mapping[str, Path]) -> None:
    """Prints a row for each converter, and the figures with goals."""
    medians = {name: median_cost(runs) for name, runs in costs.items()}
    for name, cost in medians.items():
        row = f"{cost.wall_s:8.2f}{cost.cpu_s:8.2f}{cost.peak_mib:10.0f}{size_of(targets[name]):13,}"
        print(f"  {f'{to}, {name}':28}{row}")
    ours, theirs = medians
    times = statistics.median(a.wall_s / b.wall_s for a, b in zip(costs[ours], costs[theirs], strict=True))
    sizes = size_of(targets[ours]) / size_of(targets[theirs])
    print(f"  {f'{to}, time':28}{times:8.3f}  {verdict(times, TIME_GOAL)}")
    print(f"  {f'{to}, size':28}{sizes:8.5f}  {verdict(sizes, SIZE_GOAL)}", flush=True)


def speed(args: argparse.Namespace, variant: Variant, module: Path, models: Mapping[str, Path], folder: Path) -> None:
    """Measures images per second, and prints them."""
    files = {OURS: models["onnx, ours"], "ONNX Runtime, tf2onnx": models["onnx, tf2onnx"]}
    files["ONNX Runtime, Keras"] = keras_onnx(variant, folder)
    files[SIZE_TOLD] = models["onnx, ours"]
    if "tflite" in DEPLOYMENTS:
        tflite = target(folder / "ours", "tflite")
        measure(["-m", "hubexport", "convert", str(module), str(tflite), "--to", "tflite"])
        files["TFLite, ours"] = tflite
    turns = f"{args.rounds} turns of {args.seconds} s in each of {args.processes} processes"
    print(f"\n  Images per second, medians of {turns}")
    for batch in args.batch:
        rates: dict[str, list[float]] = {}
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for _ in range(args.processes):
                task = (module, files, variant.image_size, batch, args.seconds, args.rounds)
                for name, measured in pool.apply(measure_turns, task).items():
                    rates.setdefault(name, []).extend(measured)
        print(f"  {'batch':>5}  {'':26}{'images/s':>10}{'ours to it':>12}")
        for name, measured in rates.items():
            ratio = statistics.median(ours / theirs for ours, theirs in zip(rates[OURS], measured, strict=True))
            goal = f"  goal {SPEED_GOAL:.2f}  {'reached' if ratio >= SPEED_GOAL else 'MISSED'}"
            has_goal = name.startswith("ONNX Runtime") and name != OURS
            print(
                f"  {batch:5}  {name:26}{statistics.median(measured):10.1f}{ratio:12.3f}{goal * has_goal}", flush=True
            )


def keras_onnx(variant: Variant, folder: Path) -> Path:
    """Returns the ONNX model that tf2onnx makes of Keras' own network."""
    name, arguments = KERAS_MODELS[variant.name]
    network = variant.network_for("classification")
    task = {
        "model": name,
        "arguments": arguments,
        "size": variant.image_size,
        "classes": variant.num_classes,
        "scale": network.input_scale,
        "offset": np.asarray(network.input_offset, np.float64).tolist(),
    }
    path = folder / "keras.onnx"
    python = python_of("tf2onnx")
    assert python is not None, "the conversions needed it"
    measure([str(KERAS_TO_ONNX), json.dumps(task), str(path)], python)
    return path


def contenders(module: Path, files: Mapping[str, Path], size: int, batch: int) -> dict[str, Predict]:
    """Returns the contenders: functions that predict one batch."""
    from benchmark_inference import in_function  # TensorFlow is for other processes than the one that measures memory.
    import tensorflow_hub as hub

    images = np.random.RandomState(0).uniform(size=(batch, size, size, 3)).astype(np.float32)
    predicts: dict[str, Predict] = {}
    for name, path in files.items():
        if name.startswith("TFLite"):
            predicts[name] = in_tflite(path, images)
        else:
            predicts[name] = in_onnx_runtime(path, images, size_told=name == SIZE_TOLD)
    predicts["TF2 module, tf.function"] = in_function(hub.load(str(module)), images)
    return predicts


def in_onnx_runtime(path: Path, images: Array, *, size_told: bool) -> Predict:
    """Returns a contender that predicts in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    # Waiting threads would take time from the contender whose turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if size_told:
        for name, length in zip(("height", "width"), images.shape[1:3], strict=True):
            options.add_free_dimension_override_by_name(name, length)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    [name] = [one.name for one in session.get_inputs()]
    return lambda: session.run(None, {name: images})


def in_tflite(path: Path, images: Array) -> Predict:
    """Returns a contender that predicts in TensorFlow's TFLite interpreter."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path), num_threads=THREADS)
    [given], [output] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()

    def predict() -> object:
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return predict


def measure_turns(
    module: Path, files: Mapping[str, Path], size: int, batch: int, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Returns the images per second of each contender in every turn but the first, which warms up."""
    predicts = contenders(module, files, size, batch)
    rates: dict[str, list[float]] = {name: [] for name in predicts}
    for turn in range(rounds + 1):
        for name in predicts if turn % 2 else reversed(predicts):
            calls, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                predicts[name]()
                calls += 1
            rates[name].append(calls * batch / (time.perf_counter() - start))
    return {name: measured[1:] for name, measured in rates.items()}


if __name__ == "__main__":
    main()
