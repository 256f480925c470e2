"""Checks a bill of materials: that hubexport wrote it, and that artifacts were made with what it lists."""

from collections.abc import Generator, Iterator, Mapping
import dataclasses
from importlib import metadata
import json

from packaging.version import InvalidVersion, Version

from hubexport.release.findings import first_difference, json_document
from hubexport.release.index import ArtifactRecord, ReleaseFile
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder, read_listed

# The names in reports, and those of the distributions.
_DISTRIBUTIONS = {"hubexport": "hubexport", "Python": "Python", "NumPy": "numpy", "TensorFlow": "tensorflow"}


@dataclasses.dataclass(frozen=True)
class Bill:
    """A bill of materials.

    Attributes:
        versions: the versions of what was installed, by normalized name; that of the interpreter as `Python`.
        difference: how the bill differs from what this hubexport would write of the same packages; empty if it does
            not.
        same_writer: whether the library that wrote it is the one that is installed here.
    """

    versions: Mapping[str, str]
    difference: str
    same_writer: bool


def read_bill(folder: UntrustedFolder, file: ReleaseFile) -> Generator[str, None, Bill]:
    """Checks a bill of materials.

    Args:
        folder: the release's folder.
        file: the bill, as the index lists it.
    Yields:
        Each problem, in one line.
    Returns:
        The bill.
    Raises:
        UntrustedFileError: it is not the listed file, or not a bill of materials.
    """
    from hubexport.release.sbom_document import WRITER, rewritten, serial_number  # Slow to import.

    text = read_listed(folder, file)
    document = yield from json_document(text)
    try:
        installation, content = rewritten(document)
        number = serial_number({name: value for name, value in document.items() if name != "serialNumber"})
    except ValueError:
        raise UntrustedFileError("is not a bill of materials in CycloneDX' format") from None
    if document.get("serialNumber") != number:
        yield "its serial number is not that of its contents"
    # What differs is what the serial number is a digest of.
    written = content.decode().replace(json.loads(content)["serialNumber"], number)
    versions = {name: package.version for name, package in installation.packages.items()}
    return Bill(
        versions={**versions, "hubexport": installation.hubexport, "Python": installation.python[1]},
        difference="" if written == text else first_difference(written, text),
        same_writer=versions.get(WRITER) == metadata.version(WRITER),
    )


def bill_findings(bill: Bill, record: ArtifactRecord, reported: Mapping[str, str]) -> Iterator[str]:
    """Compares a bill of materials with what an artifact was made with.

    Args:
        bill: the bill.
        record: the artifact's entry in the index.
        reported: the versions in its report, by the programs' names.
    Yields:
        Each problem, in one line.
    """
    for name, version in reported.items():
        # TensorFlow is also in distributions of other names.
        listed = bill.versions.get(_DISTRIBUTIONS.get(name, ""))
        if listed is not None and not _same_version(listed, version):
            yield f"lists {name} {listed}, but {record.handle} was verified with {version}"
    for name, version in record.inputs.packages.items():
        if (listed := bill.versions.get(name)) != version:
            yield f"lists {name} {listed}, but {record.handle} was made with {version}"


def _same_version(listed: str, reported: str) -> bool:
    """Tells whether versions are equal: `2.16.0-rc0` is also written `2.16.0rc0`."""
    try:
        return Version(listed) == Version(reported)
    except InvalidVersion:
        return listed == reported
