"""What `--checkpoint` and `convert` name, recognized by content and located without TensorFlow.

ARCHIVE                a gzipped tar with one checkpoint inside, like the published ones, or a packed module
DIRECTORY              holds one checkpoint, a module, or a model of Hugging Face's (`model.safetensors`)
PREFIX                 `…/model.ckpt`, for `…/model.ckpt.index` and `.data-…` (V2), or one V1 file of that name
FILE                   Keras' `.h5`, `.weights.h5` or `.keras`, or a safetensors file
synthetic[:SEED]       made-up values
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import glob
import os
from pathlib import Path
import re
from typing import Any, ClassVar, Literal, get_args

from hubexport.checkpoints.archives import MODULE_FILE, unpack_checkpoint
from hubexport.checkpoints.containers import Container, container_of
from hubexport.checkpoints.download_cache import Downloads
from hubexport.checkpoints.stored_values import DamageError
from hubexport.checkpoints.v2_bundle import shard_count
from hubexport.errors import CheckpointError, check_choice
from hubexport.progress import Progress
from hubexport.system.digests import file_sha256
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.variants import Variant

# Which of a variable's values: its moving average, with which the published accuracy was measured, or its last one.
Weights = Literal["averaged", "raw"]

_HUGGING_FACE_WEIGHTS = "model.safetensors"
# Where a SavedModel or a TF1 Hub module has its checkpoint.
_MODULE_PREFIX = Path("variables", "variables")

_SYNTHETIC = re.compile(r"synthetic(?::(?P<seed>[0-9]{1,9}))?")
_SHARD = re.compile(r"\.data-\d{5}-of-(?P<count>\d{5})$")


@dataclasses.dataclass(frozen=True)
class SyntheticSource:
    """Made-up values that depend on a seed and on each variable's name."""

    seed: int
    # Nothing is read.
    paths: ClassVar[tuple[Path, ...]] = ()

    def provenance(self) -> dict[str, Any]:
        """Returns what `hubexport.json` says of the checkpoint."""
        return {"source": f"synthetic:{self.seed}"}


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Values in files of their own.

    Attributes:
        prefix: what TensorFlow calls a checkpoint's path; otherwise the path that was named.
        files: all that belong to it.
        container: how they store the values.
        in_module: whether they are the values of a SavedModel or a TF1 Hub module.
    """

    prefix: Path
    files: tuple[Path, ...]
    container: Container
    in_module: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read."""
        return self.files

    @property
    def shown_as(self) -> Path:
        """What messages call it."""
        return self.prefix

    @property
    def is_of_training(self) -> bool:
        """Whether it is a file that trainings write.

        Modules and files of other frameworks usually hold one value a variable.
        """
        return self.container in ("V1", "V2") and not self.in_module

    def provenance(self) -> dict[str, Any]:
        """Returns what `hubexport.json` says of the checkpoint: names and digests, no paths of this machine."""
        with read_failures_reported(self.prefix):
            digests = {_recorded(path.name): file_sha256(path) for path in self.files}
            return {"source": _recorded(self.prefix.name), "sha256": digests}

    @contextlib.contextmanager
    def opened(self) -> Iterator["FileSource"]:
        """Gives itself; an `ArchiveSource` has to be unpacked first."""
        yield self


@dataclasses.dataclass(frozen=True)
class ArchiveSource:
    """A checkpoint inside a gzipped tar.

    Attributes:
        path: the archive.
        sha256: of the archive.
        published: whether it is the very archive that the variant's config names.
        name: the checkpoint's prefix inside, to tell it from others; None if there is but one.
    """

    path: Path
    sha256: str
    published: bool
    name: str | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read."""
        return (self.path,)

    @property
    def shown_as(self) -> Path:
        """What messages call it."""
        return self.path

    def provenance(self) -> dict[str, Any]:
        """Returns what `hubexport.json` says of the checkpoint."""
        return {"source": _recorded(self.path.name), "sha256": self.sha256, "published": self.published}

    @contextlib.contextmanager
    def opened(self) -> Iterator[FileSource]:
        """Unpacks the checkpoint for as long as the context lasts.

        Raises:
            CheckpointError: the archive is damaged or hostile, or does not hold one checkpoint.
            TemporaryFileError: there is no room for it.
        """
        with temporary_directory(f"cannot unpack {self.path}") as folder:
            with read_failures_reported(self.path), temporary_failures_reported(f"cannot unpack {self.path}"):
                in_module = unpack_checkpoint(self.path, folder)
            yield dataclasses.replace(directory_source(folder, self.name, shown_as=self.path), in_module=in_module)


def _recorded(name: str) -> str:
    """Returns a file's name, if manifests can have it: their readers take no text that a terminal would obey."""
    if not name.isprintable():
        raise CheckpointError(
            f"cannot build from the file {name!r}",
            why="its name has characters that cannot be printed, and modules record it",
            fix="rename it",
        )
    return name


Source = SyntheticSource | FileSource | ArchiveSource


def check_weights(weights: Weights) -> None:
    """Refuses weights that are neither `averaged` nor `raw`.

    Raises:
        UsageError: there are no such weights.
    """
    check_choice("weights", weights, get_args(Weights))


def resolve_source(
    named: str | Path | None, variant: Variant | None, progress: Progress, downloads: Downloads = Downloads()
) -> Source:
    """Finds the checkpoint that is meant.

    Args:
        named: as in this module's docstring; None means the archive that the variant's config names, which is
            downloaded unless it is in the cache.
        variant: whose values are wanted; None if that is for the values to tell.
        progress: hears of the download, and of an archive that is not the published one.
        downloads: how to download.
    Raises:
        CheckpointError: there is nothing of the kind, it is incomplete, or it cannot be read.
        DownloadError: the published archive cannot be fetched.
    """
    if named is None:
        assert variant is not None, "only a variant's config names an archive"
        return _published_archive(variant, progress, downloads)
    text = str(named)
    if text.partition(":")[0] == "synthetic":
        return _synthetic(text)
    path = Path(text)
    with read_failures_reported(path):
        if path.is_dir():
            return directory_source(path, None, shown_as=path)
        if path.is_file():
            return _single_file(path, variant, progress)
        return _prefix(path)


@contextlib.contextmanager
def read_failures_reported(path: Path) -> Iterator[None]:
    """Turns what the system says while a file is read into a CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot read checkpoint {path}",
            why=f"{error.strerror}: {error.filename or path}",
            fix="make it readable, and leave it in place while hubexport reads it",
        ) from error


def _published_archive(variant: Variant, progress: Progress, downloads: Downloads) -> ArchiveSource:
    if variant.checkpoint is None:
        raise CheckpointError(
            f"no checkpoint for {variant.name}",
            why="its config does not say where one is published",
            fix="pass one with --checkpoint",
        )
    from hubexport.checkpoints.download import fetch  # Its HTTP library would slow down every start.

    archive = fetch(variant.checkpoint, progress, downloads)
    return ArchiveSource(archive, variant.checkpoint.sha256, published=True, name=variant.checkpoint.name)


def _synthetic(text: str) -> SyntheticSource:
    match = _SYNTHETIC.fullmatch(text)
    if not match:
        raise CheckpointError(
            f"{text}: not a valid synthetic checkpoint",
            why="the seed must be a whole number of up to nine digits",
            fix="use synthetic or synthetic:1",
        )
    return SyntheticSource(int(match["seed"] or 0))


def _single_file(path: Path, variant: Variant | None, progress: Progress) -> Source:
    container = container_of(path)
    if container == "gzip":
        return _archive(path, variant, progress)
    if path.suffix == ".index" or _SHARD.search(path.name):
        raise CheckpointError(
            f"{path} is one file of a checkpoint",
            why="a checkpoint is named by the prefix that its files share",
            fix=f"use {path.with_suffix('')}",
        )
    if container == "pickle":
        raise CheckpointError(
            f"refusing to read {path}",
            why="it is a Python pickle, which can run any code when it is loaded",
            fix="load it where you trust it, save the weights as safetensors, and use those",
        )
    if container is None:
        raise CheckpointError(
            f"{path} is not a checkpoint",
            why="it is not a gzipped tar, a V1 checkpoint, a Keras HDF5 or .keras file, or a safetensors file",
            fix="use one of these, a directory, or a prefix like model.ckpt",
        )
    return FileSource(path, (path,), container)


def _archive(path: Path, variant: Variant | None, progress: Progress) -> ArchiveSource:
    digest = file_sha256(path)
    if variant is None or variant.checkpoint is None:
        return ArchiveSource(path, digest, published=False, name=None)
    published = digest == variant.checkpoint.sha256
    if not published:
        differs = f"{path} differs from the published archive of {variant.name}"
        progress.warn(f"{differs} (its SHA-256 is {digest}); its values are used all the same")
    return ArchiveSource(path, digest, published, variant.checkpoint.name)


def _prefix(prefix: Path) -> FileSource:
    """Finds a V2 checkpoint's files."""
    index = Path(f"{prefix}.index")
    if not index.is_file():
        raise CheckpointError(
            f"no checkpoint {prefix}",
            why=f"there is no such file or directory, and no {index.name}",
            fix="use a .tgz archive, a directory, a prefix like model.ckpt, or synthetic",
        )
    found = shards(prefix)
    counts = {int(match["count"]) for path in found if (match := _SHARD.search(path.name))} or {1}
    if len(counts) > 1:  # Whoever was replacing the checkpoint has left the other's.
        with contextlib.suppress(DamageError):
            counts = {shard_count(index.read_bytes())}
    wanted = min(counts)
    found = [path for path in found if path.name.endswith(f"-of-{wanted:05}")]
    if len(found) != wanted:
        raise CheckpointError(
            f"checkpoint {prefix} is incomplete",
            why=f"{len(found)} of {wanted} data files are beside {index.name}",
            fix="copy all of its files",
        )
    in_module = (prefix.parent / os.pardir / MODULE_FILE).is_file()
    return FileSource(prefix, (index, *found), "V2", in_module)


def shards(prefix: Path) -> list[Path]:
    """Returns the data files of a V2 checkpoint."""
    found = prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")
    return sorted(path for path in found if _SHARD.search(path.name))


def directory_source(directory: Path, name: str | None, shown_as: Path) -> FileSource:
    """Finds the values in a directory.

    Args:
        directory: a module, a model of Hugging Face's, or a folder with checkpoints.
        name: the prefix of the one that is meant, if there may be several.
        shown_as: what messages call the directory.
    Raises:
        CheckpointError: there is none, or several of which none has that name.
        OSError: the directory cannot be read.
    """
    if (directory / MODULE_FILE).is_file():
        return _prefix(directory / _MODULE_PREFIX)
    if (directory / _HUGGING_FACE_WEIGHTS).is_file():
        return FileSource(directory, (directory / _HUGGING_FACE_WEIGHTS,), "safetensors")
    files = [path for path in sorted(directory.iterdir()) if path.is_file()]
    found = {path.stem: path.with_suffix("") for path in files if path.suffix == ".index"}
    found |= {path.name: path for path in files if path.suffix != ".index" and container_of(path) == "V1"}
    if name in found:
        found = {name: found[name]}
    if len(found) != 1:
        raise CheckpointError(
            f"{shown_as} does not hold exactly one checkpoint",
            why=f"it holds {len(found)}{': ' if found else ''}{', '.join(found)}",
            fix="use the prefix of one, like DIRECTORY/model.ckpt",
        )
    (path,) = found.values()
    return FileSource(path, (path,), "V1") if path.is_file() else _prefix(path)
