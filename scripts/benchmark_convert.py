"""Compares conversions of a checkpoint with reading its archive's bytes and importing TensorFlow.

    python scripts/benchmark_convert.py ARCHIVE [--runs N]

Figures are medians. Each run is a whole process; the contenders alternate, so that load on the machine affects all.
"""

import argparse
from pathlib import Path
import tarfile
import tempfile

from process_cost import ProcessCost, measure, median_cost, verdict

BASELINE = "read the bytes, import tensorflow"
TARGETS = {
    "slim": "slim.ckpt",
    "keras": "keras.weights.h5",
    "safetensors": "slim.safetensors",
    "huggingface": "huggingface",
    "tf2": "tf2",
}
TIME_GOAL = 1.5
# In sizes of the checkpoint, on top of what TensorFlow takes by itself.
MEMORY_GOAL = 2.5


def main() -> None:
    """Measures, and prints figures and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        targets = {to: Path(folder) / name for to, name in TARGETS.items()}
        commands = {BASELINE: ["-c", f"open({str(args.archive)!r}, 'rb').read(); import tensorflow"]}
        for to, target in targets.items():
            commands[f"archive -> {to}"] = convert_command(args.archive, target, to)
            back = Path(folder) / f"{to}-back"
            commands[f"{to} -> slim"] = [*convert_command(target, back, "slim"), "--weights", "raw"]
        costs: dict[str, list[ProcessCost]] = {name: [] for name in commands}
        for _ in range(args.runs):
            for name, command in commands.items():
                costs[name].append(measure(command))
    report(costs, checkpoint_bytes(args.archive), args)


def convert_command(source: Path, target: Path, to: str) -> list[str]:
    """Returns Python's arguments to convert a checkpoint."""
    return ["-m", "hubexport", "convert", str(source), str(target), "--to", to, "--overwrite"]


def checkpoint_bytes(archive: Path) -> int:
    """Returns the unpacked size of the checkpoint in an archive."""
    with tarfile.open(archive) as tar:
        return sum(member.size for member in tar if ".ckpt.index" in member.name or ".ckpt.data-" in member.name)


def report(costs: dict[str, list[ProcessCost]], size: int, args: argparse.Namespace) -> None:
    """Prints a row for each contender, and the figures with goals."""
    print(f"{args.archive.name}, medians of {args.runs} alternating runs\n")
    print(f"{'':36}{'wall s':>8}{'cpu s':>8}{'peak MiB':>10}{'ratio':>8}")
    medians = {name: median_cost(runs) for name, runs in costs.items()}
    baseline, safetensors = medians[BASELINE], medians["archive -> safetensors"]
    for name, cost in medians.items():
        ratio = cost.wall_s / baseline.wall_s
        print(f"{name:36}{cost.wall_s:8.2f}{cost.cpu_s:8.2f}{cost.peak_mib:10.0f}{ratio:8.3f}")
    print()
    for name, figure, goal in (
        ("time", safetensors.wall_s / baseline.wall_s, TIME_GOAL),
        ("peak MiB", safetensors.peak_mib, baseline.peak_mib + MEMORY_GOAL * size / 2**20),
    ):
        print(f"{'archive -> safetensors, ' + name:36}{figure:8.3f}  {verdict(figure, goal)}")
    print(f"{'  in sizes of the checkpoint':36}{safetensors.peak_mib * 2**20 / size:8.2f}")


if __name__ == "__main__":
    main()
