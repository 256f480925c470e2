"""Measures the images per second of evaluations: on one core, on all cores, and with Apache Beam.

    python scripts/benchmark_evaluate.py MODULE [--images N] [--runs N]

The pictures are synthetic, of the most common size in ImageNet. Figures are medians. Each run is a whole process; the
contenders alternate, so that load on the machine affects all. The start of TensorFlow does not count, except with Beam,
whose workers start it.
"""

import argparse
import importlib.util
import json
import os
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile

from PIL import Image
import numpy as np

HEIGHT_PX, WIDTH_PX = 375, 500
CLASSES = 20
ON_ONE_CORE = "import os, runpy; os.sched_setaffinity(0, {0}); runpy.run_module('hubexport', run_name='__main__')"


def main() -> None:
    """Measures, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder), args.images)
        evaluate = ["evaluate", args.module, "--data", folder, "--format", "json"]
        contenders = {"one core": ["-c", ON_ONE_CORE, *evaluate], "all cores": ["-m", "hubexport", *evaluate]}
        if importlib.util.find_spec("apache_beam"):
            contenders["DirectRunner"] = [*contenders["all cores"], "--runner", "DirectRunner"]
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(args.runs):
            for name, arguments in contenders.items():
                speeds[name].append(images_per_second(arguments))
    print(f"{args.images} images of {WIDTH_PX} x {HEIGHT_PX}, {os.cpu_count()} cores, medians of {args.runs} runs")
    for name, measured in speeds.items():
        print(f"{name:16}{statistics.median(measured):8.1f} images/s")


def make_pictures(folder: Path, number: int) -> None:
    """Writes JPEGs that take as long to decode as photographs, one folder per class."""
    random = np.random.default_rng(0)
    for index in range(number):
        coarse = Image.fromarray(random.integers(0, 256, (HEIGHT_PX // 12, WIDTH_PX // 12, 3), dtype=np.uint8))
        picture = coarse.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)
        path = folder / str(index % CLASSES) / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture.save(path, quality=95)


def images_per_second(arguments: list[str]) -> float:
    """Runs an evaluation, and returns its speed."""
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["images_per_second"])


if __name__ == "__main__":
    main()
