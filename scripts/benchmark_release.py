"""Compares releases with TensorFlow Hub's own exporter, and measures their cost by stage, size and number of modules.

    python scripts/benchmark_release.py [--variant NAME[,...]] [--checks NAME[,...]] [--runs N] [--jobs N]
    python scripts/benchmark_release.py --scale [--counts N ...] [--records N]

The first command releases every variant in three versions and both kinds, into an empty folder and then once more.
Figures are medians. Each run is a whole process; they alternate with the exporter's, so that load on the machine
affects both. By default, modules are verified by the checks of structure alone, which need no TensorFlow, and that time
does not count; `--checks all` measures real releases. It needs the development environment: tensorflow-hub 0.15 is the
last with an exporter.

The second command releases copies of one variant, from a checkpoint on the disk, and measures what grows with their
number.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmark_build import EXPORTED_VARIANTS, exporter_command, write_checkpoint
import numpy as np
from process_cost import ProcessCost, measure, median_cost

from hubexport import Variant, load_variant
from hubexport.config_files import select_variants
from hubexport.release.index import INDEX, ArtifactRecord, ReleaseIndex, as_json, read_index
from hubexport.system.atomic_output import publish_file
from hubexport.variants import KINDS
from hubexport.verify.checks.registry import CHECKS

# Goals: time, as a part of the exporter's for as many modules; memory, 3 GB; seconds to repeat a release.
TIME_GOAL = 0.08
PEAK_GOAL_MIB = 3e9 / 2**20
WARM_GOAL_S = 3.0
STAGES = ("build", "pack", "verify", "describe")
# Verification takes by far the longest, and is not specific to releases.
NOT_COUNTED = "verify"
COPIED = "mobilenet_v2_035_96"
COPIED_MODULES = ("feature_vector/5", "classification/5")
PUBLISHED_FILES = 300

# Runs hubexport with its stdout in a file.
HUBEXPORT = """
import os, runpy, sys
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
sys.argv[:2] = ["hubexport"]
runpy.run_module("hubexport", run_name="__main__")
"""

READ_INDEX = """
from pathlib import Path
import sys
from hubexport.release.index import read_index
read_index(Path(sys.argv[1]))
"""


def _listed(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    """Measures, and prints figures and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--variant", type=_listed, default=["all"], help="names with commas between them (default: all)"
    )
    parser.add_argument("--checks", type=_listed, default=["structure"], help="checks, or all (default: structure)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the work (default: 2)")
    parser.add_argument("--scale", action="store_true", help="measure copies of one variant instead")
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[10, 40, 160], help="numbers of copies (default: 10 40 160)"
    )
    parser.add_argument("--records", type=int, default=20_000, help="records of a large index (default: 20000)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.scale:
            measure_growth(args.counts, args.records, Path(folder))
        else:
            compare(select_variants(args.variant), args.checks, args.runs, args.jobs, Path(folder))


@dataclasses.dataclass(frozen=True)
class ReleaseRun:
    """One run of `hubexport release`: its cost, and what it reports of each artifact."""

    cost: ProcessCost
    artifacts: list[dict[str, Any]]

    def stage_seconds(self, name: str) -> float:
        """Returns the seconds that a stage took, summed over all artifacts."""
        return sum(artifact["seconds"].get(name, 0.0) for artifact in self.artifacts)

    @property
    def megabytes(self) -> float:
        """The size of all archives."""
        return sum(artifact["archive"]["bytes"] for artifact in self.artifacts) / 1e6


def release_modules(folder: Path, *arguments: str) -> ReleaseRun:
    """Releases the configs in `folder` into `folder/dist`."""
    report = folder / "report.json"
    options = ["--config-dir", str(folder), "--output-dir", str(folder / "dist"), "--format", "json"]
    cost = measure(["-c", HUBEXPORT, str(report), "release", *options, *arguments])
    return ReleaseRun(cost, json.loads(report.read_text()))


def write_config(variant: Variant, name: str, modules: Sequence[str], folder: Path) -> None:
    """Writes the config of a variant with other modules, as JSON, which is YAML, too."""
    facts = variant.model_dump(mode="json", exclude_none=True, exclude={"name"})
    (folder / f"{name}.yaml").write_text(json.dumps({**facts, "modules": modules}))


def compare(variants: Sequence[Variant], checks: Sequence[str], runs: int, jobs: int, folder: Path) -> None:
    """Releases variants in versions 1 or 2, 3 and 5, cold and warm, and exports a sample of them."""
    for variant in variants:
        # Only one variant has version 1; the others begin with 2.
        versions = (min(2, *(spec.version for spec in variant.modules)), 3, 5)
        modules = [f"{kind}/{version}" for version in versions for kind in KINDS]
        write_config(variant, variant.name, modules, folder)
    sample = [variant for variant in variants if variant.name in EXPORTED_VARIANTS] or variants[:1]
    checkpoints = {variant.name: write_checkpoint(variant, folder) for variant in sample}
    verify = [] if checks == ["all"] else ["--checks", ",".join(checks)]
    command = ["--variant", ",".join(variant.name for variant in variants), "--checkpoint", "synthetic", *verify]
    cold: list[ReleaseRun] = []
    warm: list[ReleaseRun] = []
    checked: list[ProcessCost] = []
    exported_s: list[float] = []
    for _ in range(runs):
        shutil.rmtree(folder / "dist", ignore_errors=True)
        cold.append(release_modules(folder, *command, "--jobs", str(jobs)))
        warm.append(release_modules(folder, *command, "--jobs", str(jobs)))
        checked.append(measure(["-m", "hubexport", "check", str(folder / "dist")]))
        for variant in sample:
            for kind in KINDS:
                export = exporter_command(variant, kind, checkpoints[variant.name], folder / "theirs")
                exported_s.append(measure(export).wall_s)
                shutil.rmtree(folder / "theirs")
    number = len(cold[0].artifacts)
    print(f"{len(variants)} variants, {number} artifacts, {jobs} processes, verified by {' '.join(checks)}")
    print(f"medians of {runs} alternating runs\n")
    report(cold, warm, checked, exported_s, jobs)


def report(
    cold: Sequence[ReleaseRun],
    warm: Sequence[ReleaseRun],
    checked: Sequence[ProcessCost],
    exported_s: Sequence[float],
    jobs: int,
) -> None:
    """Prints costs, stages and goals."""
    number = len(cold[0].artifacts)
    print(f"{'':28}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}")
    cold_costs = [run.cost for run in cold]
    medians = {"cold": median_cost(cold_costs), "warm": median_cost([run.cost for run in warm])}
    for name, cost in {**medians, "check": median_cost(checked)}.items():
        print(f"{name:28}{cost.wall_s:9.2f}{cost.cpu_s:9.2f}{cost.peak_mib:10.0f}")
    print(f"{'exporter, one module':28}{statistics.mean(exported_s):9.2f}  mean of {len(exported_s)}")
    print(f"{'archives':28}{cold[0].megabytes:9.0f} MB\n")
    wall_s = medians["cold"].wall_s
    stages = {stage: statistics.median(run.stage_seconds(stage) for run in cold) for stage in STAGES}
    print(f"stages, in seconds, summed over {jobs} processes\n")
    for stage, seconds in stages.items():
        print(f"  {stage:26}{seconds:9.2f}{seconds / number:9.3f} s/artifact")
    print(f"  {'start, plan, publish, idle':26}{wall_s * jobs - sum(stages.values()):9.2f}")
    report_sizes(cold[-1])
    exports_s = statistics.mean(exported_s) * number
    counted_s = wall_s - stages[NOT_COUNTED] / jobs
    print(f"\nestimated: the exporter takes {exports_s:.0f} s for as many, one after another")
    print(f"not counted: {NOT_COUNTED}, {stages[NOT_COUNTED] / jobs:.2f} s of the wall time\n")
    print(f"{'cold / exporter, all':28}{wall_s / exports_s:9.4f}")
    for name, figure, goal in (
        ("cold / exporter, counted", counted_s / exports_s, TIME_GOAL),
        ("peak MiB, cold", max(cost.peak_mib for cost in cold_costs), PEAK_GOAL_MIB),
        ("wall s, warm", medians["warm"].wall_s, WARM_GOAL_S),
    ):
        print(f"{name:28}{figure:9.4g}  goal {goal:.4g}  {'reached' if figure <= goal else 'MISSED'}")


def report_sizes(run: ReleaseRun) -> None:
    """Prints what a stage takes per artifact and per megabyte of its archive: a least-squares fit."""
    megabytes = [artifact["archive"]["bytes"] / 1e6 for artifact in run.artifacts]
    terms = np.stack([np.ones(len(megabytes)), megabytes], axis=1)
    print("\nseconds per artifact, by the size of its archive\n")
    for stage in STAGES:
        seconds = [artifact["seconds"][stage] for artifact in run.artifacts]
        (fixed, each), *_ = np.linalg.lstsq(terms, np.array(seconds), rcond=None)
        print(f"  {stage:26}{fixed:9.3f} + {each:.4f} per MB")


def measure_growth(counts: Sequence[int], records: int, folder: Path) -> None:
    """Releases copies of one variant, and measures a large index, publishing files, and transferred bytes."""
    original = load_variant(COPIED)
    prefix = write_checkpoint(original, folder)
    for number in range(max(counts)):
        write_config(original, f"copy_{number:04}", COPIED_MODULES, folder)
        for suffix in ("index", "data-00000-of-00001"):
            (folder / f"copy_{number:04}.ckpt.{suffix}").symlink_to(f"{prefix}.{suffix}")
    print(f"copies of {COPIED}, {' and '.join(COPIED_MODULES)}, verified by structure\n")
    print(f"{'copies':>8}{'jobs':>6}{'wall s':>9}{'s/copy':>9}{'cpu s/copy':>12}{'peak MiB':>10}{'warm s':>9}")
    for count in counts:
        for jobs in (1, 2):
            shutil.rmtree(folder / "dist", ignore_errors=True)
            cold, warm = (
                release_modules(folder, *copies_arguments(count, folder), "--jobs", str(jobs)).cost for _ in range(2)
            )
            each = f"{cold.wall_s / count:9.3f}{cold.cpu_s / count:12.3f}"
            print(f"{count:8}{jobs:6}{cold.wall_s:9.2f}{each}{cold.peak_mib:10.0f}{warm.wall_s:9.2f}")
    report_index(folder, records)
    report_publishing(folder)
    report_bytes(min(counts), max(counts[:2]), folder)


def copies_arguments(count: int, folder: Path) -> list[str]:
    """Returns the arguments of `hubexport release` for some copies."""
    names = [f"copy_{number:04}" for number in range(count)]
    return ["--variant", ",".join(names), "--checkpoint", f"{folder}/{{variant}}.ckpt", "--checks", "structure"]


def report_bytes(few: int, many: int, folder: Path) -> None:
    """Prints how many bytes a release reads and writes per copy."""
    transfers = {}
    for count in (few, many):
        shutil.rmtree(folder / "dist", ignore_errors=True)
        transfers[count] = transferred_bytes(
            [
                "release",
                "--config-dir",
                str(folder),
                "--output-dir",
                str(folder / "dist"),
                *copies_arguments(count, folder),
            ]
        )
    read, written = ((transfers[many][name] - transfers[few][name]) / (many - few) / 1e6 for name in ("rchar", "wchar"))
    prefix = f"{COPIED}.ckpt"
    stored = sum(path.stat().st_size for path in folder.glob(f"{prefix}.*")) / 1e6
    kept = sum(path.stat().st_size for path in (folder / "dist").rglob("*") if path.is_file()) / 1e6 / many
    print(f"\none more copy: {read:.1f} MB read, {written:.1f} MB written; its checkpoint has {stored:.1f} MB,")
    print(f"what is published of it {kept:.1f} MB")


def transferred_bytes(arguments: Sequence[str]) -> Mapping[str, int]:
    """Returns the bytes that hubexport reads and writes: `rchar` and `wchar` of Linux."""
    before = _own_transfers()
    done = subprocess.run([sys.executable, "-m", "hubexport", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode()[-2000:])
    # Linux adds a child's bytes to its parent's when the child ends.
    return {name: after - before[name] for name, after in _own_transfers().items()}


def _own_transfers() -> Mapping[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(number) for name, number in (line.split(": ") for line in lines)}


def report_index(folder: Path, records: int) -> None:
    """Prints what an index of many artifacts costs."""
    small = read_index(folder / "dist")
    assert small, "it has just been published"
    # As in a release that all checks verify.
    checks = tuple(check.name for check in CHECKS)
    record = small.artifacts[0].model_copy(
        update={"inputs": small.artifacts[0].inputs.model_copy(update={"checks": checks})}
    )
    text = as_json(record).decode()
    handles = [record.handle.replace(record.variant, f"{record.variant}_{number:06}") for number in range(records)]
    artifacts = tuple(ArtifactRecord.model_validate_json(text.replace(record.handle, handle)) for handle in handles)
    large = ReleaseIndex(artifacts=artifacts, publishers=small.publishers)
    content, written_s = timed(lambda: as_json(large))
    files, listed_s = timed(large.files)
    (folder / INDEX).write_bytes(content)
    read = measure(["-c", READ_INDEX, str(folder)])
    print(f"\nan index of {records:,} records and {len(files):,} files: {len(content) / 1e6:.1f} MB")
    print(f"  to make its JSON {written_s:.2f} s, to list its files {listed_s:.2f} s")
    print(f"  to read it, in a process of its own, {read.wall_s:.2f} s, {read.peak_mib:.0f} MiB")


def report_publishing(folder: Path) -> None:
    """Prints the time to publish a file: to flush it, rename it, and flush its folder."""
    published = folder / "published"
    (published / "staged").mkdir(parents=True)
    staged = [published / "staged" / str(number) for number in range(PUBLISHED_FILES)]
    for path in staged:
        path.write_bytes(bytes(4096))
    start = time.perf_counter()
    for path in staged:
        publish_file(path, published / path.name, overwrite=True)
    seconds = time.perf_counter() - start
    print(f"\npublishing a file of 4 KiB takes {seconds / PUBLISHED_FILES * 1e3:.2f} ms")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Returns a function's result, and the seconds that it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
