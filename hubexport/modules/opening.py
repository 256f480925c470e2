"""Opens modules in the three forms in which they are shipped: a directory, a gzipped tar, an address on a hub server.

A hub server answers with a gzipped tar if the query has `tf-hub-format=compressed`, as in tensorflow_hub's requests.
Addresses that end in `.tar.gz` or `.tgz` are requested as they are.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
from http import HTTPStatus
from pathlib import Path
import re

from hubexport.checkpoints.archives import MODULE_FILE, holds_modules_alone
from hubexport.checkpoints.containers import container_of
from hubexport.deployments.registry import deployment_in
from hubexport.errors import ModuleError
from hubexport.progress import Progress
from hubexport.system.tars import ArchiveError, unpack_archive
from hubexport.system.temporary import temporary_directory, temporary_failures_reported

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ModuleDirectory:
    """A module's directory, and where it came from.

    Attributes:
        directory: the folder with `saved_model.pb`, or with those of a deployment; a temporary copy if it was packed.
        shown_as: what messages call the module: the path or the address that the user named, without a password.
    """

    directory: Path
    shown_as: Path | str


# Whether a folder holds what is to be opened.
_Holds = Callable[[Path], object]


def _holds_saved_model(directory: Path) -> bool:
    return (directory / MODULE_FILE).is_file()


def _holds_artifact(directory: Path) -> bool:
    return _holds_saved_model(directory) or deployment_in(directory) is not None


@contextlib.contextmanager
def opened_artifact_directory(artifact: str | Path, progress: Progress) -> Iterator[ModuleDirectory]:
    """Opens a module or a deployment; see `opened_module_directory`."""
    with contextlib.ExitStack() as stack:
        yield _opened(artifact, _holds_artifact, stack, progress)


@contextlib.contextmanager
def opened_module_directory(module: str | Path, progress: Progress) -> Iterator[ModuleDirectory]:
    """Opens a module for as long as the context lasts.

    Args:
        module: a module's directory, a gzipped tar with one module in it, or its http or https address on a server.
        progress: shows the download.
    Raises:
        ModuleError: the module is missing, damaged or hostile, or cannot be downloaded or read.
        TemporaryFileError: there is no room to download or unpack it.
    """
    with contextlib.ExitStack() as stack:
        yield _opened(module, _holds_saved_model, stack, progress)


def _opened(artifact: str | Path, holds: _Holds, stack: contextlib.ExitStack, progress: Progress) -> ModuleDirectory:
    if is_address(artifact):
        return _at_address(str(artifact), holds, stack, progress)
    return _at_path(Path(artifact), holds, stack)


def is_address(module: str | Path) -> bool:
    """Returns whether a module is named by an address rather than a path.

    Example:
        >>> is_address("https://hub.example/google/imagenet/mobilenet_v2_050_96/classification/3")
        True
    """
    return isinstance(module, str) and _ADDRESS.match(module) is not None


def holds_module(path: Path) -> bool:
    """Returns whether a path is a module's directory, or an archive with a module in it and no checkpoint beside that.

    Raises:
        CheckpointError: the path is a damaged or hostile archive.
        OSError: the path cannot be read.
    """
    return (path / MODULE_FILE).is_file() or (_is_archive(path) and holds_modules_alone(path))


def _at_address(url: str, holds: _Holds, stack: contextlib.ExitStack, progress: Progress) -> ModuleDirectory:
    # The HTTP library would slow down the start for users who name a path.
    from hubexport.system.http_download import ContentError, HttpError, download, without_password

    shown_as = without_password(url)
    cannot = f"cannot download {shown_as}"
    archive = stack.enter_context(temporary_directory(cannot)) / "module.tar.gz"
    packed = re.split("[?#]", url)[0].lower().endswith((".tar.gz", ".tgz"))
    query = {} if packed else {"tf-hub-format": "compressed"}
    try:
        with temporary_failures_reported(cannot):
            download(url, archive, progress, query=query, gzip_only=True)
    except ContentError as error:
        raise ModuleError(
            f"{shown_as} is not a packed module",
            why=str(error),
            fix="use the address of a module on a hub server, or of a .tar.gz",
        ) from error
    except HttpError as error:
        what, fix = f"cannot download module {shown_as}", "ask the server's owner, or try again later"
        if error.status == HTTPStatus.NOT_FOUND:
            what = f"there is no module at {shown_as}"
            fix = "check the address: on a hub server it ends in publisher/collection/variant/kind/version"
        elif error.status is None:
            fix = "check the address, network and proxy settings, or download it elsewhere and use its path"
        raise ModuleError(what, why=str(error), fix=fix) from error
    return ModuleDirectory(_unpacked(archive, shown_as, holds, stack), shown_as)


def _at_path(path: Path, holds: _Holds, stack: contextlib.ExitStack) -> ModuleDirectory:
    try:
        if holds(path):
            return ModuleDirectory(path, path)
        is_archive = _is_archive(path)
    except OSError as error:
        raise unreadable_error(path, error) from error
    if not is_archive:
        kinds = f"it is neither a directory with {MODULE_FILE} in it nor a gzipped tar"
        raise ModuleError(
            f"{path} is not a module",
            why=kinds if path.exists() else "no such file or directory",
            fix="use a module's directory, a .tar.gz of it, or its address on a hub server",
        )
    return ModuleDirectory(_unpacked(path, path, holds, stack), path)


def unreadable_error(shown_as: Path | str, error: OSError) -> ModuleError:
    """Returns the error for a module with a file that cannot be read."""
    return ModuleError(
        f"cannot read module {shown_as}",
        why=f"{error.strerror or error}: {error.filename or shown_as}",
        fix="make it readable, and leave it in place while hubexport reads it",
    )


def _is_archive(path: Path) -> bool:
    return path.is_file() and container_of(path) == "gzip"


def _unpacked(archive: Path, shown_as: Path | str, holds: _Holds, stack: contextlib.ExitStack) -> Path:
    """Returns the directory of the module in an archive, unpacked for as long as the stack is open."""
    scratch = stack.enter_context(temporary_directory(f"cannot unpack {shown_as}"))
    try:
        with temporary_failures_reported(f"cannot unpack {shown_as}"):
            unpack_archive(archive, scratch)
            folders = (scratch, *(path for path in scratch.rglob("*") if path.is_dir()))
            found = sorted(folder for folder in folders if holds(folder))
    except ArchiveError as error:
        # Its first line may name the temporary copy.
        raise ModuleError(
            f"cannot unpack {shown_as}", why=error.why, fix="pack or fetch it again, from a source that you trust"
        ) from error
    except OSError as error:
        raise unreadable_error(shown_as, error) from error
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(folder.relative_to(scratch)) for folder in found)
    raise ModuleError(
        f"{shown_as} does not hold exactly one module",
        why=f"{MODULE_FILE} is in {len(found)} of its folders{': ' if found else ''}{names}",
        fix="use an archive of one module, or unpack it and use one of the directories",
    )
