"""Which files programs get where tfhub.dev had them: at the address of a module, with a query that names the format."""

from collections.abc import Iterator, Mapping

from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.formats.manifest import MANIFEST
from hubexport.release.index import ArtifactRecord, ReleaseFile
from hubexport.site.catalogue import Catalogue

# The query parameters, and the only values of them that are answered.
TFJS_FORMAT, TFJS_FILE = "tfjs-format", "file"
LITE_FORMAT, LITE_FILE = "lite-format", "tflite"


def protocol_files(catalogue: Catalogue, handle: str) -> Mapping[str, ReleaseFile]:
    """Returns the files that programs get at addresses that begin with the handle of a module or deployment.

    `tf.loadGraphModel` with `fromTFHub` requests the files of a model one by one. Programs for TFLite request one file.

    Args:
        catalogue: the release's catalogue.
        handle: any text.
    Returns:
        The files by what follows the handle, like `/model.json?tfjs-format=file` and `?lite-format=tflite`. Where a
        module has several deployments in a format, they are those of the most precise one.
    """
    return dict(_files(catalogue, handle))


def main_file(record: ArtifactRecord) -> ReleaseFile | None:
    """Returns the file of a deployment that programs are given; None if the index does not list it."""
    path = f"{record.handle}/{DEPLOYMENTS[record.format].file}"
    return next((file for file in record.contents if file.path == path), None)


def _files(catalogue: Catalogue, handle: str) -> Iterator[tuple[str, ReleaseFile]]:
    if tfjs := _deployment(catalogue, handle, "tfjs"):
        for file in tfjs.contents:
            folder, _, name = file.path.rpartition("/")
            if folder == tfjs.handle and name != MANIFEST:
                yield f"/{name}?{TFJS_FORMAT}={TFJS_FILE}", file
    if (tflite := _deployment(catalogue, handle, "tflite")) and (model := main_file(tflite)):
        yield f"?{LITE_FORMAT}={LITE_FILE}", model


def _deployment(catalogue: Catalogue, handle: str, form: str) -> ArtifactRecord | None:
    if deployed := catalogue.deployments.get(handle):
        return deployed if deployed.format == form else None
    module = catalogue.records.get(handle)
    return next(iter(catalogue.deployments_of(module, form)), None) if module else None
