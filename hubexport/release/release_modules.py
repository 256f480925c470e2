"""Makes a release: plans it, shares the work between processes, and publishes what passed its checks.

The failure of one artifact stops no other. Each artifact is moved into place as soon as it is finished. So a run that
is interrupted or killed loses only what it was making at that moment, and the next run goes on from there.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
import contextlib
import dataclasses
from pathlib import Path
from typing import Literal, TypeVar

from hubexport.beam.options import Beam
from hubexport.build import BuildOrder
from hubexport.checkpoints.checkpoint_choice import checkpoint_for
from hubexport.checkpoints.download import fetch
from hubexport.errors import HubexportError, ReleaseError, check_positive
from hubexport.progress import Progress
from hubexport.release.artifact_tasks import ArtifactTask, FailedArtifact, MadeArtifact, PackedModule
from hubexport.release.index import ArtifactRecord, ReleaseIndex, read_index
from hubexport.release.make_artifact import build_and_pack, ready_to_verify, verify_and_describe
from hubexport.release.options import UNKNOWN_URL, ReleaseOptions
from hubexport.release.plan import PlannedArtifact, make_plan
from hubexport.release.publishing import move_into_place, publish_index, release_lock, shared_files_are_intact
from hubexport.system.atomic_output import scratch_directory, write_failures_reported
from hubexport.system.process_pool import in_processes

# How many variants are built before their modules are verified. Packed modules wait in the release's folder.
_VARIANTS_PER_ROUND = 64
# TensorFlow keeps 30 to 50 MB of memory for each module that it ran, so a process is replaced after this many.
_VERIFICATIONS_PER_PROCESS = 16

_Input = TypeVar("_Input", ArtifactTask, PackedModule)
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class ReleaseOutcome:
    """The result for one artifact.

    Attributes:
        artifact: the artifact as planned.
        result: what the run did, or the error that kept it from doing so.
        record: the artifact's record, published or waiting to be published by the next complete run; None if there is
            none.
        seconds: the time that it took, by stage: `build`, `pack`, `verify`, `describe`.
    """

    artifact: PlannedArtifact
    result: Literal["made", "listed", "up to date", "kept"] | HubexportError
    record: ArtifactRecord | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def release_modules(
    orders: Sequence[BuildOrder],
    options: ReleaseOptions,
    directory: str | Path,
    *,
    jobs: int = 1,
    fail_fast: bool = False,
    beam: Beam | None = None,
    progress: Progress | None = None,
) -> list[ReleaseOutcome]:
    """Makes the artifacts that a release lacks, and publishes them.

    Args:
        orders: the modules to release, at most one order per variant.
        options: how to make them.
        directory: the release's folder. Artifacts of earlier runs stay in it.
        jobs: the number of processes. With more than 1, a script that calls this needs the usual
            `if __name__ == "__main__":`.
        fail_fast: stop at the first failure, and publish nothing. What is finished by then waits for the next run.
        beam: run on Apache Beam, instead of `jobs` processes.
        progress: is told of each step.
    Returns:
        One outcome per artifact, in the order of `orders`.
    Raises:
        OutputError: the folder cannot be written to.
        ReleaseError: another run works in the folder, or its index cannot be read.
        UsageError: `jobs` is not a whole number, or less than 1.
    """
    check_positive(jobs=jobs)
    progress = progress or Progress()
    directory = Path(directory)
    index = read_index(directory)
    plan = make_plan(orders, options, directory, index, progress)
    if index and not _actions(plan) & {"make", "list"} and shared_files_are_intact(index, directory):
        return [_outcome_without_work(artifact) for artifact in plan]
    if options.url == UNKNOWN_URL and "make" in _actions(plan):
        progress.warn(
            f"without --url, the pages of these artifacts tell users to load {UNKNOWN_URL}/HANDLE; published pages "
            "never change, so give the address where the release will be served"
        )
    failures_reported = write_failures_reported(
        f"cannot write the release to {directory}", directory, "choose another --output-dir"
    )
    with failures_reported, release_lock(directory):
        # Another run may have published in the meantime, or replaced artifacts that wait to be listed.
        current = read_index(directory)
        if current != index or "list" in _actions(plan):
            index, plan = current, make_plan(orders, options, directory, current, progress)
        return _Run(plan, index or ReleaseIndex(), options, directory, jobs, fail_fast, beam, progress).finish()


def _actions(plan: Sequence[PlannedArtifact]) -> set[str]:
    return {artifact.action for artifact in plan}


def _outcome_without_work(artifact: PlannedArtifact) -> ReleaseOutcome:
    if artifact.error:
        return ReleaseOutcome(artifact, artifact.error, artifact.record)
    results: dict[str, Literal["listed", "up to date", "kept"]] = {"list": "listed", "keep": "kept"}
    return ReleaseOutcome(artifact, results.get(artifact.action, "up to date"), artifact.record)


@dataclasses.dataclass
class _Run:
    """One run over a plan, with the folder locked; see `release_modules` for the other attributes.

    Attributes:
        plan: all artifacts that were asked for.
        index: what is published.
        published: the records in the index, by handle.
        outcomes: the outcomes so far, by handle.
    """

    plan: Sequence[PlannedArtifact]
    index: ReleaseIndex
    options: ReleaseOptions
    directory: Path
    jobs: int
    fail_fast: bool
    beam: Beam | None
    progress: Progress

    def __post_init__(self) -> None:
        self.published = {record.handle: record for record in self.index.artifacts}
        self.outcomes = {
            artifact.handle: _outcome_without_work(artifact) for artifact in self.plan if artifact.action != "make"
        }

    def finish(self) -> list[ReleaseOutcome]:
        """Makes what has to be made, publishes it, and returns the outcome for each artifact."""
        # A killed run may have listed artifacts in SHA256SUMS alone. They may be replaced now, so they leave that list.
        self._publish(self.published)
        with scratch_directory(self.directory) as scratch, contextlib.closing(self._results(scratch)) as results:
            while not self._is_stopped() and (result := next(results, None)):
                self._settle(result)
        if not self._is_stopped():
            finished = {handle: out.record for handle, out in self.outcomes.items() if out.record is not None}
            self._publish({**self.published, **finished})
        return [self.outcomes.get(artifact.handle) or self._not_made(artifact) for artifact in self.plan]

    def _publish(self, records: Mapping[str, ArtifactRecord]) -> None:
        if records:
            publish_index(records.values(), self.index, self.directory)

    def _is_stopped(self) -> bool:
        return self.fail_fast and any(isinstance(out.result, HubexportError) for out in self.outcomes.values())

    def _results(self, scratch: Path) -> Generator[MadeArtifact | FailedArtifact, None, None]:
        """Makes artifacts, and yields each as soon as it is verified, or has failed."""
        tasks: list[ArtifactTask] = []
        by_variant: dict[str, list[PlannedArtifact]] = {}
        for artifact in self.plan:
            if artifact.action == "make":
                by_variant.setdefault(artifact.variant.name, []).append(artifact)
        for artifacts in by_variant.values():
            try:
                variant, inputs = artifacts[0].variant, artifacts[0].inputs
                assert inputs, "a plan refuses artifacts of unknown inputs"
                checkpoint = checkpoint_for(variant, self.options.checkpoint)
                if checkpoint is None:
                    assert variant.checkpoint, "a plan refuses variants without a checkpoint"
                    # Published archives are downloaded here, and only here.
                    checkpoint = str(fetch(variant.checkpoint, self.progress, self.options.downloads))
                tasks.append(ArtifactTask(tuple(artifacts), inputs.checkpoint, checkpoint, self.options, scratch))
            except HubexportError as error:
                yield from (FailedArtifact(artifact, error) for artifact in artifacts)
        if self.beam:
            from hubexport.release.on_beam import make_on_beam

            yield from make_on_beam(tasks, scratch, self.beam, self.progress)
            return
        finished, total = 0, sum(len(task.artifacts) for task in tasks)
        for start in range(0, len(tasks), _VARIANTS_PER_ROUND):
            for result in _make(tasks[start : start + _VARIANTS_PER_ROUND], self.jobs, self.progress):
                finished += 1
                self.progress.step(f"{finished} of {total} done: {result.artifact.handle}")
                yield result

    def _settle(self, finished: MadeArtifact | FailedArtifact) -> None:
        """Moves an artifact into place if it could be made, and notes the outcome."""
        artifact = finished.artifact
        record = self.published.get(artifact.handle)
        result: Literal["made"] | HubexportError = "made"
        if isinstance(finished, FailedArtifact):
            result = finished.error
        else:
            what, fix = f"cannot publish {artifact.handle}", "choose another --output-dir"
            try:
                with write_failures_reported(what, self.directory, fix):
                    move_into_place(finished.record, finished.staged, self.directory, record)
                record = record or finished.record
            except HubexportError as error:
                result = error
        self.outcomes[artifact.handle] = ReleaseOutcome(artifact, result, record, finished.seconds)

    def _not_made(self, artifact: PlannedArtifact) -> ReleaseOutcome:
        error = ReleaseError(
            f"{artifact.handle} was not made",
            why="another artifact failed, and --fail-fast stops at the first failure",
            fix="fix that failure, and run the same command again",
        )
        return ReleaseOutcome(artifact, error, self.published.get(artifact.handle))


def _make(tasks: Sequence[ArtifactTask], jobs: int, progress: Progress) -> Iterator[MadeArtifact | FailedArtifact]:
    """Builds all modules, then verifies those that could be built."""
    packed_modules: list[PackedModule] = []
    for task, results in _shared(build_and_pack, tasks, jobs, progress):
        for result in results or [FailedArtifact(artifact, _killed(artifact)) for artifact in task.artifacts]:
            if isinstance(result, FailedArtifact):
                yield result
            else:
                packed_modules.append(result)
    share = jobs * _VERIFICATIONS_PER_PROCESS
    proved: dict[str, str] = {}
    while packed_modules:
        ready, packed_modules = ready_to_verify(packed_modules, proved)
        for start in range(0, len(ready), share):
            for packed, made in _shared(verify_and_describe, ready[start : start + share], jobs, progress):
                if isinstance(made, MadeArtifact):
                    proved.setdefault(packed.graph_sha256, packed.artifact.handle)
                yield made or FailedArtifact(packed.artifact, _killed(packed.artifact))


def _shared(
    work: Callable[[_Input, Progress], _Result], inputs: Sequence[_Input], jobs: int, progress: Progress
) -> Iterator[tuple[_Input, _Result | None]]:
    """Shares work between processes.

    Yields:
        Each input with its result, as soon as it is finished. The result is None if the process was killed, and was
        killed again when it did nothing else.
    """
    if jobs == 1 and len(inputs) < _VERIFICATIONS_PER_PROCESS:
        yield from ((one, work(one, progress)) for one in inputs)
        return
    lost = []
    for one, result in in_processes(work, inputs, min(jobs, max(len(inputs), 1)), progress):
        if result is None:
            lost.append(one)
        else:
            yield one, result
    for one in lost:
        yield from in_processes(work, [one], 1, progress)


def _killed(artifact: PlannedArtifact) -> ReleaseError:
    return ReleaseError(
        f"cannot make {artifact.handle}",
        why="its process was killed, perhaps for lack of memory",
        fix="free memory, or use --jobs 1",
    )
