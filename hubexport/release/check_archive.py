"""Checks a packed module: that hubexport packed it, that it is safe to unpack, and that it is what the index says."""

from collections.abc import Generator, Iterator, Mapping
import dataclasses
import os
from pathlib import Path, PurePosixPath
import tarfile
from typing import BinaryIO

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.checkpoints.weights_choice import weights_match
from hubexport.formats.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from hubexport.labels import MAX_LABELS_BYTES, MODULE_LABELS
from hubexport.release.index import ArtifactRecord
from hubexport.release.untrusted_folder import (
    UntrustedFileError,
    UntrustedFolder,
    opened_listed,
    os_errors_converted,
    parsed,
)
from hubexport.system.tars import ArchiveError, hash_members

# Deflate, and neither a name, a comment nor a time.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
# Longer paths cannot be unpacked. Ten thousand of this length fit into memory.
_MAX_NAME = 4096
_HUB_FILE = "tfhub_module.pb"
# The names of facts in a manifest, and in a record.
_SAME_FACTS = {
    **{name: name for name in ("handle", "variant", "kind", "version", "network", "dataset")},
    **{name: name for name in ("num_features", "num_classes", "values")},
    "input_height_px": "image_size",
    "input_width_px": "image_size",
}
_LABELS = MODULE_LABELS.as_posix()


@dataclasses.dataclass(frozen=True)
class ArchiveContents:
    """What is in an archive.

    Attributes:
        digests: the SHA-256 of each file, by its path.
        manifest: the content of the module's `hubexport.json`.
        manifest_bytes: the bytes of that file.
        labels: the content of the file with the names of the classes; None if there is none.
    """

    digests: Mapping[str, str]
    manifest: Manifest
    manifest_bytes: bytes
    labels: bytes | None


def read_archive(folder: UntrustedFolder, record: ArtifactRecord) -> Generator[str, None, ArchiveContents | None]:
    """Checks an artifact's archive.

    Args:
        folder: the release's folder.
        record: the artifact's entry in the index.
    Yields:
        Each problem, in one line.
    Returns:
        What is in the archive; None if it has no manifest.
    Raises:
        UntrustedFileError: the archive is not the listed file, or cannot be unpacked safely.
    """
    file = record.files["archive"]
    with opened_listed(folder, file) as opened, os_errors_converted():
        if os.pread(opened.fileno(), len(_GZIP_HEADER), 0) != _GZIP_HEADER:
            yield "its gzip header contains a name or a time"
        try:
            digests, kept = _unpacked(Path(file.path), opened, record.inputs.source_date_epoch)
        except ArchiveError as error:
            raise UntrustedFileError(error.why) from None
    if MODULE_FILE not in digests:
        yield f"has no {MODULE_FILE} at its root"
    if (_HUB_FILE in digests) != (record.format == "hub"):
        yield f"does not have the format {record.format}: it has {'a' if _HUB_FILE in digests else 'no'} {_HUB_FILE}"
    if MANIFEST not in digests:
        yield f"has no {MANIFEST} at its root"
        return None
    manifest = parsed(Manifest, kept[MANIFEST].decode(errors="replace"), f"its {MANIFEST} is")
    yield from manifest_findings(manifest, record, digests)
    return ArchiveContents(digests, manifest, kept[MANIFEST], kept.get(_LABELS))


def _unpacked(path: Path, opened: BinaryIO, mtime: int) -> tuple[dict[str, str], dict[str, bytes]]:
    """Returns the digests of the files in an archive, and the content of those that the check reads.

    Raises:
        ArchiveError: the archive cannot be unpacked safely.
        UntrustedFileError: `hubexport.release.packing.pack` did not make it.
    """
    digests: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    folders, previous = {"."}, b""
    keep = {MANIFEST: MAX_MANIFEST_BYTES, _LABELS: MAX_LABELS_BYTES}
    for member, sha256, content in hash_members(path, opened, keep):
        name = member.name.encode("utf-8", "surrogateescape")
        if name <= previous:
            raise UntrustedFileError(
                f"its members are out of order: {member.name!r} comes after {previous.decode(errors='replace')!r}"
            )
        previous = name
        _check_form(member, mtime, folders)
        if member.isdir():
            folders.add(member.name)
        else:
            digests[member.name] = sha256
            if member.name in keep:
                contents[member.name] = content
    return digests, contents


def _check_form(member: tarfile.TarInfo, mtime: int, folders: set[str]) -> None:
    path = PurePosixPath(member.name)
    if len(member.name) > _MAX_NAME:
        raise UntrustedFileError(f"a member's name has {len(member.name):,} characters")
    if str(path) != member.name or member.name == ".":
        raise UntrustedFileError(f"the name of its member {member.name!r} is not normalized")
    if str(path.parent) not in folders:
        raise UntrustedFileError(f"its member {member.name!r} comes before its folder")
    if (member.uid, member.gid, member.uname, member.gname) != (0, 0, "", ""):
        raise UntrustedFileError(f"its member {member.name!r} has an owner")
    if member.mode != (0o755 if member.isdir() else 0o644):
        raise UntrustedFileError(f"its member {member.name!r} has mode {member.mode:o}")
    if member.mtime != mtime:
        raise UntrustedFileError(f"its member {member.name!r} has the time {member.mtime}, not {mtime}")
    if unknown := member.pax_headers.keys() - {"path"}:
        raise UntrustedFileError(f"its member {member.name!r} has extra attributes: {', '.join(sorted(unknown))}")


def manifest_findings(manifest: Manifest, record: ArtifactRecord, digests: Mapping[str, str]) -> Iterator[str]:
    """Yields how a manifest contradicts the index, or the digests of the files that it lists, by path."""
    for name, same in _SAME_FACTS.items():
        if getattr(manifest, name) != getattr(record, same):
            yield f"its {MANIFEST} says {name} {getattr(manifest, name)}, the index says {getattr(record, same)}"
    if (said := manifest.family_parameters) != (listed := dict(record.family_parameters)):
        yield f"its {MANIFEST} says parameters {said}, the index says {listed}"
    if manifest.checkpoint.model_dump(exclude_none=True) != record.inputs.checkpoint:
        yield f"its {MANIFEST} names a different checkpoint than the index"
    if not weights_match(record.inputs.weights, manifest.weights):
        yield f"its {MANIFEST} says weights {manifest.weights}, the index says {record.inputs.weights}"
    if manifest.hubexport_version != record.inputs.exporter:
        yield f"its {MANIFEST} names hubexport {manifest.hubexport_version}, the index names {record.inputs.exporter}"
    for name in sorted({*digests, *manifest.sha256} - {MANIFEST}):
        if name not in digests:
            yield f"its {name} is missing"
        elif name not in manifest.sha256:
            yield f"its {name} is not listed in {MANIFEST}"
        elif digests[name] != manifest.sha256[name]:
            yield f"its {name} does not match its digest in {MANIFEST}"
