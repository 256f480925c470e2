"""Makes the artifacts of a release by Apache Beam, on as many machines as its runner has.

The steps are the same as in processes. The release's folder, the checkpoints and the folder for temporary files are
named by paths; those of the release and of the checkpoints must be the same on all machines.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import os
from pathlib import Path
import pickle
import tempfile

import apache_beam as beam

from hubexport.beam.options import Beam
from hubexport.beam.pipelines import new_pipeline, run_pipeline, stopped
from hubexport.errors import HubexportError
from hubexport.progress import Progress, tensorflow_hushed
from hubexport.release.make_artifact import (
    ArtifactTask,
    FailedArtifact,
    MadeArtifact,
    PackedModule,
    build_and_pack,
    verify_and_describe,
)

# What is handed over: a file each, named after the artifact's handle.
_MADE, _FAILED = ".made", ".failed"


def make_on_beam(
    tasks: Sequence[ArtifactTask], folder: Path, by: Beam, progress: Progress
) -> Iterator[MadeArtifact | FailedArtifact]:
    """Makes artifacts.

    Args:
        tasks: what is to be made.
        folder: where results are handed over; all workers must have it.
        by: the runner, and its options.
        progress: hears of the start.
    Yields:
        What is proved or has failed, once all is done; what is done when the runner fails, before its error.
    Raises:
        UsageError: there is no such runner, or an option has a value that it cannot take.
        HubexportError: the runner failed.
    """
    if not tasks:
        return
    progress.step(f"making {sum(len(task.artifacts) for task in tasks)} artifacts with {by.runner}")
    folder = folder.absolute()
    pipeline = new_pipeline(by)
    (
        pipeline
        | "Variants" >> beam.Create([dataclasses.replace(task, folder=folder) for task in tasks])
        # Without it a runner may keep all on one worker.
        | "Distribute variants" >> beam.Reshuffle()
        | "Build" >> beam.FlatMap(_build)
        | "Distribute modules" >> beam.Reshuffle()
        | "Prove" >> beam.FlatMap(_prove)
        | "Hand over" >> beam.Map(_write, folder)
    )
    failure = None
    try:
        run_pipeline(pipeline, by)
    except HubexportError as error:
        failure = error
    for path in _handed_over(folder):
        yield pickle.loads(path.read_bytes())
    if failure:
        raise failure


def _handed_over(folder: Path) -> list[Path]:
    """Returns one result an artifact: of two attempts at the same thing, the one that came to its end."""
    by_handle = {path.stem: path for suffix in (_FAILED, _MADE) for path in folder.glob(f"*{suffix}")}
    return [by_handle[handle] for handle in sorted(by_handle)]


def _build(task: ArtifactTask) -> Iterator[PackedModule | FailedArtifact]:
    if not stopped():
        # A runner may try a thing twice, and at the same time: each attempt has its own folder.
        folder = Path(tempfile.mkdtemp(dir=task.folder))
        yield from build_and_pack(dataclasses.replace(task, folder=folder), _WorkerProgress())


def _prove(built: PackedModule | FailedArtifact) -> Iterator[MadeArtifact | FailedArtifact]:
    if isinstance(built, FailedArtifact):
        yield built
    elif not stopped():
        yield verify_and_describe(built, _WorkerProgress())


class _WorkerProgress(Progress):
    """Says nothing, and lets TensorFlow say nothing."""

    tensorflow_starting = staticmethod(tensorflow_hushed)


def _write(result: MadeArtifact | FailedArtifact, folder: Path) -> None:
    suffix = _MADE if isinstance(result, MadeArtifact) else _FAILED
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(pickle.dumps(result))
    os.replace(file.name, folder / f"{result.artifact.handle.replace('/', '-')}{suffix}")
