"""Measures verifications against the build of the same module, and against TensorFlow Hub's own exporter.

    python scripts/benchmark_verify.py [--variant NAME] [--runs N]

Each run is a whole process, and the contenders alternate, so that a noisy machine is noisy to all of them; figures are
medians. It needs the development environment: tensorflow-hub 0.15 is the last with an exporter. The network in NumPy
is measured for itself, on one core.
"""

import argparse
import os
from pathlib import Path
import shutil
import statistics
import subprocess
import sys
import tempfile

from benchmark_build import exporter, write_checkpoint
from processes import Cost, run

from hubexport import load_variant

MODULES = ("classification/3", "classification/5")
# Of a build, and seconds for an image of 224 pixels in NumPy.
GOAL_OF_BUILD = 3.0
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
    """Measures, and prints the figures with their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="mobilenet_v2_100_224")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(args.variant, args.runs, Path(folder))
    print(f"{args.variant}, medians of {args.runs} alternating runs\n")
    print(f"{'':40}{'wall s':>8}{'cpu s':>8}{'peak MiB':>10}")
    for name, found in costs.items():
        print(f"{name:40}{median(found, 'wall_s'):8.2f}{median(found, 'cpu_s'):8.2f}{median(found, 'peak_mib'):10.0f}")
    print()
    for module in MODULES:
        build, whole = (median(costs[f"{what} {module}"], "wall_s") for what in ("build", "verify"))
        of_exporter = whole / median(costs["hub exporter, one kind"], "wall_s")
        verdict = "reached" if whole / build <= GOAL_OF_BUILD else "MISSED"
        print(f"verify / build, {module:24}{whole / build:8.2f}  goal {GOAL_OF_BUILD:.2f}  {verdict}")
        print(f"verify / exporter, {module:21}{of_exporter:8.2f}")
    numpy_s = float(subprocess.check_output([sys.executable, "-c", NUMPY_PASS, args.variant], text=True))
    verdict = "reached" if numpy_s <= GOAL_OF_NUMPY_S else "MISSED"
    print(f"{'an image in NumPy, float64, one core':40}{numpy_s:8.2f}  goal {GOAL_OF_NUMPY_S:.2f}  {verdict}")


def measure(name: str, runs: int, folder: Path) -> dict[str, list[Cost]]:
    """Returns the costs of all contenders."""
    variant = load_variant(name)
    checkpoint = str(write_checkpoint(variant, folder))
    built = folder / variant.publisher / variant.collection / variant.name
    target = ["--variant", name, "--checkpoint", checkpoint, "--output_dir", str(folder), "--overwrite"]
    commands: dict[str, list[str]] = {}
    for module in MODULES:
        verify = ["-m", "hubexport", "verify", str(built / module), "--checkpoint", checkpoint]
        commands[f"build {module}"] = ["-m", "hubexport", "build", *target, "--module", module]
        commands[f"verify {module}"] = verify
        commands[f"  its structure and weights {module}"] = [*verify, "--check", "structure", "--check", "weights"]
    commands["hub exporter, one kind"] = exporter(variant, "classification", Path(checkpoint), folder / "theirs")
    costs: dict[str, list[Cost]] = {command: [] for command in commands}
    for _ in range(runs):
        shutil.rmtree(folder / "theirs", ignore_errors=True)
        for command, arguments in commands.items():
            costs[command].append(run(arguments))
    return costs


def median(costs: list[Cost], figure: str) -> float:
    """Returns the median of one figure."""
    return statistics.median(getattr(cost, figure) for cost in costs)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
