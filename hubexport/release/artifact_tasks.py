"""What travels between the run and its processes or machines: artifacts to make, half made, made, or failed."""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
from typing import Any

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
        checkpoint_facts: what `hubexport.json` says of the checkpoint.
        checkpoint: the `--checkpoint` of `hubexport build`.
        options: the release's options.
        folder: where their files are written.
    """

    artifacts: tuple[PlannedArtifact, ...]
    checkpoint_facts: Mapping[str, Any]
    checkpoint: str
    options: ReleaseOptions
    folder: Path

    def staged(self, artifact: PlannedArtifact, role: Role) -> Path:
        """Returns where one of an artifact's files is written."""
        return self.folder / path_in_release(artifact.handle, role)


@dataclasses.dataclass(frozen=True)
class PackedModule:
    """A module that is packed and not verified yet, or a deployment.

    Attributes:
        artifact: the artifact as planned.
        task: the task that it belongs to.
        path: of its archive, or of a deployment's folder.
        values: the origin of its values.
        graph_sha256: the digest of its graph; of a deployment, that of its manifest.
        seconds: the time that it took so far, by stage.
        graph_proved_by: the handle of another artifact with the same graph, which passed the checks of graphs; None if
            this one has to pass them.
    """

    artifact: PlannedArtifact
    task: ArtifactTask
    path: Path
    values: ValuesOrigin
    graph_sha256: str
    seconds: dict[str, float]
    graph_proved_by: str | None = None

    @property
    def inputs(self) -> ArtifactInputs:
        """What it is made from."""
        assert self.artifact.inputs, "a plan refuses artifacts of unknown inputs"
        return self.artifact.inputs


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
