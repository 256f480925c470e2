"""Checks the files of a deployment in a release: that its manifest lists them, and says what the index says."""

from collections.abc import Generator

from hubexport.formats.manifest import Manifest
from hubexport.release.check_archive import ArchiveContents, manifest_findings
from hubexport.release.findings import Finding, findings_about
from hubexport.release.index import ArtifactRecord, ReleaseFile
from hubexport.release.untrusted_folder import UntrustedFolder, check_listed, parsed, read_listed


def read_deployment(folder: UntrustedFolder, record: ArtifactRecord) -> Generator[str, None, ArchiveContents | None]:
    """Checks a deployment's files.

    Args:
        folder: the release's folder.
        record: the deployment's entry in the index.
    Yields:
        Each problem, in one line.
    Returns:
        What is in its folder.
    Raises:
        UntrustedFileError: the manifest is not the listed file, or none that hubexport writes.
    """
    assert record.deployment
    text = read_listed(folder, record.digest_file)
    manifest = parsed(Manifest, text, "is")
    for file in record.contents:
        if file != record.digest_file:
            yield from (f"lists a file that is wrong: {one.path} {one.what}" for one in _findings(folder, file))
    digests = {file.path.removeprefix(f"{record.handle}/"): file.sha256 for file in record.contents}
    yield from manifest_findings(manifest, record, digests)
    return ArchiveContents(digests, manifest, text.encode(), None)


def _findings(folder: UntrustedFolder, file: ReleaseFile) -> list[Finding]:
    return findings_about(file.path, check_listed, folder, file)
