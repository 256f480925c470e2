"""Requests of programs for models of TF.js and TFLite at the addresses of modules, as tfhub.dev had them."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException

from hubexport.release.index import ReleaseFile
from hubexport.site.catalogue import Catalogue
from hubexport.site.protocol_files import LITE_FILE, LITE_FORMAT, TFJS_FILE, TFJS_FORMAT, protocol_files


def requested_file(catalogue: Catalogue, path: str, query: Mapping[str, str]) -> ReleaseFile | None:
    """Returns the file that a program asks for; None if it asks for no deployment, or nothing is published there.

    Args:
        catalogue: the release's catalogue.
        path: the path of the request, without a slash in front.
        query: the parameters of the request.
    Raises:
        HTTPException: there is a module or deployment at that address, but not that file.
    """
    if TFJS_FORMAT in query:
        return _tfjs_file(catalogue, path, query[TFJS_FORMAT])
    if LITE_FORMAT in query and _is_published(catalogue, path):
        if query[LITE_FORMAT] != LITE_FILE:
            raise HTTPException(400, f"{LITE_FORMAT} must be {LITE_FILE}.")
        return _found(protocol_files(catalogue, path), f"?{LITE_FORMAT}={LITE_FILE}", "TensorFlow Lite")
    return None


def _tfjs_file(catalogue: Catalogue, path: str, wanted: str) -> ReleaseFile | None:
    handle, _, name = path.rpartition("/")
    if _is_published(catalogue, path):
        _found(protocol_files(catalogue, path), f"/model.json?{TFJS_FORMAT}={TFJS_FILE}", "TensorFlow.js")
        raise HTTPException(
            404, f"Models for TensorFlow.js are not packed here. Load /{path}/model.json?{TFJS_FORMAT}={TFJS_FILE}."
        )
    if not _is_published(catalogue, handle):
        return None
    if wanted != TFJS_FILE:
        raise HTTPException(400, f"{TFJS_FORMAT} must be {TFJS_FILE}.")
    files = protocol_files(catalogue, handle)
    if not files.keys() - {f"?{LITE_FORMAT}={LITE_FILE}"}:
        raise _missing("TensorFlow.js")
    file = files.get(f"/{name}?{TFJS_FORMAT}={TFJS_FILE}")
    if file is None:
        raise HTTPException(404, "The model for TensorFlow.js has no such file.")
    return file


def _is_published(catalogue: Catalogue, path: str) -> bool:
    return path in catalogue.records or path in catalogue.deployments


def _found(files: Mapping[str, ReleaseFile], key: str, program: str) -> ReleaseFile:
    if file := files.get(key):
        return file
    raise _missing(program)


def _missing(program: str) -> HTTPException:
    return HTTPException(404, f"This module is not available for {program}.")
