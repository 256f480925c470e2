"""Makes the artifacts of a release on Apache Beam, on as many machines as its runner has.

The steps are the same as in local processes. The release's folder and the checkpoints must have the same paths on all
machines.
"""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import itertools
import os
from pathlib import Path
import pickle
import tempfile

import apache_beam as beam

from hubexport.beam.options import Beam
from hubexport.beam.pipelines import new_pipeline, run_pipeline, stopped
from hubexport.errors import HubexportError
from hubexport.progress import Progress, tensorflow_hushed
from hubexport.release.artifact_tasks import ArtifactTask, FailedArtifact, MadeArtifact, PackedModule
from hubexport.release.make_artifact import build_and_pack, ready_to_verify, verify_and_describe

# Workers hand over each result in a file that is named after the artifact's handle.
_MADE, _FAILED = ".made", ".failed"


def make_on_beam(
    tasks: Sequence[ArtifactTask], folder: Path, options: Beam, progress: Progress
) -> Iterator[MadeArtifact | FailedArtifact]:
    """Makes artifacts.

    Args:
        tasks: the artifacts to make.
        folder: where workers hand over their results; all of them must be able to write there.
        options: the runner, and its options.
        progress: is told of the start.
    Yields:
        All results, when the pipeline has ended. If the runner fails, the results so far, and then its error.
    Raises:
        UsageError: the runner does not exist, or an option has an invalid value.
        HubexportError: the runner failed.
    """
    if not tasks:
        return
    progress.step(f"making {sum(len(task.artifacts) for task in tasks)} artifacts with {options.runner}")
    folder = folder.absolute()
    pipeline = new_pipeline(options)
    (
        pipeline
        | "Variants" >> beam.Create([dataclasses.replace(task, folder=folder) for task in tasks])
        # Without this, a runner may keep everything on one worker.
        | "Distribute variants" >> beam.Reshuffle()
        | "Build" >> beam.FlatMap(_build)
        | "Key by graph" >> beam.WithKeys(_graph)
        | "One group for each graph" >> beam.GroupByKey()
        | "Prove graphs" >> beam.FlatMapTuple(_prove_graph)
        | "Distribute modules" >> beam.Reshuffle()
        | "Verify" >> beam.FlatMap(_verify)
        | "Hand over" >> beam.Map(_write, folder)
    )
    failure = None
    try:
        run_pipeline(pipeline, options)
    except HubexportError as error:
        failure = error
    # A runner may try the same artifact twice: then a success counts, and not the failure.
    by_handle = {path.stem: path for suffix in (_FAILED, _MADE) for path in folder.glob(f"*{suffix}")}
    for _, path in sorted(by_handle.items()):
        yield pickle.loads(path.read_bytes())
    if failure:
        raise failure


def _build(task: ArtifactTask) -> Iterator[PackedModule | FailedArtifact]:
    if not stopped():
        # A runner may try the same task twice at the same time, so each attempt has a folder of its own.
        folder = Path(tempfile.mkdtemp(dir=task.folder))
        yield from build_and_pack(dataclasses.replace(task, folder=folder), _WorkerProgress())


def _graph(built: PackedModule | FailedArtifact) -> str:
    return built.graph_sha256 if isinstance(built, PackedModule) else ""


def _prove_graph(
    graph: str, built: Iterable[PackedModule | FailedArtifact]
) -> Iterator[PackedModule | MadeArtifact | FailedArtifact]:
    """Verifies modules with the same graph until one passes; the others need not pass the checks of graphs then."""
    results = [*built]
    yield from (one for one in results if isinstance(one, FailedArtifact))
    waiting = [one for one in results if isinstance(one, PackedModule)]
    proved: dict[str, str] = {}
    while waiting:
        ready, waiting = ready_to_verify(waiting, proved)
        if not waiting:  # Nobody needs their results, so other workers may verify them.
            yield from ready
            return
        for result in itertools.chain.from_iterable(map(_verify, ready)):
            yield result
            if isinstance(result, MadeArtifact):
                proved[graph] = result.artifact.handle


def _verify(one: PackedModule | MadeArtifact | FailedArtifact) -> Iterator[MadeArtifact | FailedArtifact]:
    if not isinstance(one, PackedModule):
        yield one
    elif not stopped():
        yield verify_and_describe(one, _WorkerProgress())


class _WorkerProgress(Progress):
    """Reports nothing, and silences TensorFlow."""

    tensorflow_starting = staticmethod(tensorflow_hushed)


def _write(result: MadeArtifact | FailedArtifact, folder: Path) -> None:
    suffix = _MADE if isinstance(result, MadeArtifact) else _FAILED
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(pickle.dumps(result))
    os.replace(file.name, folder / f"{result.artifact.handle.replace('/', '-')}{suffix}")
