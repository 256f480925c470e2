"""What `--checkpoint` names, recognized and located without TensorFlow.

ARCHIVE.tgz            a gzipped tar with one checkpoint inside, like the published ones
DIRECTORY              holds one checkpoint
PREFIX                 `…/model.ckpt`, for `…/model.ckpt.index` and `.data-…` (V2), or one V1 file of that name
synthetic[:SEED]       made-up values
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import glob
from pathlib import Path
import re
import tempfile
from typing import Any, Literal

from hubexport.checkpoints.archive import is_gzip, unpack_checkpoint
from hubexport.checkpoints.table import FOOTER_MAGIC
from hubexport.errors import CheckpointError
from hubexport.output import file_sha256, scratch_directory
from hubexport.progress import Progress
from hubexport.variants import Variant

# Which of a variable's values: its moving average, with which the published accuracy was measured, or its last one.
Weights = Literal["averaged", "raw"]

_SYNTHETIC = re.compile(r"synthetic(?::(?P<seed>[0-9]{1,9}))?")
_SHARD = re.compile(r"\.data-\d{5}-of-(?P<count>\d{5})$")


@dataclasses.dataclass(frozen=True)
class SyntheticSource:
    """Made-up values that depend on a seed and on each variable's name."""

    seed: int

    def provenance(self) -> dict[str, Any]:
        """Returns what `hubexport.json` says of the checkpoint."""
        return {"source": f"synthetic:{self.seed}"}


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A checkpoint in files of its own; `prefix` is what TensorFlow calls its path."""

    prefix: Path
    files: tuple[Path, ...]

    @property
    def is_v1(self) -> bool:
        """Whether it is the one file of an old checkpoint."""
        return self.files == (self.prefix,)

    def provenance(self) -> dict[str, Any]:
        """Returns what `hubexport.json` says of the checkpoint: names and digests, no paths of this machine."""
        with _read_failures_reported(self.prefix):
            return {"source": self.prefix.name, "sha256": {path.name: file_sha256(path) for path in self.files}}

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

    def provenance(self) -> dict[str, Any]:
        """Returns what `hubexport.json` says of the checkpoint."""
        return {"source": self.path.name, "sha256": self.sha256, "published": self.published}

    @contextlib.contextmanager
    def opened(self) -> Iterator[FileSource]:
        """Unpacks the checkpoint for as long as the context lasts.

        Raises:
            CheckpointError: the archive is damaged or hostile, or does not hold one checkpoint.
        """
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(scratch_directory(Path(tempfile.gettempdir())))
                unpack_checkpoint(self.path, folder)
            except OSError as error:
                raise CheckpointError(
                    f"cannot unpack {self.path}",
                    why=str(error),
                    fix="free some space, or name a folder that has some with the TMPDIR variable",
                ) from error
            yield _only_checkpoint(folder, self.name, shown_as=self.path)


Source = SyntheticSource | FileSource | ArchiveSource


def resolve_source(text: str | None, variant: Variant, progress: Progress) -> Source:
    """Finds the checkpoint that is meant.

    Args:
        text: as in this module's docstring; None means the archive that the variant's config names, which is
            downloaded unless it is in the cache.
        variant: whose values are wanted.
        progress: hears of the download, and of an archive that is not the published one.
    Raises:
        CheckpointError: there is nothing of the kind, it is incomplete, or it cannot be read.
        DownloadError: the published archive cannot be fetched.
    """
    if text is None:
        return _published_archive(variant, progress)
    if text.partition(":")[0] == "synthetic":
        return _synthetic(text)
    path = Path(text)
    with _read_failures_reported(path):
        if path.is_dir():
            return _only_checkpoint(path, None, shown_as=path)
        if path.is_file():
            return _single_file(path, variant, progress)
        return _prefix(path)


@contextlib.contextmanager
def _read_failures_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot read checkpoint {path}",
            why=f"{error.strerror}: {error.filename}",
            fix="name one that you may read, and leave it in its place while it is read",
        ) from error


def _published_archive(variant: Variant, progress: Progress) -> ArchiveSource:
    if variant.checkpoint is None:
        raise CheckpointError(
            f"no checkpoint for {variant.name}",
            why="its config does not say where one is published",
            fix="name one with --checkpoint",
        )
    from hubexport.checkpoints.download import fetch  # Its HTTP library would slow down every start.

    archive = fetch(variant.checkpoint, progress)
    return ArchiveSource(archive, variant.checkpoint.sha256, published=True, name=variant.checkpoint.name)


def _synthetic(text: str) -> SyntheticSource:
    match = _SYNTHETIC.fullmatch(text)
    if not match:
        raise CheckpointError(
            f"--checkpoint {text}: not a synthetic checkpoint",
            why="the seed is a whole number of up to nine digits",
            fix="say synthetic, or synthetic:1",
        )
    return SyntheticSource(int(match["seed"] or 0))


def _single_file(path: Path, variant: Variant, progress: Progress) -> Source:
    if is_gzip(path):
        return _archive(path, variant, progress)
    if path.suffix == ".index" or _SHARD.search(path.name):
        raise CheckpointError(
            f"{path} is one file of a checkpoint",
            why="a checkpoint is named by the prefix that its files share",
            fix=f"say --checkpoint {path.with_suffix('')}",
        )
    if _is_table(path):
        return FileSource(path, (path,))
    raise CheckpointError(
        f"{path} is not a checkpoint",
        why="it is neither a gzipped tar nor a V1 checkpoint",
        fix="name a .tgz archive, a directory or a prefix like model.ckpt",
    )


def _archive(path: Path, variant: Variant, progress: Progress) -> ArchiveSource:
    digest = file_sha256(path)
    if variant.checkpoint is None:
        return ArchiveSource(path, digest, published=False, name=None)
    published = digest == variant.checkpoint.sha256
    if not published:
        progress.warn(f"{path} is not the archive that was published for {variant.name}: its SHA-256 is {digest}")
    return ArchiveSource(path, digest, published, variant.checkpoint.name)


def _prefix(prefix: Path) -> FileSource:
    """Finds a V2 checkpoint's files."""
    index = Path(f"{prefix}.index")
    if not index.is_file():
        raise CheckpointError(
            f"no checkpoint {prefix}",
            why=f"there is neither such a file or directory nor {index.name} beside it",
            fix="name a .tgz archive, a directory, a prefix like model.ckpt, or synthetic",
        )
    found = prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")
    shards = sorted(path for path in found if _SHARD.search(path.name))
    wanted = int(match["count"]) if shards and (match := _SHARD.search(shards[0].name)) else 1
    if len(shards) != wanted:
        raise CheckpointError(
            f"checkpoint {prefix} is incomplete",
            why=f"{len(shards)} of {wanted} data files are beside {index.name}",
            fix="copy all of its files",
        )
    return FileSource(prefix, (index, *shards))


def _only_checkpoint(directory: Path, name: str | None, shown_as: Path) -> FileSource:
    """Finds the one checkpoint in a directory, or the one with this name."""
    files = [path for path in sorted(directory.iterdir()) if path.is_file()]
    found = {path.stem: path.with_suffix("") for path in files if path.suffix == ".index"}
    found |= {path.name: path for path in files if path.suffix != ".index" and _is_table(path)}
    if name in found:
        found = {name: found[name]}
    if len(found) != 1:
        raise CheckpointError(
            f"{shown_as} does not hold one checkpoint",
            why=f"it holds {len(found)}{': ' if found else ''}{', '.join(found)}",
            fix="name one by its prefix, like DIRECTORY/model.ckpt",
        )
    (path,) = found.values()
    return FileSource(path, (path,)) if path.is_file() else _prefix(path)


def _is_table(path: Path) -> bool:
    """Tells V1 checkpoints and V2 index files by their end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(FOOTER_MAGIC)))
        return file.read() == FOOTER_MAGIC
