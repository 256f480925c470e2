"""Measures a build against TensorFlow Hub's own exporter, and against importing TensorFlow and nothing else.

    python scripts/benchmark_build.py [--variant NAME] [--kind KIND] [--runs N]

Each run is a whole process, and the three alternate, so that a noisy machine is noisy to all of them; figures are
medians. It needs the development environment: tensorflow-hub 0.15 is the last with an exporter.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import os
from pathlib import Path
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from hubexport import Variant, load_variant
from hubexport.checkpoints.bundle import write_bundle
from hubexport.checkpoints.select import AVERAGED_SUFFIX
from hubexport.checkpoints.synthetic import synthetic_value

EXPORTER = Path(__file__).with_name("straightforward_exporter.py")

# Prints the median seconds that hub.Module(path)(images) takes for each of the paths given. They alternate and take
# turns at being first; the first round warms up, and is not counted.
LOAD_AND_APPLY = """
import gc, os, statistics, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow.compat.v1 as tf
import tensorflow_hub as hub
tf.disable_eager_execution()
tf.logging.set_verbosity(tf.logging.ERROR)
runs, paths = int(sys.argv[1]), sys.argv[2:]
seconds = {path: [] for path in paths}
for turn in range(runs + 1):
    for path in paths if turn % 2 else reversed(paths):
        gc.collect()
        start = time.perf_counter()
        with tf.Graph().as_default():
            module = hub.Module(path)
            height, width = hub.get_expected_image_size(module)
            module(tf.placeholder(tf.float32, [None, height, width, 3]))
        seconds[path].append(time.perf_counter() - start)
for path in paths:
    print(statistics.median(seconds[path][1:]))
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def main() -> None:
    """Measures, and prints the figures with their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="mobilenet_v2_075_192")
    parser.add_argument("--kind", choices=("feature_vector", "classification"), default="classification")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(load_variant(args.variant), args.kind, args.runs, Path(folder))


def compare(variant: Variant, kind: str, runs: int, folder: Path) -> None:
    """Builds version 2 of one kind from a made-up checkpoint in the three ways."""
    checkpoint = folder / "model.ckpt"
    variables = variant.network_for("classification").variables
    write_bundle(checkpoint, {f"{v.name}{AVERAGED_SUFFIX}": synthetic_value(v, seed=1) for v in variables})
    ours = folder / "ours" / variant.publisher / variant.collection / variant.name / kind / "2"
    theirs = folder / "theirs"
    size = [str(variant.depth_multiplier), str(variant.image_size)]
    module = ["--variant", variant.name, "--module", f"{kind}/2"]
    target = ["--checkpoint", str(checkpoint), "--output_dir", str(folder / "ours"), "--overwrite"]
    commands = {
        "hubexport build": ["-m", "hubexport", "build", *module, *target],
        "(a) hub exporter": [str(EXPORTER), *size, kind, str(checkpoint), str(theirs)],
        "(b) import tensorflow": ["-c", "import tensorflow"],
    }
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(runs):
        shutil.rmtree(theirs, ignore_errors=True)
        for name, command in commands.items():
            costs[name].append(run(command))
    print(f"{variant.name}/{kind}/2, medians of {runs} alternating runs\n")
    report(costs, ours, theirs, runs)


def run(arguments: Sequence[str]) -> Cost:
    """Runs Python with these arguments to its end.

    The peak is right only because this process is small: Linux lets a child begin with its parent's.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def report(costs: dict[str, list[Cost]], ours: Path, theirs: Path, runs: int) -> None:
    """Prints medians, and the ratios that matter beside what they should be at most."""
    print(f"{'':24}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}")
    medians = {}
    for name, seen in costs.items():
        cost = Cost(*(statistics.median(column) for column in zip(*map(dataclasses.astuple, seen), strict=True)))
        medians[name] = cost
        print(f"{name:24}{cost.wall_s:9.2f}{cost.cpu_s:9.2f}{cost.peak_mib:10.0f}")
    build, exporter, start = medians.values()
    our_bytes, their_bytes = ((path / "saved_model.pb").stat().st_size for path in (ours, theirs))
    our_load_s, their_load_s = load_and_apply([ours, theirs], runs)
    print(f"\nsaved_model.pb          ours {our_bytes:,} bytes, (a) {their_bytes:,} bytes")
    print(f"hub.Module + apply      ours {our_load_s:.3f} s, (a) {their_load_s:.3f} s\n")
    for name, ratio, goal in [
        ("build / (a), wall time", build.wall_s / exporter.wall_s, 0.45),
        ("build / (a), cpu time", build.cpu_s / exporter.cpu_s, None),
        ("build / (b), wall time", build.wall_s / start.wall_s, 1.25),
        ("build / (b), cpu time", build.cpu_s / start.cpu_s, None),
        ("build / (b), peak memory", build.peak_mib / start.peak_mib, 1.3),
        ("saved_model.pb / (a)", our_bytes / their_bytes, 0.35),
        ("hub.Module + apply / (a)", our_load_s / their_load_s, 0.8),
    ]:
        verdict = "" if goal is None else f"goal {goal:.2f}  {'reached' if ratio <= goal else 'MISSED'}"
        print(f"{name:28}{ratio:6.3f}  {verdict}".rstrip())


def load_and_apply(modules: Sequence[Path], runs: int) -> list[float]:
    """Returns the median seconds of `hub.Module(path)(images)`, without session and restore, in one process."""
    command = [sys.executable, "-c", LOAD_AND_APPLY, str(runs), *map(str, modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


if __name__ == "__main__":
    main()
