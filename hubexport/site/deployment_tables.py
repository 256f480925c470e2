"""The tables of deployments on the pages of modules, and of files on a deployment's own page."""

from collections.abc import Iterable, Sequence
import dataclasses

from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.formats.manifest import MANIFEST
from hubexport.release.index import ArtifactRecord, ReleaseFile
from hubexport.site.catalogue import quantization
from hubexport.site.deployment_snippets import output_key
from hubexport.site.module_tables import file_rows
from hubexport.site.protocol_files import main_file

# Where the option does not say it as people do.
_WEIGHTS = {"none": "float32", "dynamic": "int8, dynamic range", "int8": "int8, calibrated"}


@dataclasses.dataclass(frozen=True)
class DeploymentRow:
    """A deployment of a module.

    Attributes:
        record: the deployment.
        title: what people call its format.
        output: the name of the output that is not an intermediate result.
        weights: how it stores its weights.
        file: the file that programs load; None if the index does not list it.
        parts: the number of files with weights beside that file.
        bytes: the size of all of them.
    """

    record: ArtifactRecord
    title: str
    output: str
    weights: str
    file: ReleaseFile | None
    parts: int
    bytes: int

    @classmethod
    def of(cls, record: ArtifactRecord) -> "DeploymentRow":
        """Describes a deployment."""
        stored = quantization(record)
        files = [file for file in record.contents if file.path != f"{record.handle}/{MANIFEST}"]
        return cls(
            record=record,
            title=DEPLOYMENTS[record.format].title,
            output=output_key(record),
            weights=_WEIGHTS.get(stored, stored),
            file=main_file(record),
            parts=len(files) - 1,
            bytes=sum(file.bytes for file in files),
        )


def smallest(records: Iterable[ArtifactRecord]) -> DeploymentRow | None:
    """Returns the deployment that takes the least to download, but weights of 8 bits last; None if none has a file."""
    rows = [row for row in map(DeploymentRow.of, records) if row.file]
    return min(rows, key=lambda row: (row.weights == "uint8", row.bytes), default=None)


def deployment_files(record: ArtifactRecord) -> Sequence[tuple[ReleaseFile, str]]:
    """Returns a deployment's files, and what each is for."""
    return [*((file, _purpose(record, file)) for file in record.contents), *file_rows(record)]


def _purpose(record: ArtifactRecord, file: ReleaseFile) -> str:
    if file.path == f"{record.handle}/{MANIFEST}":
        return "the digests of the model's files, and what it was made from"
    return "the model" if file == main_file(record) else "weights of the model"
