"""A release from its plan to its index: processes share the work, and what is proved comes to its place at once.

One artifact's failure stops no other. A run that ends early, however it ends, loses what was being made at that moment:
the next one finds the rest in its place.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
from typing import Literal, TypeVar

from hubexport.batch import BuildOrder
from hubexport.beam.options import Beam
from hubexport.checkpoints.download import fetch
from hubexport.errors import HubexportError, ReleaseError, check_positive
from hubexport.progress import Progress
from hubexport.release.artifact_inputs import checkpoint_of
from hubexport.release.index import ArtifactRecord, ReleaseIndex, read_index
from hubexport.release.make_artifact import ArtifactTask, FailedArtifact, MadeArtifact, PackedModule, build, prove
from hubexport.release.plan import PlannedArtifact, ReleaseOptions, make_plan
from hubexport.release.publishing import is_whole, locked, place, publish
from hubexport.system.atomic_output import scratch_directory, write_failures_reported
from hubexport.system.process_pool import in_processes

# Variants that are built before the first of them is proved: what is built waits in the release's folder.
_VARIANTS_AT_ONCE = 64
# TensorFlow gives back little of the memory in which it ran a module: 30 to 50 MB more with each.
_PROOFS_A_PROCESS = 16

_Work = TypeVar("_Work", ArtifactTask, PackedModule)
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class ReleaseOutcome:
    """What became of one artifact.

    Attributes:
        item: what was planned.
        result: what was done, or why it was not.
        record: what is published, or would be by the next run that comes to its end; None if nothing is.
        seconds: what it took, by stage: `build`, `pack`, `verify`, `describe`.
    """

    item: PlannedArtifact
    result: Literal["made", "listed", "up to date", "kept"] | HubexportError
    record: ArtifactRecord | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def release_modules(
    orders: Sequence[BuildOrder],
    recipe: ReleaseOptions,
    directory: str | Path,
    *,
    jobs: int = 1,
    fail_fast: bool = False,
    beam: Beam | None = None,
    progress: Progress | None = None,
) -> list[ReleaseOutcome]:
    """Makes what a release lacks, and publishes it.

    Args:
        orders: what is wanted; each variant once.
        recipe: how.
        directory: the release's; artifacts of earlier runs stay in it.
        jobs: how many processes share the work; with more than 1, a script that calls this needs the usual
            `if __name__ == "__main__":`.
        fail_fast: stop at the first failure, and publish nothing; what is finished waits for the next run.
        beam: lets Apache Beam do the work.
        progress: hears of each step.
    Returns:
        One outcome an artifact, in the order asked for.
    Raises:
        OutputError: the folder cannot be written to.
        ReleaseError: another run is at work there, or its index cannot be read.
        UsageError: `jobs` is not a whole number, or less than 1.
    """
    check_positive(jobs=jobs)
    progress = progress or Progress()
    directory = Path(directory)
    index = read_index(directory)
    plan = make_plan(orders, recipe, directory, index, progress)
    if not _work_is_left(plan, index, directory):
        return [_settled(item) for item in plan]
    with write_failures_reported(f"cannot write the release to {directory}", directory, "choose another --output_dir"):
        with locked(directory):
            # Another run may have finished meanwhile, or replaced what waits to be listed.
            current = read_index(directory)
            if current != index or any(item.action == "list" for item in plan):
                index, plan = current, make_plan(orders, recipe, directory, current, progress)
            return _Run(plan, index or ReleaseIndex(), recipe, directory, progress).finish(jobs, fail_fast, beam)


def _work_is_left(plan: Sequence[PlannedArtifact], index: ReleaseIndex | None, directory: Path) -> bool:
    return index is None or any(item.action in ("make", "list") for item in plan) or not is_whole(index, directory)


def _settled(item: PlannedArtifact) -> ReleaseOutcome:
    """Returns what became of an artifact that is not made."""
    if item.error:
        return ReleaseOutcome(item, item.error, item.record)
    results: dict[str, Literal["listed", "up to date", "kept"]] = {"list": "listed", "keep": "kept"}
    return ReleaseOutcome(item, results.get(item.action, "up to date"), item.record)


class _Run:
    """One run over a plan, with the folder locked.

    Args:
        plan: all artifacts that are asked for.
        index: what is published.
        recipe: how to make artifacts.
        directory: the release's.
        progress: hears of each step.
    """

    def __init__(
        self,
        plan: Sequence[PlannedArtifact],
        index: ReleaseIndex,
        recipe: ReleaseOptions,
        directory: Path,
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._index = index
        self._published = {record.handle: record for record in index.artifacts}
        self._recipe = recipe
        self._directory = directory
        self._progress = progress
        self._outcomes = {item.handle: _settled(item) for item in plan if item.action != "make"}

    def finish(self, jobs: int, fail_fast: bool, beam: Beam | None) -> list[ReleaseOutcome]:
        """Makes what is to be made, publishes it, and returns what became of each artifact."""
        # What SHA256SUMS may say of artifacts that a killed run did not come to list, is true until they are replaced.
        if self._published:
            publish(self._published.values(), self._index, self._directory)
        with scratch_directory(self._directory) as scratch:
            with contextlib.closing(self._results(scratch, jobs, beam)) as results:
                while not (fail_fast and self._failed()) and (result := next(results, None)):
                    self._settle(result)
        stopped = fail_fast and self._failed()
        for item in self._plan:
            if item.handle not in self._outcomes:
                self._outcomes[item.handle] = ReleaseOutcome(item, _stopped(item), self._published.get(item.handle))
        if not stopped:
            self._publish()
        return [self._outcomes[item.handle] for item in self._plan]

    def _failed(self) -> bool:
        return any(isinstance(outcome.result, HubexportError) for outcome in self._outcomes.values())

    def _results(
        self, scratch: Path, jobs: int, beam: Beam | None
    ) -> Generator[MadeArtifact | FailedArtifact, None, None]:
        """Makes artifacts, and yields each as soon as it is proved, or has failed."""
        tasks: list[ArtifactTask] = []
        for items in self._to_make():
            try:
                tasks.append(ArtifactTask(items, self._checkpoint(items[0]), self._recipe, scratch))
            except HubexportError as error:
                yield from (FailedArtifact(item, error) for item in items)
        if beam:
            from hubexport.release.on_beam import make_on_beam

            yield from make_on_beam(tasks, scratch, beam, self._progress)
            return
        done, total = 0, sum(len(task.items) for task in tasks)
        for start in range(0, len(tasks), _VARIANTS_AT_ONCE):
            for result in _make(tasks[start : start + _VARIANTS_AT_ONCE], jobs, self._progress):
                done += 1
                self._progress.step(f"{done} of {total} done: {result.item.handle}")
                yield result

    def _to_make(self) -> list[tuple[PlannedArtifact, ...]]:
        """Returns what is to be made, by variant."""
        by_variant: dict[str, list[PlannedArtifact]] = {}
        for item in self._plan:
            if item.action == "make":
                by_variant.setdefault(item.variant.name, []).append(item)
        return [tuple(items) for items in by_variant.values()]

    def _checkpoint(self, item: PlannedArtifact) -> str:
        """Returns what `hubexport build` is told; a published archive is fetched here, and by nobody else."""
        text = checkpoint_of(self._recipe.checkpoint, item.variant)
        if text is None:
            assert item.variant.checkpoint, "a plan refuses variants without a checkpoint"
            text = str(fetch(item.variant.checkpoint, self._progress, self._recipe.downloads))
        return text

    def _settle(self, result: MadeArtifact | FailedArtifact) -> None:
        """Puts what is made into its place."""
        item = result.item
        published = self._published.get(item.handle)
        if isinstance(result, FailedArtifact):
            self._outcomes[item.handle] = ReleaseOutcome(item, result.error, published, result.seconds)
            return
        try:
            with write_failures_reported(
                f"cannot publish {item.handle}", self._directory, "choose another --output_dir"
            ):
                place(result.record, result.staged, self._directory, published)
            self._outcomes[item.handle] = ReleaseOutcome(item, "made", published or result.record, result.seconds)
        except HubexportError as error:
            self._outcomes[item.handle] = ReleaseOutcome(item, error, published, result.seconds)

    def _publish(self) -> None:
        finished = {handle: out.record for handle, out in self._outcomes.items() if out.record is not None}
        if records := {**self._published, **finished}:
            publish(records.values(), self._index, self._directory)


def _stopped(item: PlannedArtifact) -> ReleaseError:
    return ReleaseError(
        f"{item.handle} was not made",
        why="another artifact failed, and --fail_fast stops at the first failure",
        fix="fix that failure, and run the same command again",
    )


def _make(tasks: Sequence[ArtifactTask], jobs: int, progress: Progress) -> Iterator[MadeArtifact | FailedArtifact]:
    """Builds all, then proves all that could be built."""
    built: list[PackedModule] = []
    for task, results in _shared(build, tasks, jobs, progress):
        for result in results or [FailedArtifact(item, _killed(item)) for item in task.items]:
            if isinstance(result, FailedArtifact):
                yield result
            else:
                built.append(result)
    for start in range(0, len(built), jobs * _PROOFS_A_PROCESS):
        for packed, proved in _shared(prove, built[start : start + jobs * _PROOFS_A_PROCESS], jobs, progress):
            yield proved or FailedArtifact(packed.item, _killed(packed.item))


def _shared(
    work: Callable[[_Work, Progress], _Result], things: Sequence[_Work], jobs: int, progress: Progress
) -> Iterator[tuple[_Work, _Result | None]]:
    """Yields each with its result; None where its process was killed, and again when it had one for itself."""
    if jobs == 1 and len(things) < _PROOFS_A_PROCESS:
        yield from ((thing, work(thing, progress)) for thing in things)
        return
    lost = []
    for thing, result in in_processes(work, things, min(jobs, max(len(things), 1)), progress):
        if result is None:
            lost.append(thing)
        else:
            yield thing, result
    for thing in lost:
        yield from in_processes(work, [thing], 1, progress)


def _killed(item: PlannedArtifact) -> ReleaseError:
    return ReleaseError(
        f"cannot make {item.handle}",
        why="its process was killed, perhaps for lack of memory",
        fix="free memory, or use --jobs 1",
    )
