"""Compares builds with TensorFlow Hub's own exporter, and with merely importing TensorFlow.

    python scripts/benchmark_build.py [--variant NAME] [--kind KIND] [--runs N]
    python scripts/benchmark_build.py --variant all [--runs N] [--jobs N]
    python scripts/benchmark_build.py --memory [--variant NAME]

`all` are the variants of the default one's network. `--memory` measures the peak memory of builds by themselves.

Figures are medians. Each run is a whole process; the contenders alternate, so that load on the machine affects all.
It needs the development environment: tensorflow-hub 0.15 is the last with an exporter.
"""

import argparse
from collections.abc import Sequence
import functools
from pathlib import Path
import shutil
import statistics
import subprocess
import sys
import tempfile

from process_cost import ProcessCost, measure, median_cost, verdict

from hubexport import Variant, list_variants, load_variant
from hubexport.arrays import StreamedValue
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.synthetic import SyntheticValues
from hubexport.checkpoints.v2_bundle import data_path, write_bundle

EXPORTER = Path(__file__).with_name("straightforward_exporter.py")

DEFAULT_VARIANT = "mobilenet_v2_075_192"
MEMORY_VARIANT = "resnet_v2_152"
# Goals for one build by variant: wall time as a part of (a) and of (b), memory as a part of (b); then for the module,
# as parts of (a): the bytes of its graphs, and the time to load them.
Goals = tuple[float | None, float | None, float | None, float | None, float | None]
GOALS: dict[str, Goals] = {
    DEFAULT_VARIANT: (0.07, 0.17, 1.3, 0.35, 0.8),
    "resnet_v2_50": (0.15, 0.50, 1.3, None, None),
}
# For MEMORY_VARIANT, whose values take 240 MB.
MEMORY_GOAL_MIB = 200

# Goals for building all variants: time, as a part of the exporter's, by versions; memory of all processes together.
GOALS_OF_ALL = {(3,): 0.02, (3, 5): 0.10}
PEAK_GOAL_MIB = 2048
# The variants that the exporter exports: the smallest, the largest, and some in between.
EXPORTED_VARIANTS = ("mobilenet_v2_035_96", "mobilenet_v2_075_192", "mobilenet_v2_100_224", "mobilenet_v2_140_224")
COPIES = (1, 5, 20, 80)

# Prints the median seconds that hub.Module(path)(images) takes for each path. The paths alternate and take turns at
# being first; the first round warms up, and does not count.
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


def main() -> None:
    """Measures, and prints figures and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", help=f"default: {DEFAULT_VARIANT}, with --memory {MEMORY_VARIANT}")
    parser.add_argument("--memory", action="store_true", help="measure peak memory alone")
    parser.add_argument("--kind", choices=("feature_vector", "classification"), default="classification")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=2, help="processes that build all variants (default: 2)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.memory:
            measure_memory(load_variant(args.variant or MEMORY_VARIANT), Path(folder))
        elif args.variant == "all":
            network = load_variant(DEFAULT_VARIANT).network
            variants = [variant for variant in list_variants() if variant.network == network]
            compare_all(variants, args.runs, args.jobs, Path(folder))
        else:
            compare(load_variant(args.variant or DEFAULT_VARIANT), args.kind, args.runs, Path(folder))


def compare(variant: Variant, kind: str, runs: int, folder: Path) -> None:
    """Compares hubexport and the exporter, for version 2 of one kind, or 3, and a checkpoint of made-up values."""
    version = 2 if 2 in variant.family.versions else 3
    checkpoint = write_checkpoint(variant, folder)
    ours = folder / "ours" / variant.publisher / variant.collection / variant.name / kind / str(version)
    theirs = folder / "theirs"
    module = ["--variant", variant.name, "--module", f"{kind}/{version}"]
    target = ["--checkpoint", str(checkpoint), "--output-dir", str(folder / "ours"), "--overwrite"]
    commands = {
        "hubexport build": ["-m", "hubexport", "build", *module, *target],
        "(a) hub exporter": exporter_command(variant, kind, checkpoint, theirs),
        "(b) import tensorflow": ["-c", "import tensorflow"],
    }
    costs: dict[str, list[ProcessCost]] = {name: [] for name in commands}
    for _ in range(runs):
        shutil.rmtree(theirs, ignore_errors=True)
        for name, command in commands.items():
            costs[name].append(measure(command))
    print(f"{variant.name}/{kind}/{version}, medians of {runs} alternating runs\n")
    report(costs, ours, theirs, runs, GOALS.get(variant.name, (None,) * 5))


def write_checkpoint(variant: Variant, folder: Path) -> Path:
    """Writes a checkpoint of synthetic averaged values, and returns its prefix."""
    variables = variant.network_for("classification").variables
    stored = SyntheticValues(variables, seed=1)
    prefix = folder / f"{variant.name}.ckpt"
    # In chunks, so that this process stays small: see `process_cost.measure`.
    values = {v.name: StreamedValue(v.shape, functools.partial(stored.chunks, v.name)) for v in variables}
    write_bundle(prefix, {f"{name}{AVERAGED_SUFFIX}": value for name, value in values.items()})
    return prefix


def exporter_command(variant: Variant, kind: str, checkpoint: Path, output_dir: Path) -> list[str]:
    """Returns Python's arguments to export one module in the straightforward way."""
    return [str(EXPORTER), variant.name, kind, str(checkpoint), str(output_dir)]


def measure_memory(variant: Variant, folder: Path) -> None:
    """Prints the peak memory of building one module of each format, and both together."""
    checkpoint = write_checkpoint(variant, folder)
    modules = ["feature_vector/3", "classification/5"]
    print(f"{variant.name}, a checkpoint of {data_path(checkpoint, 0, 1).stat().st_size / 1e6:.0f} MB\n")
    for built in ([modules[0]], [modules[1]], modules):
        target = ["--checkpoint", str(checkpoint), "--output-dir", str(folder / "ours"), "--overwrite"]
        options = [f"--module={module}" for module in built]
        cost = measure(["-m", "hubexport", "build", "--variant", variant.name, *options, *target])
        verdict_text = "reached" if cost.peak_mib <= MEMORY_GOAL_MIB else "MISSED"
        print(
            f"{' '.join(built):36}{cost.wall_s:7.2f} s{cost.peak_mib:6.0f} MiB  goal {MEMORY_GOAL_MIB}  {verdict_text}"
        )


def compare_all(variants: Sequence[Variant], runs: int, jobs: int, folder: Path) -> None:
    """Builds all variants in both kinds and in versions 3 and 5, and exports a sample of them."""
    for variant in variants:
        write_checkpoint(variant, folder)
    kinds = ("feature_vector", "classification")
    sample = [(load_variant(name), kind) for name in EXPORTED_VARIANTS for kind in kinds]
    names = [variant.name for variant in variants]
    exported_s: list[float] = []
    built: dict[tuple[int, ...], list[ProcessCost]] = {(3,): [], (3, 5): []}
    for _ in range(runs):
        for versions, costs in built.items():
            modules = [f"--module={kind}/{version}" for version in versions for kind in kinds]
            costs.append(measure(build_command(modules, names, jobs, folder)))
        variant, kind = sample[len(exported_s) % len(sample)]
        checkpoint = folder / f"{variant.name}.ckpt"
        exported_s.append(measure(exporter_command(variant, kind, checkpoint, folder / "theirs")).wall_s)
        shutil.rmtree(folder / "theirs")
    exports_s = statistics.mean(exported_s) * len(variants) * len(kinds)
    print(f"{len(variants)} variants x {len(kinds)} kinds, {jobs} processes, medians of {runs} alternating runs\n")
    print(f"{'':24}{'modules':>8}{'wall s':>9}{'s/module':>10}{'peak MiB':>10}")
    for versions, costs in built.items():
        report_all(versions, len(variants) * len(kinds) * len(versions), costs, exports_s)
    print(f"\nestimated: the exporter takes {exports_s:.0f} s, from {len(exported_s)} runs of")
    print(f"{min(exported_s):.2f} to {max(exported_s):.2f} s, once for each variant and kind, in one format\n")
    report_growth(folder)


def build_command(modules: Sequence[str], variants: Sequence[str], jobs: int, folder: Path) -> list[str]:
    """Returns Python's arguments to build modules of variants from the checkpoints in a folder."""
    shutil.rmtree(folder / "ours", ignore_errors=True)
    target = ["--checkpoint", f"{folder}/{{variant}}.ckpt", "--output-dir", str(folder / "ours")]
    options = ["--jobs", str(jobs), "--config-dir", str(folder), *target]
    return ["-m", "hubexport", "build", *(f"--variant={name}" for name in variants), *modules, *options]


def report_all(versions: tuple[int, ...], modules: int, costs: Sequence[ProcessCost], exports_s: float) -> None:
    """Prints the cost of all modules in some versions, and its goals."""
    wall_s = statistics.median(cost.wall_s for cost in costs)
    peak_mib = max(cost.peak_mib for cost in costs)
    name = f"versions {' and '.join(map(str, versions))}"
    ratio = wall_s / exports_s
    print(f"{name:24}{modules:8}{wall_s:9.2f}{wall_s / modules:10.3f}{peak_mib:10.0f}")
    print(f"{'  of the exporter':24}{ratio:17.4f}  {verdict(ratio, GOALS_OF_ALL[versions])}")
    reached = "reached" if peak_mib <= PEAK_GOAL_MIB else "MISSED"
    print(f"{'  peak of all processes':24}{peak_mib:13.0f} MiB  goal {PEAK_GOAL_MIB}  {reached}")


def report_growth(folder: Path) -> None:
    """Prints the time per module in one process, for different numbers of copies of one variant."""
    original = load_variant("mobilenet_v2_075_192")
    config = f"network: mobilenet_v2\ndepth_multiplier: 0.75\nimage_size: 192\nnum_classes: {original.num_classes}\n"
    for number in range(max(COPIES)):
        (folder / f"copy_{number:03}.yaml").write_text(f"{config}dataset: none\nmodules: [feature_vector/5]\n")
        for suffix in ("index", "data-00000-of-00001"):
            link = folder / f"copy_{number:03}.ckpt.{suffix}"
            link.symlink_to(folder / f"{original.name}.ckpt.{suffix}")
    print("copies of one variant in one process, versions 3 and 5 of one kind")
    for count in COPIES:
        names = [f"copy_{number:03}" for number in range(count)]
        modules = ["--module=feature_vector/3", "--module=feature_vector/5"]
        cost = measure(build_command(modules, names, 1, folder))
        each_s = cost.wall_s / count / 2
        print(f"{2 * count:6} modules {cost.wall_s:9.2f} s {each_s:9.3f} s/module {cost.peak_mib:6.0f} MiB")


def report(costs: dict[str, list[ProcessCost]], ours: Path, theirs: Path, runs: int, goals: Goals) -> None:
    """Prints medians, and the ratios that have goals."""
    print(f"{'':24}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}")
    medians = {name: median_cost(runs_of_one) for name, runs_of_one in costs.items()}
    for name, cost in medians.items():
        print(f"{name:24}{cost.wall_s:9.2f}{cost.cpu_s:9.2f}{cost.peak_mib:10.0f}")
    build, export, start = medians.values()
    our_bytes, their_bytes = ((path / "saved_model.pb").stat().st_size for path in (ours, theirs))
    our_load_s, their_load_s = load_and_apply([ours, theirs], runs)
    print(f"\nsaved_model.pb          ours {our_bytes:,} bytes, (a) {their_bytes:,} bytes")
    print(f"hub.Module + apply      ours {our_load_s:.3f} s, (a) {their_load_s:.3f} s\n")
    for name, ratio, goal in [
        ("build / (a), wall time", build.wall_s / export.wall_s, goals[0]),
        ("build / (a), cpu time", build.cpu_s / export.cpu_s, None),
        ("build / (b), wall time", build.wall_s / start.wall_s, goals[1]),
        ("build / (b), cpu time", build.cpu_s / start.cpu_s, None),
        ("build / (b), peak memory", build.peak_mib / start.peak_mib, goals[2]),
        ("saved_model.pb / (a)", our_bytes / their_bytes, goals[3]),
        ("hub.Module + apply / (a)", our_load_s / their_load_s, goals[4]),
    ]:
        print(f"{name:28}{ratio:6.3f}  {'' if goal is None else verdict(ratio, goal)}".rstrip())


def load_and_apply(modules: Sequence[Path], runs: int) -> list[float]:
    """Returns the median seconds of `hub.Module(path)(images)` in one process, without session and restore."""
    command = [sys.executable, "-c", LOAD_AND_APPLY, str(runs), *map(str, modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


if __name__ == "__main__":
    main()
