"""Measures conversions of a checkpoint against reading its archive's bytes and importing TensorFlow.

    python scripts/benchmark_convert.py ARCHIVE [--runs N]

Each run is a whole process, and the contenders alternate, so that a noisy machine is noisy to all of them; figures are
medians.
"""

import argparse
from pathlib import Path
import statistics
import tarfile
import tempfile

from processes import Cost, run

BASELINE = "read the bytes, import tensorflow"
TARGETS = {
    "slim": "slim.ckpt",
    "keras": "keras.weights.h5",
    "safetensors": "slim.safetensors",
    "huggingface": "huggingface",
    "tf2": "tf2",
}
FIELDS = ("wall_s", "cpu_s", "peak_mib")
TIME_GOAL = 1.5
# Of the checkpoint's bytes, beside what TensorFlow takes by itself.
MEMORY_GOAL = 2.5


def main() -> None:
    """Measures, and prints the figures with their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        targets = {to: Path(folder) / name for to, name in TARGETS.items()}
        commands = {BASELINE: ["-c", f"open({str(args.archive)!r}, 'rb').read(); import tensorflow"]}
        for to, target in targets.items():
            commands[f"archive -> {to}"] = convert(args.archive, target, to)
            back = Path(folder) / f"{to}-back"
            commands[f"{to} -> slim"] = [*convert(target, back, "slim"), "--weights", "raw"]
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for _ in range(args.runs):
            for name, command in commands.items():
                costs[name].append(run(command))
    report(costs, checkpoint_bytes(args.archive), args)


def convert(source: Path, target: Path, to: str) -> list[str]:
    """Returns the arguments of Python that convert."""
    return ["-m", "hubexport", "convert", str(source), str(target), "--to", to, "--overwrite"]


def checkpoint_bytes(archive: Path) -> int:
    """Returns how large the checkpoint's files in an archive are, unpacked."""
    with tarfile.open(archive) as tar:
        return sum(member.size for member in tar if ".ckpt.index" in member.name or ".ckpt.data-" in member.name)


def report(costs: dict[str, list[Cost]], size: int, args: argparse.Namespace) -> None:
    """Prints a row for each contender, and what the goals speak of."""
    print(f"{args.archive.name}, medians of {args.runs} alternating runs\n")
    print(f"{'':36}{'wall s':>8}{'cpu s':>8}{'peak MiB':>10}{'ratio':>8}")
    medians = {name: [statistics.median(getattr(c, of) for c in all_) for of in FIELDS] for name, all_ in costs.items()}
    base_s, _, base_mib = medians[BASELINE]
    for name, (wall_s, cpu_s, peak_mib) in medians.items():
        print(f"{name:36}{wall_s:8.2f}{cpu_s:8.2f}{peak_mib:10.0f}{wall_s / base_s:8.3f}")
    wall_s, _, peak_mib = medians["archive -> safetensors"]
    goal_mib = base_mib + MEMORY_GOAL * size / 2**20
    print()
    show("archive -> safetensors, time", wall_s / base_s, TIME_GOAL)
    show("archive -> safetensors, peak MiB", peak_mib, goal_mib)
    print(f"{'  of the checkpoint, in its sizes':36}{peak_mib * 2**20 / size:8.2f}")


def show(name: str, found: float, goal: float) -> None:
    """Prints a figure and whether it reaches its goal."""
    print(f"{name:36}{found:8.3f}  goal {goal:.2f}  {'reached' if found <= goal else 'MISSED'}")


if __name__ == "__main__":
    main()
