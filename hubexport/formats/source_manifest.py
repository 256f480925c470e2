"""The manifest of the module that holds a checkpoint."""

from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint
from hubexport.checkpoints.sources import Source
from hubexport.formats.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest


def source_manifest(source: Source, opened: OpenedCheckpoint) -> Manifest | None:
    """Returns the manifest of the module that holds the values; None if there is no module, or none that is valid.

    Raises:
        CheckpointError: the file or its archive cannot be read.
    """
    if not opened.in_module:
        return None
    try:
        return parse_manifest(source.read_in_module(MANIFEST, MAX_MANIFEST_BYTES) or b"")
    except ManifestError:
        return None
