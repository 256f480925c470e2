"""Finds out from a release's files alone whether it is whole and right: offline, and without TensorFlow."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
import concurrent.futures
import dataclasses
import functools
import json
import os
from pathlib import Path
import re
from typing import Any, TypeVar

import pydantic
import pydantic_core

from hubexport.errors import ReleaseError
from hubexport.progress import Progress
from hubexport.release.check_artifact import Finding, check_artifact
from hubexport.release.index import INDEX, MAX_INDEX_BYTES, SHA256SUMS, ArtifactRecord, ReleaseFile, ReleaseIndex
from hubexport.release.untrusted_folder import (
    UntrustedFileError,
    UntrustedFolder,
    check_digest,
    check_listed,
    parsed,
    shown,
)

_Model = TypeVar("_Model", bound=pydantic.BaseModel)
_Work = Callable[[], Iterable[Finding]]

_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<path>.+)")
_BILL = re.compile(r"sbom-(?P<sha256>[0-9a-f]{12,64})\.cdx\.json")


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
    """What is wrong with a file.

    Attributes:
        path: of the file, in the release.
        what: one line.
    """

    path: str
    what: str


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was looked at, and what is wrong.

    Attributes:
        artifacts: how many the index lists.
        files: how many it lists; those of the artifacts, and those that they share.
        bytes: how many these files have together, as the index says.
        problems: sorted by path; none if the release is whole and right.
        stray: files that the index does not list: a run that goes on, or was killed, leaves them.
    """

    artifacts: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    stray: tuple[str, ...]


def check_release(directory: str | Path, progress: Progress | None = None) -> Checked:
    """Looks at all files of a release.

    Args:
        directory: the release's.
        progress: hears of each artifact.
    Raises:
        ReleaseError: there is no release.
    """
    progress = progress or Progress()
    directory = Path(directory)
    try:
        folder = UntrustedFolder(directory)
    except OSError as error:
        raise _no_release(directory, f"{error.strerror}: {error.filename}") from error
    with folder:
        try:
            index = _read_index(folder)
            files = index.files()
        # Of what is no JSON, and of numbers that JSON does not have.
        except (UntrustedFileError, ValueError) as error:
            if not os.path.lexists(directory / INDEX):
                raise _no_release(directory, f"it has no {INDEX}") from error
            return Checked(0, 0, 0, _problems([(INDEX, str(error))]), ())
        findings = [*_wrong_index(index), *_check_files(folder, index, files, progress)]
    stray = _stray(directory, {INDEX, SHA256SUMS, *(file.path for file in files)})
    total = sum(file.bytes for file in files)
    return Checked(len(index.artifacts), len(files), total, _problems(findings), tuple(map(shown, stray)))


def _no_release(directory: Path, why: str) -> ReleaseError:
    return ReleaseError(
        f"no release in {directory}",
        why=why,
        fix="give the --output_dir of a finished `hubexport release`",
    )


def _problems(findings: Iterable[Finding]) -> tuple[Problem, ...]:
    return tuple(sorted({Problem(shown(path), shown(what)) for path, what in findings}))


def _read_index(folder: UntrustedFolder) -> ReleaseIndex:
    """Reads the index entry by entry: of all that is wrong in a large one, the list would be very much larger."""
    facts = pydantic_core.from_json(folder.read(INDEX, MAX_INDEX_BYTES))
    if not isinstance(facts, dict) or facts.keys() != ReleaseIndex.model_fields.keys():
        raise UntrustedFileError(f"is not a JSON object with the keys {', '.join(ReleaseIndex.model_fields)}")
    if facts["format"] != ReleaseIndex().format:
        raise UntrustedFileError(
            f"does not have format {ReleaseIndex().format}, the only one that this hubexport reads"
        )
    return ReleaseIndex(
        artifacts=_entries(facts, "artifacts", ArtifactRecord), publishers=_entries(facts, "publishers", ReleaseFile)
    )


def _entries(facts: Mapping[str, Any], name: str, model: type[_Model]) -> tuple[_Model, ...]:
    if not isinstance(facts[name], list):
        raise UntrustedFileError(f"has no list of {name}")
    entries = enumerate(facts[name])
    return tuple(parsed(model, json.dumps(entry), f"{name}[{number}] is") for number, entry in entries)


def _wrong_index(index: ReleaseIndex) -> Iterator[Finding]:
    handles = [record.handle for record in index.artifacts]
    yield from ((INDEX, f"lists {handle} {count} times") for handle, count in Counter(handles).items() if count > 1)
    if handles != sorted(handles):
        yield INDEX, "is not sorted by handle"
    listed = [file for record in index.artifacts for file in (*record.all_files(), record.own_file())]
    listed += index.publishers
    told = Counter(file.path for file in set(listed))
    yield from (
        (path, f"is listed with {count} different digests or sizes") for path, count in told.items() if count > 1
    )
    for record in index.artifacts:
        match = _BILL.fullmatch(record.sbom.path)
        if not match or not record.sbom.sha256.startswith(match["sha256"]):
            yield record.sbom.path, "is not named like a bill of materials (sbom-DIGEST.cdx.json)"
    wanted = {_publisher_page(handle.partition("/")[0]) for handle in handles}
    found = {file.path for file in index.publishers}
    yield from ((path, "is not listed, though its publisher has artifacts") for path in wanted - found)
    yield from ((path, "is listed, though its publisher has no artifacts") for path in found - wanted)


def _publisher_page(publisher: str) -> str:
    return f"{publisher}/{publisher}.md"


def _check_files(
    folder: UntrustedFolder, index: ReleaseIndex, files: Sequence[ReleaseFile], progress: Progress
) -> Iterator[Finding]:
    work: list[_Work] = [functools.partial(check_artifact, folder, record) for record in index.artifacts]
    shared = {record.sbom.path: record.sbom for record in index.artifacts}
    shared |= {file.path: file for file in index.publishers}
    work += [_told(file.path, functools.partial(check_listed, folder, file)) for file in shared.values()]
    try:
        sums = _read_sums(folder)
    except UntrustedFileError as error:
        yield SHA256SUMS, str(error)
    else:
        yield from _wrong_sums(sums, files)
        # Of a run that was killed before it could publish them.
        others = sums.keys() - {file.path for file in files}
        work += [_told(path, functools.partial(check_digest, folder, path, sums[path])) for path in others]
    yield from _in_threads(work, progress)


def _told(path: str, check: Callable[[], None]) -> _Work:
    """Returns work that yields as a finding what a check raises."""

    def work() -> Iterator[Finding]:
        try:
            check()
        except UntrustedFileError as error:
            yield path, str(error)

    return work


def _in_threads(work: Sequence[_Work], progress: Progress) -> Iterator[Finding]:
    """Does all of it, as much at once as there are processors: most of it is hashing and unzipping, in C."""
    progress.step("checking the release's files")
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [pool.submit(lambda one: list(one()), one) for one in work]
        for done, future in enumerate(concurrent.futures.as_completed(futures), start=1):
            progress.count(done, len(futures))
            yield from future.result()
    finally:
        # Whoever interrupts does not want to wait for all.
        pool.shutdown(cancel_futures=True)


def _read_sums(folder: UntrustedFolder) -> dict[str, str]:
    """Returns the digests that `sha256sum --check` would hold files against, by path."""
    try:
        lines = folder.read(SHA256SUMS, MAX_INDEX_BYTES).decode().split("\n")
    except UnicodeDecodeError:
        raise UntrustedFileError("is not text") from None
    if lines.pop():
        raise UntrustedFileError("does not end with a newline")
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _SUM.fullmatch(line)
        if not match:
            raise UntrustedFileError(f"line {number} is not in sha256sum's format")
        if match["path"] in sums:
            raise UntrustedFileError(f"line {number} repeats {match['path']}")
        sums[match["path"]] = match["sha256"]
    return sums


def _wrong_sums(sums: Mapping[str, str], files: Sequence[ReleaseFile]) -> Iterator[Finding]:
    for file in files:
        if file.path not in sums:
            yield SHA256SUMS, f"does not list {file.path}"
        elif sums[file.path] != file.sha256:
            yield SHA256SUMS, f"has a different digest for {file.path} than {INDEX}"


def _stray(directory: Path, known: Set[str]) -> list[str]:
    """Returns what is in a folder beside the known files; of links and folders that cannot be read, the names."""
    stray, folders = [], [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(directory / folder) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{path}/")
                    elif path not in known:
                        stray.append(path)
        except OSError:
            stray.append(folder)
    return sorted(stray)
