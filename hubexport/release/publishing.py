"""The folder of a release: one run at a time, files that come to their places whole, and the index that publishes them.

Readers need no lock. Files come to their places before the index lists them, and listed ones never change, so that
whoever has read an index finds all that it lists, whatever goes on meanwhile.
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
from hubexport.system import locks
from hubexport.system.atomic_output import make_folder, publish_file, scratch_directory
from hubexport.system.digests import file_sha256

_LOCK = ".hubexport-release.lock"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other runs out of a release's folder, which is made if there is none.

    Raises:
        ReleaseError: another run is at work there.
        OSError: the folder cannot be made or written to.
    """
    make_folder(directory)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.locked(directory / _LOCK, "make a release", None))
        except locks.HeldError as error:
            raise ReleaseError(
                f"another release is running in {directory}",
                why=str(error),
                fix="wait until it finishes, or choose another --output_dir",
            ) from None
        yield


def place(
    record: ArtifactRecord, staged: Mapping[str, Path], directory: Path, published: ArtifactRecord | None
) -> None:
    """Puts an artifact's files into their places, its record last.

    Args:
        record: of the artifact.
        staged: its files, on the same file system, by their paths in the release.
        directory: the release's.
        published: what the index says of the artifact, if it is published: then only files that are lost or damaged
            are put back, and they have to be what they were.
    Raises:
        ReleaseError: they are not.
        OSError: they cannot be moved.
    """
    for name, path in (staged if published is None else _lost(record, staged, directory, published)).items():
        final = directory / name
        # Several artifacts share the list of what was installed.
        if name != record.sbom.path or not _is_right(record.sbom, directory):
            publish_file(path, final, overwrite=True)


def _lost(
    record: ArtifactRecord, staged: Mapping[str, Path], directory: Path, published: ArtifactRecord
) -> dict[str, Path]:
    """Returns what can take the places of a published artifact's files that are not right.

    Not all files come out the same everywhere: what is measured, and what was installed, differs between machines.
    """
    staged[record_path(record.handle)].write_bytes(as_json(published))
    made = {file.path: file for file in (*record.all_files(), published.own_file())}
    lost = [file for file in (*published.all_files(), published.own_file()) if not _is_right(file, directory)]
    if other := [file.path for file in lost if made.get(file.path) != file]:
        raise ReleaseError(
            f"{record.handle} is damaged, and the rebuilt files differ from the published ones",
            why=f"different bytes in {', '.join(other)}",
            fix="restore its files from a copy of the release, or make a new release in another --output_dir",
        )
    return {file.path: staged[file.path] for file in lost}


def publish(records: Iterable[ArtifactRecord], published: ReleaseIndex, directory: Path) -> bool:
    """Publishes artifacts whose files are in their places, by one rename of the index.

    Args:
        records: all of the release, those of earlier runs included.
        published: the index that there is; what it lists stays as it is.
        directory: the release's.
    Returns:
        Whether anything had to be written.
    Raises:
        ReleaseError: there are too many for an index.
        OSError: it cannot be written.
    """
    artifacts = tuple(sorted(records, key=lambda record: record.handle))
    publishers = {file.path: file for file in published.publishers}
    with scratch_directory(directory) as scratch:
        for publisher in sorted({record.handle.partition("/")[0] for record in artifacts}):
            name = f"{publisher}/{publisher}.md"
            if name not in publishers or not _is_right(publishers[name], directory):
                _write(publisher_page(publisher).encode(), directory / name, scratch)
                publishers[name] = ReleaseFile.of(directory / name, name)
        index = ReleaseIndex(artifacts=artifacts, publishers=tuple(publishers[name] for name in sorted(publishers)))
        content = as_json(index)
        if len(content) > MAX_INDEX_BYTES:
            raise _too_large(directory, len(artifacts))
        # Of two files one has to be the first: this one lists nothing that is not there.
        changed = _write(index.sums(), directory / SHA256SUMS, scratch)
        return _write(content, directory / INDEX, scratch) or changed


def is_whole(published: ReleaseIndex, directory: Path) -> bool:
    """Returns whether what is published beside the artifacts is as their index says."""
    publishers = all(_is_right(file, directory) for file in published.publishers)
    return publishers and _holds(directory / SHA256SUMS, published.sums())


def _is_right(file: ReleaseFile, directory: Path) -> bool:
    path = directory / file.path
    with contextlib.suppress(OSError):  # What cannot be read is replaced, too.
        return path.stat().st_size == file.bytes and file_sha256(path) == file.sha256
    return False


def _holds(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == len(content) and path.read_bytes() == content
    return False


def _too_large(directory: Path, artifacts: int) -> ReleaseError:
    return ReleaseError(
        f"{directory} has too many artifacts: {artifacts:,}",
        why=f"its index would exceed {MAX_INDEX_BYTES >> 20} MiB, the most that hubexport reads",
        fix="release the rest into another --output_dir",
    )


def _write(content: bytes, final: Path, scratch: Path) -> bool:
    """Writes a file in one step, unless it is as it should be."""
    if _holds(final, content):
        return False
    staged = scratch / final.name
    staged.write_bytes(content)
    publish_file(staged, final, overwrite=True)
    return True
