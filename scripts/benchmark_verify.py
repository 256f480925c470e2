"""Compares verifying a module with importing TensorFlow, and with TensorFlow Hub's own exporter.

    python scripts/benchmark_verify.py [--variant NAME] [--runs N]

Figures are medians. Each run is a whole process; the contenders alternate, so that load on the machine affects all.
The forward pass in NumPy is measured separately, on one core. It needs the development environment: tensorflow-hub 0.15
is the last with an exporter.
"""

import argparse
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile

from benchmark_build import exporter_command, write_checkpoint
from process_cost import ProcessCost, measure, median_cost, verdict

from hubexport import load_variant

IMPORT, START = "import tensorflow", "start hubexport"
FILES = ("rebuild", "structure", "weights")
MODULES = ("classification/3", "classification/5")
# All checks: at most this, or so many imports of TensorFlow and seconds more.
GOAL_S, GOAL_IMPORTS, GOAL_BEYOND_S = 10.0, 2.5, 3.0
# The checks that do without TensorFlow, within a process that runs all checks.
GOAL_OF_FILES_S = 1.5
# An image of 224 pixels in NumPy.
GOAL_OF_NUMPY_S = 2.0
NUMPY_PASS = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from hubexport import load_variant
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.networks.numpy_forward import Forward
network = load_variant(sys.argv[1]).network_for("classification")
values = {variable.name: synthetic_value(variable, 1) for variable in network.variables}
image = np.random.default_rng(1).random((1, *network.image_shape))
start = time.perf_counter()
for _ in range(5):
    Forward(network, values, image).run()
print((time.perf_counter() - start) / 5)
"""


def main() -> None:
    """Measures, and prints figures and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="mobilenet_v2_100_224")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_all(args.variant, args.runs, Path(folder))
    print(f"{args.variant}, medians of {args.runs} alternating runs\n")
    print(f"{'':40}{'wall s':>8}{'cpu s':>8}{'peak MiB':>10}")
    for name, cost in costs.items():
        print(f"{name:40}{cost.wall_s:8.2f}{cost.cpu_s:8.2f}{cost.peak_mib:10.0f}")
    print()
    importing_s = costs[IMPORT].wall_s
    goal_s = max(GOAL_S, GOAL_IMPORTS * importing_s + GOAL_BEYOND_S)
    for module in MODULES:
        verify_s, files_s = costs[f"verify {module}"].wall_s, costs[f"  only its files, {module}"].wall_s
        print(f"{'verify ' + module:40}{verify_s:8.2f}  {verdict(verify_s, goal_s)}")
        print(f"{'  its files, without starting Python':40}{files_s - costs[START].wall_s:8.2f}", end="  ")
        print(verdict(files_s - costs[START].wall_s, GOAL_OF_FILES_S))
        print(f"{'  / exporter':40}{verify_s / costs['hub exporter, one kind'].wall_s:8.2f}")
    numpy_s = float(subprocess.check_output([sys.executable, "-c", NUMPY_PASS, args.variant], text=True))
    print(f"{'an image in NumPy, float64, one core':40}{numpy_s:8.2f}  {verdict(numpy_s, GOAL_OF_NUMPY_S)}")


def measure_all(name: str, runs: int, folder: Path) -> dict[str, ProcessCost]:
    """Returns the median cost of each contender."""
    variant = load_variant(name)
    checkpoint = str(write_checkpoint(variant, folder))
    built = folder / variant.publisher / variant.collection / variant.name
    target = ["--variant", name, "--checkpoint", checkpoint, "--output-dir", str(folder), "--overwrite"]
    commands: dict[str, list[str]] = {IMPORT: ["-c", "import tensorflow"], START: ["-m", "hubexport", "--version"]}
    for module in MODULES:
        verify = ["-m", "hubexport", "verify", str(built / module), "--checkpoint", checkpoint]
        commands[f"build {module}"] = ["-m", "hubexport", "build", *target, "--module", module]
        commands[f"verify {module}"] = verify
        commands[f"  only its files, {module}"] = [*verify, *(f"--check={group}" for group in FILES)]
    commands["hub exporter, one kind"] = exporter_command(
        variant, "classification", Path(checkpoint), folder / "theirs"
    )
    costs: dict[str, list[ProcessCost]] = {command: [] for command in commands}
    for _ in range(runs):
        shutil.rmtree(folder / "theirs", ignore_errors=True)
        for command, arguments in commands.items():
            costs[command].append(measure(arguments))
    return {command: median_cost(runs_of_one) for command, runs_of_one in costs.items()}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
