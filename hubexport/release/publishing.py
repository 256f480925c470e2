"""Publishes artifacts: one run at a time moves finished files into a release's folder, and then replaces its index.

Readers need no lock. A file is in its place before the index lists it, and listed files never change. So a reader of
any index finds every file that it lists, at any moment.
"""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
from pathlib import Path

from hubexport.errors import ReleaseError
from hubexport.release.index import (
    INDEX,
    MAX_INDEX_BYTES,
    SHA256SUMS,
    ArtifactRecord,
    ReleaseFile,
    ReleaseIndex,
    as_json,
    record_path,
)
from hubexport.release.pages import publisher_page
from hubexport.system.atomic_output import make_folder, publish_file, scratch_directory
from hubexport.system.digests import file_sha256
from hubexport.system.locks import HeldError, locked

_LOCK = ".hubexport-release.lock"


@contextlib.contextmanager
def release_lock(directory: Path) -> Iterator[None]:
    """Keeps other runs out of a release's folder, which is created if it does not exist.

    Raises:
        ReleaseError: another run holds the lock.
        OSError: the folder cannot be created or written to.
    """
    make_folder(directory)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(directory / _LOCK, "make a release", None))
        except HeldError as error:
            raise ReleaseError(
                f"another release is running in {directory}",
                why=str(error),
                fix="wait until it finishes, or choose another --output-dir",
            ) from None
        yield


def move_into_place(
    record: ArtifactRecord, staged: Mapping[str, Path], directory: Path, published: ArtifactRecord | None
) -> None:
    """Moves an artifact's files into a release's folder, its record last.

    Args:
        record: the artifact's record.
        staged: its files, on the same file system, by their paths in the release.
        directory: the release's folder.
        published: the artifact's entry in the index, if it is published. Then only lost and damaged files are replaced,
            by files that are identical to the published ones.
    Raises:
        ReleaseError: a file would have to be replaced by a different one.
        OSError: a file cannot be moved.
    """
    for name, path in (_repairs(record, staged, directory, published) if published else staged).items():
        # Several artifacts share one bill of materials.
        if name != record.sbom.path or not _is_intact(record.sbom, directory):
            publish_file(path, directory / name, overwrite=True)


def _repairs(
    record: ArtifactRecord, staged: Mapping[str, Path], directory: Path, published: ArtifactRecord
) -> dict[str, Path]:
    """Returns those of the staged files that replace a published artifact's lost and damaged ones.

    Not every file comes out the same everywhere: measurements and installed packages differ between machines.
    """
    staged[record_path(record.handle)].write_bytes(as_json(published))
    rebuilt = {file.path: file for file in (*record.all_files(), published.own_file())}
    damaged = [file for file in published.all_files() if not _is_intact(file, directory)]
    if different := [file.path for file in damaged if rebuilt.get(file.path) != file]:
        raise ReleaseError(
            f"{record.handle} is damaged, and the rebuilt files differ from the published ones",
            why=f"different bytes in {', '.join(different)}",
            fix="restore its files from a copy of the release, or make a new release in another --output-dir",
        )
    return {file.path: staged[file.path] for file in damaged}


def publish_index(records: Iterable[ArtifactRecord], published: ReleaseIndex, directory: Path) -> bool:
    """Publishes artifacts whose files are in their places, by one rename of the index.

    Args:
        records: all artifacts of the release, those of earlier runs included.
        published: the present index; what it lists stays as it is.
        directory: the release's folder.
    Returns:
        Whether any file had to be written.
    Raises:
        ReleaseError: the index would become too large.
        OSError: a file cannot be written.
    """
    artifacts = tuple(sorted(records, key=lambda record: record.handle))
    publishers = {file.path: file for file in published.publishers}
    with scratch_directory(directory) as scratch:
        for publisher in sorted({record.publisher for record in artifacts}):
            name = f"{publisher}/{publisher}.md"
            if name not in publishers or not _is_intact(publishers[name], directory):
                _write(publisher_page(publisher).encode(), directory / name, scratch)
                publishers[name] = ReleaseFile.of(directory / name, name)
        index = ReleaseIndex(artifacts=artifacts, publishers=tuple(publishers[name] for name in sorted(publishers)))
        content = b"".join(index.pieces())
        if len(content) > MAX_INDEX_BYTES:
            raise ReleaseError(
                f"{directory} has too many artifacts: {len(artifacts):,}",
                why=f"its index would exceed {MAX_INDEX_BYTES >> 20} MiB, the most that hubexport reads",
                fix="release the rest into another --output-dir",
            )
        # A run may be killed between the two. Then SHA256SUMS lists more than the index, but nothing that is missing.
        changed = _write(index.sums(), directory / SHA256SUMS, scratch)
        return _write(content, directory / INDEX, scratch) or changed


def shared_files_are_intact(index: ReleaseIndex, directory: Path) -> bool:
    """Returns whether the publishers' pages and SHA256SUMS are as the index says."""
    pages = all(_is_intact(file, directory) for file in index.publishers)
    return pages and _contains(directory / SHA256SUMS, index.sums())


def _is_intact(file: ReleaseFile, directory: Path) -> bool:
    path = directory / file.path
    with contextlib.suppress(OSError):  # A file that cannot be read is replaced, too.
        return path.stat().st_size == file.bytes and file_sha256(path) == file.sha256
    return False


def _contains(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == len(content) and path.read_bytes() == content
    return False


def _write(content: bytes, final: Path, scratch: Path) -> bool:
    """Replaces a file by one rename; returns False if it had this content already."""
    if _contains(final, content):
        return False
    staged = scratch / final.name
    staged.write_bytes(content)
    publish_file(staged, final, overwrite=True)
    return True
