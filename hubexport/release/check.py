"""Checks from its files alone whether a release is complete and correct, offline and without TensorFlow."""

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
from hubexport.release.check_artifact import check_artifact
from hubexport.release.check_contents import is_ours
from hubexport.release.check_sbom import Bill, read_bill
from hubexport.release.findings import Finding, collected, findings_about, first_difference
from hubexport.release.index import (
    INDEX,
    MAX_INDEX_BYTES,
    SHA256SUMS,
    ArtifactRecord,
    ReleaseFile,
    ReleaseIndex,
    record_path,
)
from hubexport.release.pages import publisher_page
from hubexport.release.untrusted_folder import (
    UntrustedFileError,
    UntrustedFolder,
    check_digest,
    parsed,
    read_listed,
    shortened,
)

_Model = TypeVar("_Model", bound=pydantic.BaseModel)
# A part of the work that a thread can do; it returns what is wrong.
_Check = Callable[[], Iterable[Finding]]

_SUM = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<path>.+)")
_BILL = re.compile(r"sbom-(?P<sha256>[0-9a-f]{12,64})\.cdx\.json")


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
    """Something that is wrong with a file.

    Attributes:
        path: the file's path in the release.
        what: one line, like `is missing`.
    """

    path: str
    what: str


@dataclasses.dataclass(frozen=True)
class ReleaseCheck:
    """The result of checking a release.

    Attributes:
        artifacts: the number of artifacts in the index.
        files: the number of files in the index.
        bytes: the total size of these files, as the index says.
        problems: the problems, sorted by path; empty if the release is complete and correct.
        unproven: what another hubexport wrote, and differs from what this one would write. It may be right.
        stray: files that the index does not list. A run that works at the moment, or was killed, leaves such files.
    """

    artifacts: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    unproven: tuple[Problem, ...]
    stray: tuple[str, ...]


def check_release(directory: str | Path, progress: Progress | None = None) -> ReleaseCheck:
    """Checks all files of a release.

    Args:
        directory: the release's folder.
        progress: is told how many checks are done.
    Raises:
        ReleaseError: there is no release in the folder.
    """
    progress = progress or Progress()
    directory = Path(directory)
    try:
        folder = UntrustedFolder(directory)
    except OSError as error:
        raise _no_release(directory, f"{error.strerror}: {error.filename}") from error
    with folder:
        try:
            content = folder.read(INDEX, MAX_INDEX_BYTES)
            index = _parsed_index(content)
            files = index.files()
        # Anything that is not JSON raises ValueError, and so do its NaN and Infinity.
        except (UntrustedFileError, ValueError) as error:
            if not os.path.lexists(directory / INDEX):
                raise _no_release(directory, f"it has no {INDEX}") from error
            return ReleaseCheck(0, 0, 0, _problems([Finding(INDEX, str(error))]), (), ())
        findings = [Finding(INDEX, what) for what in _form_findings(index, content)]
        del content  # It may be large.
        findings += [*_index_findings(index), *_file_findings(folder, index, files, progress)]
    stray = _stray_files(directory, {INDEX, SHA256SUMS, *(file.path for file in files)})
    total = sum(file.bytes for file in files)
    problems = _problems(finding for finding in findings if finding.is_problem)
    unproven = _problems(finding for finding in findings if not finding.is_problem)
    return ReleaseCheck(len(index.artifacts), len(files), total, problems, unproven, tuple(map(shortened, stray)))


def _no_release(directory: Path, why: str) -> ReleaseError:
    return ReleaseError(
        f"no release in {directory}",
        why=why,
        fix="give the folder of a finished `hubexport release`",
    )


def _problems(findings: Iterable[Finding]) -> tuple[Problem, ...]:
    return tuple(sorted({Problem(shortened(finding.path), shortened(finding.what)) for finding in findings}))


def _parsed_index(content: bytes) -> ReleaseIndex:
    """Parses the index entry by entry, because pydantic's list of all errors in a large one may not fit in memory."""
    facts = pydantic_core.from_json(content)
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


def _form_findings(index: ReleaseIndex, content: bytes) -> Iterator[str]:
    """Compares the bytes of the index with those that hubexport writes, a piece at a time: it may be large."""
    start = 0
    for piece in index.pieces():
        found = content[start : start + len(piece)]
        if found != piece:
            line = content.count(b"\n", 0, start)
            what = first_difference(piece.decode(), found.decode(errors="replace"))
            yield f"is reformatted, or repeats a key: counted from line {line + 1} on, {what}"
            return
        start += len(piece)
    if start != len(content):
        yield f"goes on after its end, for {len(content) - start} bytes"


def _index_findings(index: ReleaseIndex) -> Iterator[Finding]:
    handles = [record.handle for record in index.artifacts]
    yield from (
        Finding(INDEX, f"lists {handle} {count} times") for handle, count in Counter(handles).items() if count > 1
    )
    if handles != sorted(handles):
        yield Finding(INDEX, "is not sorted by handle")
    listed = [file for record in index.artifacts for file in record.all_files()]
    listed += index.publishers
    versions = Counter(file.path for file in set(listed))
    yield from (
        Finding(path, f"is listed with {count} different digests or sizes")
        for path, count in versions.items()
        if count > 1
    )
    by_handle = {record.handle: record for record in index.artifacts}
    for record in index.artifacts:
        if (prover := record.checks.graph_proved_by) and not _proves_graph(by_handle.get(prover), record):
            yield Finding(record_path(record.handle), f"its graph is not proved by {prover}")
        match = _BILL.fullmatch(record.sbom.path)
        if not match or not record.sbom.sha256.startswith(match["sha256"]):
            yield Finding(record.sbom.path, "is not named like a bill of materials (sbom-DIGEST.cdx.json)")
    publishers = {record.publisher for record in index.artifacts}
    expected = {f"{publisher}/{publisher}.md" for publisher in publishers}
    pages = {file.path for file in index.publishers}
    yield from (Finding(path, "is not listed, though its publisher has artifacts") for path in expected - pages)
    yield from (Finding(path, "is listed, though its publisher has no artifacts") for path in pages - expected)


def _proves_graph(prover: ArtifactRecord | None, record: ArtifactRecord) -> bool:
    """Tells whether an artifact passed the checks of graphs for another one's graph."""
    return (
        prover is not None
        and prover.checks.graph_proved_by is None
        and prover.checks.graph_sha256 == record.checks.graph_sha256
        and {*record.inputs.graph_checks} <= {*prover.inputs.graph_checks}
    )


def _file_findings(
    folder: UntrustedFolder, index: ReleaseIndex, files: Sequence[ReleaseFile], progress: Progress
) -> Iterator[Finding]:
    bills: dict[str, Bill] = {}
    for file in {record.sbom.path: record.sbom for record in index.artifacts}.values():
        yield from _check_bill(folder, index, file, bills)
    checks: list[_Check] = [functools.partial(check_artifact, folder, record, bills) for record in index.artifacts]
    checks += [functools.partial(_check_publisher, folder, index, file) for file in index.publishers]
    try:
        sums = _read_sums(folder)
    except UntrustedFileError as error:
        yield Finding(SHA256SUMS, str(error))
    else:
        for file in files:
            if file.path not in sums:
                yield Finding(SHA256SUMS, f"does not list {file.path}")
            elif sums[file.path] != file.sha256:
                yield Finding(SHA256SUMS, f"has a different digest for {file.path} than {INDEX}")
        # A run that was killed before it wrote the index may have listed more files.
        others = sums.keys() - {file.path for file in files}
        checks += [functools.partial(findings_about, path, check_digest, folder, path, sums[path]) for path in others]
    yield from _in_threads(checks, progress)


def _check_bill(
    folder: UntrustedFolder, index: ReleaseIndex, file: ReleaseFile, bills: dict[str, Bill]
) -> Iterator[Finding]:
    """Checks a bill of materials, and adds it to the others if it is in order."""
    problems, bill = collected(file.path, read_bill, folder, file)
    yield from problems
    if bill is None or problems:
        return
    bills[file.path] = bill
    if bill.difference:
        ours = all(is_ours(record) for record in index.artifacts if record.sbom.path == file.path)
        what = f"is not what hubexport writes of these packages: {bill.difference}"
        yield Finding(file.path, what, is_problem=ours and bill.same_writer)


def _check_publisher(folder: UntrustedFolder, index: ReleaseIndex, file: ReleaseFile) -> Iterator[Finding]:
    """Checks a publisher's page."""
    try:
        found = read_listed(folder, file)
    except UntrustedFileError as error:
        yield Finding(file.path, str(error))
        return
    publisher = file.path.partition("/")[0]
    written = publisher_page(publisher)
    if found != written:
        # The page stays as the first release of the publisher's modules wrote it.
        ours = all(is_ours(record) for record in index.artifacts if record.publisher == publisher)
        what = f"is not what hubexport writes of {publisher}: {first_difference(written, found)}"
        yield Finding(file.path, what, is_problem=ours)


def _in_threads(checks: Sequence[_Check], progress: Progress) -> Iterator[Finding]:
    """Runs checks in one thread per processor. They hash and unzip, which Python does without its global lock."""
    progress.step("checking the release's files")
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [pool.submit(lambda check: list(check()), check) for check in checks]
        for done, future in enumerate(concurrent.futures.as_completed(futures), start=1):
            progress.count(done, len(futures))
            yield from future.result()
    finally:
        # After an interrupt, nobody wants to wait for the remaining checks.
        pool.shutdown(cancel_futures=True)


def _read_sums(folder: UntrustedFolder) -> dict[str, str]:
    """Returns the digests in SHA256SUMS, by path."""
    try:
        lines = folder.read(SHA256SUMS, MAX_INDEX_BYTES).decode().split("\n")
    except UnicodeDecodeError:
        raise UntrustedFileError("is not text") from None
    if lines.pop():
        raise UntrustedFileError("does not end with a newline")
    sums: dict[str, str] = {}
    previous = ""
    for number, line in enumerate(lines, start=1):
        match = _SUM.fullmatch(line)
        if not match:
            raise UntrustedFileError(f"line {number} is not in sha256sum's format")
        if match["path"] in sums:
            raise UntrustedFileError(f"line {number} repeats {match['path']}")
        if match["path"] < previous:
            raise UntrustedFileError(f"line {number} is out of order: {match['path']} comes after {previous}")
        previous = match["path"]
        sums[match["path"]] = match["sha256"]
    return sums


def _stray_files(directory: Path, known: Set[str]) -> list[str]:
    """Returns all unknown files and links in a folder, and the subfolders that cannot be read."""
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
