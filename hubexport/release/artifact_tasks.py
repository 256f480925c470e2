"""What travels between the run and its processes or machines: artifacts to make, half made, made, or failed."""

import dataclasses
from pathlib import Path

from hubexport.errors import HubexportError
from hubexport.release.artifact_inputs import ArtifactInputs
from hubexport.release.facts import ValuesOrigin
from hubexport.release.index import ArtifactRecord, Role, path_in_release
from hubexport.release.options import ReleaseOptions
from hubexport.release.plan import PlannedArtifact


@dataclasses.dataclass(frozen=True)
class ArtifactTask:
    """Artifacts of one variant to make.

    Attributes:
        artifacts: the artifacts, all of one variant.
        inputs: what all of them are made from.
        checkpoint: the `--checkpoint` of `hubexport build`.
        options: the release's options.
        folder: where their files are written.
    """

    artifacts: tuple[PlannedArtifact, ...]
    inputs: ArtifactInputs
    checkpoint: str
    options: ReleaseOptions
    folder: Path

    def staged(self, artifact: PlannedArtifact, role: Role) -> Path:
        """Returns where one of an artifact's files is written."""
        return self.folder / path_in_release(artifact.handle, role)


@dataclasses.dataclass(frozen=True)
class PackedModule:
    """A packed module that is not verified yet.

    Attributes:
        artifact: the artifact as planned.
        task: the task that it belongs to.
        archive: the path of its archive.
        values: the origin of its values.
        graph_sha256: the digest of its graph.
        seconds: the time that it took so far, by stage.
        graph_proved_by: the handle of another artifact with the same graph, which passed the checks of graphs; None if
            this one has to pass them.
    """

    artifact: PlannedArtifact
    task: ArtifactTask
    archive: Path
    values: ValuesOrigin
    graph_sha256: str
    seconds: dict[str, float]
    graph_proved_by: str | None = None


@dataclasses.dataclass(frozen=True)
class MadeArtifact:
    """A verified artifact with all its files, which are not in their places yet.

    Attributes:
        artifact: the artifact as planned.
        record: its record.
        staged: the paths of its files, by their paths in the release; its record comes last.
        seconds: the time that it took, by stage.
    """

    artifact: PlannedArtifact
    record: ArtifactRecord
    staged: dict[str, Path]
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class FailedArtifact:
    """An artifact that could not be made, and why."""

    artifact: PlannedArtifact
    error: HubexportError
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
