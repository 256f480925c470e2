"""Measures releases against TensorFlow Hub's own exporter, and what they cost by stage, by size and by number.

    python scripts/benchmark_release.py [--variants NAME ...] [--verify CHECK ...] [--runs N] [--jobs N]
    python scripts/benchmark_release.py --scale [--counts N ...] [--records N]

The first makes every variant in three versions and both kinds, into an empty folder and once more. Each run is a whole
process, and they alternate with the exporter's, so that a noisy machine is noisy to both; figures are medians. By
default modules are proved by the checks of structure alone, which need no TensorFlow, and that is not counted;
`--verify all` measures the real thing. It needs the development environment: tensorflow-hub 0.15 is the last with an
exporter.

The second makes copies of one variant, from a checkpoint on the disk, and looks at what grows with a release.
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

from benchmark_build import EXPORTED_VARIANTS, exporter, write_checkpoint
import numpy as np
from processes import Cost, run

from hubexport import Variant, load_variant
from hubexport.config_files import select_variants
from hubexport.release.index import INDEX, ArtifactRecord, ReleaseIndex, as_json, read_index
from hubexport.system.atomic_output import publish_file
from hubexport.variants import KINDS
from hubexport.verify.checks.registry import CHECKS

# Of the exporter's time for as many modules; 3 GB; seconds.
TIME_GOAL = 0.08
PEAK_GOAL_MIB = 3e9 / 2**20
WARM_GOAL_S = 3.0
STAGES = ("build", "pack", "verify", "describe")
# Verification is by far the longest, and not of the release alone.
NOT_COUNTED = "verify"
COPIED = "mobilenet_v2_035_96"
COPIED_MODULES = ("feature_vector/5", "classification/5")
PLACED_FILES = 300

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


def main() -> None:
    """Measures, and prints the figures with their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["all"])
    parser.add_argument("--verify", nargs="+", default=["structure"], help="checks, or all (default: structure)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the work (default: 2)")
    parser.add_argument("--scale", action="store_true", help="copies of one variant instead")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 40, 160], help="of copies (default: 10 40 160)")
    parser.add_argument("--records", type=int, default=20_000, help="of a large index (default: 20000)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.scale:
            measure_growth(args.counts, args.records, Path(folder))
        else:
            compare(select_variants(args.variants), args.verify, args.runs, args.jobs, Path(folder))


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run of `hubexport release`: what it cost, and what it told of each artifact."""

    cost: Cost
    artifacts: list[dict[str, Any]]

    def stage(self, name: str) -> float:
        """Returns the seconds that a stage took, of all artifacts, each in its process."""
        return sum(artifact["seconds"].get(name, 0.0) for artifact in self.artifacts)

    @property
    def megabytes(self) -> float:
        """How large the archives are."""
        return sum(artifact["archive"]["bytes"] for artifact in self.artifacts) / 1e6


def release_modules(folder: Path, *arguments: str) -> Measured:
    """Makes the release in `folder/dist` of the configs in `folder`."""
    told = folder / "told.json"
    options = ["--config_dir", str(folder), "--output_dir", str(folder / "dist"), "--format", "json"]
    cost = run(["-c", HUBEXPORT, str(told), "release", *options, *arguments])
    return Measured(cost, json.loads(told.read_text()))


def write_config(variant: Variant, name: str, modules: Sequence[str], folder: Path) -> None:
    """Writes the config of a variant with other modules; JSON is YAML."""
    facts = variant.model_dump(mode="json", exclude_none=True, exclude={"name"})
    (folder / f"{name}.yaml").write_text(json.dumps({**facts, "modules": modules}))


def compare(variants: Sequence[Variant], checks: Sequence[str], runs: int, jobs: int, folder: Path) -> None:
    """Releases variants in versions 1 or 2, 3 and 5, cold and warm, and exports some of them."""
    for variant in variants:
        # Version 1 is of one variant alone; the others began with 2.
        versions = (min(2, *(spec.version for spec in variant.modules)), 3, 5)
        modules = [f"{kind}/{version}" for version in versions for kind in KINDS]
        write_config(variant, variant.name, modules, folder)
    sample = [variant for variant in variants if variant.name in EXPORTED_VARIANTS] or variants[:1]
    checkpoints = {variant.name: write_checkpoint(variant, folder) for variant in sample}
    asked = [] if checks == ["all"] else ["--verify", *checks]
    command = ["--variants", *(variant.name for variant in variants), "--checkpoint", "synthetic", *asked]
    cold: list[Measured] = []
    warm: list[Measured] = []
    checked: list[Cost] = []
    exported_s: list[float] = []
    for _ in range(runs):
        shutil.rmtree(folder / "dist", ignore_errors=True)
        cold.append(release_modules(folder, *command, "--jobs", str(jobs)))
        warm.append(release_modules(folder, *command, "--jobs", str(jobs)))
        checked.append(run(["-m", "hubexport", "release", "--check", str(folder / "dist")]))
        for variant in sample:
            for kind in KINDS:
                export = exporter(variant, kind, checkpoints[variant.name], folder / "theirs")
                exported_s.append(run(export).wall_s)
                shutil.rmtree(folder / "theirs")
    number = len(cold[0].artifacts)
    print(f"{len(variants)} variants, {number} artifacts, {jobs} processes, proved by {' '.join(checks)}")
    print(f"medians of {runs} alternating runs\n")
    report(cold, warm, checked, exported_s, jobs)


def report(
    cold: Sequence[Measured], warm: Sequence[Measured], checked: Sequence[Cost], exported_s: Sequence[float], jobs: int
) -> None:
    """Prints costs, stages and goals."""
    number = len(cold[0].artifacts)
    print(f"{'':28}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}")
    costs = {"cold": [one.cost for one in cold], "warm": [one.cost for one in warm], "--check": checked}
    for name, seen in costs.items():
        middle = [statistics.median(getattr(cost, field) for cost in seen) for field in ("wall_s", "cpu_s", "peak_mib")]
        print(f"{name:28}{middle[0]:9.2f}{middle[1]:9.2f}{middle[2]:10.0f}")
    print(f"{'exporter, one module':28}{statistics.mean(exported_s):9.2f}  mean of {len(exported_s)}")
    print(f"{'archives':28}{cold[0].megabytes:9.0f} MB\n")
    wall_s = statistics.median(one.cost.wall_s for one in cold)
    stages = {stage: statistics.median(one.stage(stage) for one in cold) for stage in STAGES}
    print(f"stages, in seconds of all {jobs} processes together\n")
    for stage, seconds in stages.items():
        print(f"  {stage:26}{seconds:9.2f}{seconds / number:9.3f} s/artifact")
    print(f"  {'starts, plan, places, idle':26}{wall_s * jobs - sum(stages.values()):9.2f}")
    report_sizes(cold[-1])
    exports_s = statistics.mean(exported_s) * number
    counted_s = wall_s - stages[NOT_COUNTED] / jobs
    print(f"\nestimated: the exporter takes {exports_s:.0f} s for as many, one after another")
    print(f"not counted: {NOT_COUNTED}, {stages[NOT_COUNTED] / jobs:.2f} s of the wall time\n")
    print(f"{'cold / exporter, all':28}{wall_s / exports_s:9.4f}")
    judge("cold / exporter, counted", counted_s / exports_s, TIME_GOAL)
    judge("peak MiB, cold", max(one.cost.peak_mib for one in cold), PEAK_GOAL_MIB)
    judge("wall s, warm", statistics.median(one.cost.wall_s for one in warm), WARM_GOAL_S)


def judge(name: str, figure: float, goal: float) -> None:
    """Prints a figure beside what it should be at most."""
    print(f"{name:28}{figure:9.4g}  goal {goal:.4g}  {'reached' if figure <= goal else 'MISSED'}")


def report_sizes(measured: Measured) -> None:
    """Prints what a stage takes for any artifact, and for each megabyte of its archive: a least-squares fit."""
    megabytes = [artifact["archive"]["bytes"] / 1e6 for artifact in measured.artifacts]
    terms = np.stack([np.ones(len(megabytes)), megabytes], axis=1)
    print("\nseconds of an artifact, by the size of its archive\n")
    for stage in STAGES:
        seconds = [artifact["seconds"][stage] for artifact in measured.artifacts]
        (fixed, each), *_ = np.linalg.lstsq(terms, np.array(seconds), rcond=None)
        print(f"  {stage:26}{fixed:9.3f} + {each:.4f} a MB")


def measure_growth(counts: Sequence[int], records: int, folder: Path) -> None:
    """Releases copies of one variant, and looks at an index of many records, and at how files come to their places."""
    original = load_variant(COPIED)
    prefix = write_checkpoint(original, folder)
    for number in range(max(counts)):
        write_config(original, f"copy_{number:04}", COPIED_MODULES, folder)
        for suffix in ("index", "data-00000-of-00001"):
            (folder / f"copy_{number:04}.ckpt.{suffix}").symlink_to(f"{prefix}.{suffix}")
    print(f"copies of {COPIED}, {' and '.join(COPIED_MODULES)}, proved by structure\n")
    print(f"{'copies':>8}{'jobs':>6}{'wall s':>9}{'s/copy':>9}{'cpu s/copy':>12}{'peak MiB':>10}{'warm s':>9}")
    for count in counts:
        for jobs in (1, 2):
            shutil.rmtree(folder / "dist", ignore_errors=True)
            cold, warm = (release_modules(folder, *copies(count, folder), "--jobs", str(jobs)).cost for _ in range(2))
            each = f"{cold.wall_s / count:9.3f}{cold.cpu_s / count:12.3f}"
            print(f"{count:8}{jobs:6}{cold.wall_s:9.2f}{each}{cold.peak_mib:10.0f}{warm.wall_s:9.2f}")
    report_index(folder, records)
    report_places(folder)
    report_bytes(min(counts), max(counts[:2]), folder)


def copies(count: int, folder: Path) -> list[str]:
    """Returns the arguments that ask for some copies."""
    names = [f"copy_{number:04}" for number in range(count)]
    return ["--variants", *names, "--checkpoint", f"{folder}/{{variant}}.ckpt", "--verify", "structure"]


def report_bytes(few: int, many: int, folder: Path) -> None:
    """Prints how much one more copy makes a release read and write."""
    seen = {}
    for count in (few, many):
        shutil.rmtree(folder / "dist", ignore_errors=True)
        seen[count] = transferred(
            ["release", "--config_dir", str(folder), "--output_dir", str(folder / "dist"), *copies(count, folder)]
        )
    read, written = ((seen[many][name] - seen[few][name]) / (many - few) / 1e6 for name in ("rchar", "wchar"))
    prefix = f"{COPIED}.ckpt"
    stored = sum(path.stat().st_size for path in folder.glob(f"{prefix}.*")) / 1e6
    kept = sum(path.stat().st_size for path in (folder / "dist").rglob("*") if path.is_file()) / 1e6 / many
    print(f"\none more copy: {read:.1f} MB read, {written:.1f} MB written; its checkpoint has {stored:.1f} MB,")
    print(f"what is published of it {kept:.1f} MB")


def transferred(arguments: Sequence[str]) -> Mapping[str, int]:
    """Returns the bytes that hubexport's calls of read and write moved, by Linux' names for them."""
    before = _own_transfers()
    done = subprocess.run([sys.executable, "-m", "hubexport", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode()[-2000:])
    # Those of a child count as the parent's once it has ended.
    return {name: after - before[name] for name, after in _own_transfers().items()}


def _own_transfers() -> Mapping[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(number) for name, number in (line.split(": ") for line in lines)}


def report_index(folder: Path, records: int) -> None:
    """Prints what an index of many artifacts costs."""
    small = read_index(folder / "dist")
    assert small, "it has just been published"
    # What a release has that is proved by all checks.
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
    read = run(["-c", READ_INDEX, str(folder)])
    print(f"\nan index of {records:,} records and {len(files):,} files: {len(content) / 1e6:.1f} MB")
    print(f"  to make its JSON {written_s:.2f} s, to list its files {listed_s:.2f} s")
    print(f"  to read it, in a process of its own, {read.wall_s:.2f} s, {read.peak_mib:.0f} MiB")


def report_places(folder: Path) -> None:
    """Prints what it takes to bring a file to its place: to flush it, rename it, and flush its folder."""
    places = folder / "places"
    (places / "staged").mkdir(parents=True)
    staged = [places / "staged" / str(number) for number in range(PLACED_FILES)]
    for path in staged:
        path.write_bytes(bytes(4096))
    start = time.perf_counter()
    for path in staged:
        publish_file(path, places / path.name, overwrite=True)
    seconds = time.perf_counter() - start
    print(f"\na file of 4 KiB comes to its place in {seconds / PLACED_FILES * 1e3:.2f} ms here")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what a function returns, and the seconds that it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
