"""The program of `make demo`: builds modules, loads one as any program would, and lets it classify photographs.

python scripts/demo.py --real-archive ARCHIVE --photographs DIRECTORY --output-dir DIRECTORY, in the checkout
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
import shlex
import subprocess
import sys

from PIL import Image
import numpy as np
import requests

from hubexport import Variant, load_variant
from hubexport.arrays import Array
from hubexport.progress import tensorflow_hushed

# The variant of the documentation's examples; its checkpoint must be downloaded.
_DEFAULT_VARIANT = "mobilenet_v2_075_192"
# The variant of --real-archive.
_ARCHIVE_VARIANT = "mobilenet_v2_100_224"
_EXAMPLES = Path("examples")
_REACHABLE_TIMEOUT_S = 5
_PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Builds modules, loads one, classifies photographs, and suggests what to do next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real-archive", type=Path, help=f"a checkpoint archive of {_ARCHIVE_VARIANT}")
    parser.add_argument("--photographs", type=Path, default=_EXAMPLES, help="a folder of pictures")
    parser.add_argument("--output-dir", type=Path, required=True, help="where modules go")
    args = parser.parse_args()

    variant, checkpoint = _choose_weights(args.real_archive)
    _title("Build the modules")
    _hubexport("build", "--variant", variant.name, *checkpoint, "--output-dir", args.output_dir, "--overwrite")
    path = args.output_dir / variant.handle(variant.select_modules(["classification"])[0])

    photographs = args.photographs if args.photographs.is_dir() else _EXAMPLES
    files = sorted(file for file in photographs.iterdir() if file.suffix in _PHOTOGRAPH_SUFFIXES)
    _title("Load one in TensorFlow, and show it photographs")
    probabilities = _probabilities(path, files, variant.image_size)
    labels = (path / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines()
    width = max(len(file.name) for file in files)
    for file, row in zip(files, probabilities, strict=True):
        best = int(row.argmax())
        print(f"  {file.name:{width}}  {row[best]:6.1%}  {labels[best].partition(',')[0]}")
    if "synthetic" in checkpoint:
        print("\nThe weights are made up: the module loads and computes, but these names mean nothing.")
        print("With the published weights, which cannot be downloaded from here, it names what it sees.")
    _print_next_steps(path, files[0])


def _choose_weights(real_archive: Path | None) -> tuple[Variant, Sequence[str | Path]]:
    """Returns the variant to build, and the arguments of `hubexport build` for its weights."""
    if real_archive and real_archive.is_file():
        print(f"Real weights: {real_archive}")
        return load_variant(_ARCHIVE_VARIANT), ("--checkpoint", real_archive)
    variant = load_variant(_DEFAULT_VARIANT)
    assert variant.checkpoint is not None  # Every built-in variant has one.
    try:
        answer = requests.head(variant.checkpoint.url, timeout=_REACHABLE_TIMEOUT_S)
        answer.raise_for_status()
    except requests.RequestException as error:
        print(f"No real weights: {variant.checkpoint.url} cannot be reached ({type(error).__name__}).")
        print("Continuing with made-up weights.")
        return variant, ("--checkpoint", "synthetic")
    megabytes = int(answer.headers.get("Content-Length", 0)) / 1e6
    print(f"Real weights: {variant.checkpoint.url} ({megabytes:.0f} MB), downloaded once.")
    return variant, ()


def _hubexport(*arguments: str | Path) -> None:
    words = [str(argument) for argument in arguments]
    print(f"$ hubexport {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "hubexport", *words], check=True)


def _probabilities(path: Path, files: Sequence[Path], image_size: int) -> Array:
    """Returns float32 [len(files), classes], computed by a module of which only the path is known."""
    print("  importing TensorFlow, which takes some seconds", flush=True)
    with tensorflow_hushed():
        import tensorflow as tf
        import tensorflow_hub as hub

    images = np.stack([_pixels(file, image_size) for file in files])
    print(f'  module = hub.load("{path}")  # TensorFlow {tf.__version__}, tensorflow_hub {hub.__version__}')
    print('  logits = module.signatures["image_classification"](images=images)["default"]\n')
    module = hub.load(str(path))
    logits = module.signatures["image_classification"](images=tf.constant(images))["default"]
    probabilities: Array = tf.nn.softmax(logits).numpy()
    return probabilities


def _pixels(file: Path, size: int) -> Array:
    """Returns float32 [size, size, 3], RGB in [0, 1]: what every module takes."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)


def _print_next_steps(path: Path, photograph: Path) -> None:
    _title("Next")
    hubexport = Path(sys.executable).with_name("hubexport")
    program = hubexport.relative_to(Path.cwd()) if hubexport.is_relative_to(Path.cwd()) else hubexport
    print(f"  {program} classify {path} {photograph}")
    print(f"  {program} inspect {path}")
    print(f"  {program} verify {path}")
    print(f"  {program} list")
    print("  See README.md for more.")


if __name__ == "__main__":
    main()
