"""The sources of values that `--checkpoint` and `convert` accept, recognized by content, without TensorFlow.

ARCHIVE                a gzipped tar with one checkpoint, like the published ones, or a packed module
DIRECTORY              a folder with checkpoints, of which one is the latest; a module; or a Hugging Face model
PREFIX                 `…/model.ckpt`, for `…/model.ckpt.index` and `.data-…` (V2), or one V1 file of that name
FILE                   a Keras file (`.h5`, `.weights.h5` or `.keras`), a safetensors file, or the index of several
synthetic[:SEED]       made-up values
"""

import abc
from collections.abc import Collection, Iterator
import contextlib
import dataclasses
import os
from pathlib import Path
import re
from typing import Any, ClassVar

from hubexport.checkpoints.archives import archive_errors_reworded, unpack_checkpoints
from hubexport.checkpoints.checkpoint_files import (
    CheckpointFiles,
    files_at_prefix,
    files_of_index,
    is_shard,
)
from hubexport.checkpoints.checkpoint_folders import files_in_directory
from hubexport.checkpoints.container_readers import open_container
from hubexport.checkpoints.containers import container_of
from hubexport.checkpoints.download_cache import Downloads, pinned
from hubexport.checkpoints.foreign_files import foreign_format
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.safetensors_index import SAFETENSORS_INDEX_SUFFIX
from hubexport.checkpoints.stored_values import Joined, Renamed, StoredValues
from hubexport.checkpoints.synthetic import SyntheticValues
from hubexport.checkpoints.unpacked_archive import UnpackedArchive
from hubexport.config_files import list_variants
from hubexport.errors import CheckpointError
from hubexport.labels import MODULE_LABELS, module_labels, parse_labels
from hubexport.progress import Progress
from hubexport.system.digests import file_sha256
from hubexport.system.regular_files import read_regular_file
from hubexport.system.tars import read_first_matching
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.variants import Variant

_SYNTHETIC = re.compile(r"synthetic(?::(?P<seed>[0-9]{1,9}))?")


class Source(abc.ABC):
    """Where a network's values come from.

    Attributes:
        made_up: whether the values are made from a seed. Those that a module holds may be so as well.
        packed: whether the values are inside an archive.
        scope: what the names of the wanted network's variables begin with, if the user says it.
    """

    made_up: ClassVar[bool] = False
    packed: ClassVar[bool] = False
    scope: str | None

    @property
    @abc.abstractmethod
    def shown_as(self) -> Path:
        """The path by which messages name the source."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that the source reads."""
        return ()

    @abc.abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Returns the `checkpoint` entry of `hubexport.json`: names and digests, no paths of this machine.

        Raises:
            CheckpointError: a file cannot be read, or has a name that manifests cannot record.
        """

    def _scope_provenance(self) -> dict[str, Any]:
        """Returns the scope for `hubexport.json`, if the user says it; what the file tells need not be recorded."""
        return {} if self.scope is None else {"scope": self.scope}

    @abc.abstractmethod
    def opened(
        self, variant: Variant | None, progress: Progress
    ) -> contextlib.AbstractContextManager[tuple[CheckpointFiles | None, StoredValues]]:
        """Opens the source for as long as the context lasts.

        Args:
            variant: the variant whose values are wanted; None accepts any network. Synthetic values need a variant.
            progress: receives the steps.
        Returns:
            The files that store the values, None for made-up values; and the values.
        Raises:
            CheckpointError: the source is damaged or hostile, does not hold one checkpoint, or needs a variant.
            TemporaryFileError: the source has to be unpacked, and there is no room for that.
        """

    def check_stored(self, use: str, fix: str) -> None:
        """Raises a CheckpointError if the values are made up, and so cannot be put to a use like `compared`."""

    def read_beside(self, pattern: str) -> bytes | None:
        """Reads the file beside the checkpoint whose name matches a pattern; None if there is no such file."""
        return None

    def read_in_module(self, name: str, max_bytes: int) -> bytes | None:
        """Reads a file at the top of the module that holds the values; None if there is no module or no such file.

        Raises:
            CheckpointError: the file or its archive cannot be read, or the file is larger than `max_bytes`.
        """
        return None

    def class_names(self) -> list[str] | None:
        """Returns the names of the classes in the module that holds the values; None if there are none.

        Raises:
            CheckpointError: the archive with the module cannot be read.
            UsageError: the file of the names cannot be read.
        """
        return None


@dataclasses.dataclass(frozen=True)
class SyntheticSource(Source):
    """Made-up values that depend on a seed and on each variable's name."""

    made_up = True

    seed: int
    scope: str | None = None

    @property
    def shown_as(self) -> Path:
        return Path(f"synthetic:{self.seed}")

    def provenance(self) -> dict[str, Any]:
        return {"source": str(self.shown_as)} | self._scope_provenance()

    @contextlib.contextmanager
    def opened(self, variant: Variant | None, progress: Progress) -> Iterator[tuple[None, StoredValues]]:
        if variant is None:
            raise CheckpointError(
                "synthetic values need a variant", why="they fit any network", fix="add --variant NAME"
            )
        progress.step(f"making up synthetic values from seed {self.seed}")
        yield None, SyntheticValues(variant.network_for("classification").variables, self.seed)

    def check_stored(self, use: str, fix: str) -> None:
        raise CheckpointError(f"synthetic values cannot be {use}", why="they fit any network", fix=fix)


@dataclasses.dataclass(frozen=True)
class FileSource(Source):
    """The files of a checkpoint."""

    files: CheckpointFiles
    scope: str | None = None

    @property
    def shown_as(self) -> Path:
        return self.files.prefix

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.files.paths

    def provenance(self) -> dict[str, Any]:
        with read_failures_reported(self.shown_as):
            digests = {_printable_name(path.name): file_sha256(path) for path in self.paths}
            return {"source": _printable_name(self.shown_as.name), "sha256": digests} | self._scope_provenance()

    @contextlib.contextmanager
    def opened(self, variant: Variant | None, progress: Progress) -> Iterator[tuple[CheckpointFiles, StoredValues]]:
        progress.step(f"reading {self.shown_as}")
        with open_container(self.files, self.shown_as) as stored:
            yield self.files, stored

    def read_beside(self, pattern: str) -> bytes | None:
        matching = list(self.paths[0].parent.glob(pattern))
        return matching[0].read_bytes() if len(matching) == 1 else None

    def read_in_module(self, name: str, max_bytes: int) -> bytes | None:
        path = self.files.prefix.parent / os.pardir / name
        with read_failures_reported(self.shown_as):
            return read_regular_file(path, max_bytes) if self.files.in_module and os.path.lexists(path) else None

    def class_names(self) -> list[str] | None:
        return module_labels(self.files.prefix.parent / os.pardir) if self.files.in_module else None


@dataclasses.dataclass(frozen=True)
class ArchiveSource(Source):
    """A checkpoint inside a gzipped tar.

    Attributes:
        path: the archive.
        sha256: the archive's digest.
        published: whether this is the archive that the variant's config names; if the config has no SHA-256 of it, the
            one that was downloaded first.
        name: the checkpoint's prefix inside, for archives with several; None if it is not known.
        raw_name: the prefix of the raw values; then those of `name` are averages under the names of the variables. None
            if one checkpoint has both. An archive without `name` that holds nothing but the two checkpoints of a
            built-in config has that config's names.
    """

    packed = True

    path: Path
    sha256: str
    published: bool
    name: str | None
    raw_name: str | None = None
    scope: str | None = None

    @property
    def shown_as(self) -> Path:
        return self.path

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def provenance(self) -> dict[str, Any]:
        described = {"source": _printable_name(self.path.name), "sha256": self.sha256, "published": self.published}
        return described | self._scope_provenance()

    @contextlib.contextmanager
    def opened(self, variant: Variant | None, progress: Progress) -> Iterator[tuple[CheckpointFiles, StoredValues]]:
        progress.step(f"reading {self.path}")
        with temporary_directory(f"cannot unpack {self.path}") as folder:
            with read_failures_reported(self.path), temporary_failures_reported(f"cannot unpack {self.path}"):
                paths = unpack_checkpoints(self.path, folder)
            unpacked = UnpackedArchive(self.path, folder, paths, takes_variant=variant is not None)
            name, raw_name = self._names([path.name for path in unpacked.prefixes().values()])
            files = unpacked.files(name)
            with open_container(files, self.path) as stored:
                if raw_name is None or files.prefix.name != name:
                    yield files, stored
                    return
                self._check_only_averages(stored, name)
                averages = Renamed(stored, {f"{name}{AVERAGED_SUFFIX}": name for name in stored.shapes})
                raw_files = unpacked.files(raw_name)
                if raw_files.prefix.name != raw_name:
                    yield files, averages
                    return
                with open_container(raw_files, self.path) as raw:
                    yield files, Joined(raw, averages)

    def _names(self, there: Collection[str]) -> tuple[str | None, str | None]:
        """Returns the prefixes of the wanted checkpoint and of its raw values, of those that the archive holds."""
        if self.name in there or len(there) != 2:
            return self.name, self.raw_name
        published = [variant.checkpoint for variant in list_variants() if variant.checkpoint]
        pairs = {(one.name, one.raw_name) for one in published if {one.name, one.raw_name} == {*there}}
        return pairs.pop() if len(pairs) == 1 else (self.name, self.raw_name)

    def _check_only_averages(self, stored: StoredValues, name: str) -> None:
        """Checks that a checkpoint whose plain names should mean averages does not show that they mean raw values."""
        if twins := [one for one in stored.shapes if one.endswith(AVERAGED_SUFFIX)]:
            raise CheckpointError(
                f"the values of {name} in {self.path} are not averages",
                why=f"it has averages beside them, like {twins[0]}",
                fix=f"use an archive whose {name} has averages alone, under the names of the variables",
            )

    def read_beside(self, pattern: str) -> bytes | None:
        with archive_errors_reworded():
            return read_first_matching(self.path, pattern)

    def read_in_module(self, name: str, max_bytes: int) -> bytes | None:
        if self.published:  # By training programs. Looking for the file would take a while.
            return None
        with archive_errors_reworded():
            return read_first_matching(self.path, name, max_bytes)

    def class_names(self) -> list[str] | None:
        content = self.read_beside(MODULE_LABELS.as_posix())
        return None if content is None else parse_labels(content, self.path / MODULE_LABELS)


def _printable_name(name: str) -> str:
    """Returns a file's name if manifests can record it: their readers refuse text that could control a terminal."""
    if not name.isprintable():
        raise CheckpointError(
            f"cannot build from the file {name!r}",
            why="its name has characters that cannot be printed, and modules record it",
            fix="rename it",
        )
    return name


def resolve_source(
    named: str | Path | None,
    variant: Variant | None,
    progress: Progress,
    downloads: Downloads = Downloads(),
    scope: str | None = None,
) -> Source:
    """Finds the source that a user names.

    Args:
        named: one of the forms in this module's docstring. None means the archive that the variant's config names; it
            is downloaded unless the cache has it.
        variant: the variant whose values are wanted; None accepts any network.
        progress: receives the steps of the download, and a warning about an archive that is not the published one.
        downloads: how to download, and the cache that remembers archives whose configs have no SHA-256.
        scope: what the names of the network's variables begin with, see `hubexport.checkpoints.scope_choice`. Defaults
            to what the names themselves tell.
    Raises:
        CheckpointError: there is no such checkpoint, it is incomplete, or it cannot be read.
        DownloadError: the published archive cannot be fetched.
    """
    source = _find_source(named, variant, progress, downloads)
    return dataclasses.replace(source, scope=checked_scope(scope))


def checked_scope(scope: str | None) -> str | None:
    """Returns a scope as modules record it, without slashes at its ends.

    Raises:
        CheckpointError: it has characters that manifests cannot record.
    """
    if scope is not None and not scope.isprintable():
        raise CheckpointError(
            f"not a valid scope: {scope!r}",
            why="it has characters that cannot be printed, and modules record it",
            fix="rename the variables",
        )
    return scope and scope.strip("/")


def _find_source(
    named: str | Path | None, variant: Variant | None, progress: Progress, downloads: Downloads
) -> SyntheticSource | FileSource | ArchiveSource:
    if named is None:
        assert variant is not None, "only a variant's config names an archive"
        return _fetch_published_archive(variant, progress, downloads)
    text = str(named)
    if text.partition(":")[0] == "synthetic":
        return _parse_synthetic(text)
    path = Path(text)
    with read_failures_reported(path):
        if path.is_dir():
            return FileSource(files_in_directory(path))
        if path.is_file():
            return _resolve_file(path, variant, progress, downloads)
        return FileSource(files_at_prefix(path))


@contextlib.contextmanager
def read_failures_reported(path: Path) -> Iterator[None]:
    """Turns the system's errors in reading a file into a CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot read checkpoint {path}",
            why=f"{error.strerror}: {error.filename or path}",
            fix="make it readable, and leave it in place while hubexport reads it",
        ) from error


def _fetch_published_archive(variant: Variant, progress: Progress, downloads: Downloads) -> ArchiveSource:
    if variant.checkpoint is None:
        raise CheckpointError(
            f"no checkpoint for {variant.name}",
            why="its config does not say where one is published",
            fix="pass one with --checkpoint",
        )
    from hubexport.checkpoints.download import fetch, pin  # Its HTTP library would slow down every start.

    published = pin(variant.checkpoint, progress, downloads)
    assert published.sha256, "pin adds it"
    archive = fetch(published, progress, downloads)
    return ArchiveSource(archive, published.sha256, True, published.name, published.raw_name)


def _parse_synthetic(text: str) -> SyntheticSource:
    match = _SYNTHETIC.fullmatch(text)
    if not match:
        raise CheckpointError(
            f"{text}: not a valid synthetic checkpoint",
            why="the seed must be a whole number of up to nine digits",
            fix="use synthetic or synthetic:1",
        )
    return SyntheticSource(int(match["seed"] or 0))


def _resolve_file(
    path: Path, variant: Variant | None, progress: Progress, downloads: Downloads
) -> FileSource | ArchiveSource:
    if path.name.endswith(SAFETENSORS_INDEX_SUFFIX):
        return FileSource(files_of_index(path, path))
    container = container_of(path)
    if container == "gzip":
        return _resolve_archive(path, variant, progress, downloads)
    if path.suffix in (".index", ".meta") or is_shard(path):
        raise CheckpointError(
            f"{path} is one file of a checkpoint",
            why="a checkpoint is named by the prefix that its files share",
            fix=f"use {path.with_suffix('')}",
        )
    if foreign := foreign_format(path, container):
        raise foreign.error(path)
    if container is None:
        raise CheckpointError(
            f"{path} is not a checkpoint",
            why="it is not a gzipped tar, a V1 checkpoint, a Keras HDF5 or .keras file, or a safetensors file",
            fix="use one of these, a directory, or a prefix like model.ckpt",
        )
    return FileSource(CheckpointFiles(path, (path,), container))


def _resolve_archive(path: Path, variant: Variant | None, progress: Progress, downloads: Downloads) -> ArchiveSource:
    digest = file_sha256(path)
    if variant is None or variant.checkpoint is None:
        return ArchiveSource(path, digest, published=False, name=None)
    # Without a SHA-256 from the publishers or an earlier download, nobody knows whether the file is the published one.
    known = pinned(variant.checkpoint, downloads)
    published = known is not None and digest == known.sha256
    if known and not published:
        which = "published archive of" if variant.checkpoint.sha256 else "archive that was first downloaded for"
        differs = f"{path} differs from the {which} {variant.name}"
        progress.warn(f"{differs} (its SHA-256 is {digest}); its values are used all the same")
    return ArchiveSource(path, digest, published, variant.checkpoint.name, variant.checkpoint.raw_name)
