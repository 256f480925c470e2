"""Holds one artifact's files against its entry in the index, and against each other."""

from collections.abc import Iterator, Mapping
import re
from typing import Any, Literal
from urllib.parse import unquote

import pydantic
from pydantic import ConfigDict

from hubexport.formats.manifest import CheckpointOrigin
from hubexport.release.check_archive import wrong_archive
from hubexport.release.index import SUFFIXES, ArtifactRecord, ReleaseFile, path_in_release, record_path
from hubexport.release.slsa_provenance import statement_of
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder, check_listed, parsed, read_listed
from hubexport.variants import TF1_VERSIONS, VERSIONS

# A path in the release, and what is wrong with it.
Finding = tuple[str, str]


class _Lenient(pydantic.BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Check(_Lenient):
    check: str
    status: Literal["pass", "fail", "not applicable"]
    explanation: str
    measured: float | None
    limit: float | None


class _Report(_Lenient):
    """What is looked at in the report of `hubexport verify`."""

    passed: bool
    handle: str
    archive_sha256: str
    checks: list[_Check]
    versions: dict[str, str]


class _Document(pydantic.RootModel[dict[str, Any]]):
    """Any JSON object."""


def check_artifact(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[Finding]:
    """Looks at all files that are one artifact's own.

    Args:
        folder: of the release.
        record: the artifact's entry in the index.
    Yields:
        What is wrong; nothing if all is right.
    """
    if wrong := list(_wrong_entry(record)):
        # Its files may be those of others, then.
        yield from ((record_path(record.handle), what) for what in wrong)
        return
    for path, findings in (
        (record.files["archive"].path, wrong_archive(folder, record)),
        (record.files["page"].path, _wrong_page(folder, record)),
        (record.files["card"].path, _differing(folder, record.files["card"])),
        (record.files["verification"].path, _wrong_report(folder, record)),
        (record.files["provenance"].path, _wrong_provenance(folder, record)),
        (record_path(record.handle), _differing(folder, record.own_file())),
    ):
        try:
            yield from ((path, what) for what in findings)
        except UntrustedFileError as error:
            yield path, str(error)


def _wrong_entry(record: ArtifactRecord) -> Iterator[str]:
    """Compares what the index says in several places."""
    if record.handle.split("/")[2:] != [record.variant, record.kind, str(record.version)]:
        yield f"variant, kind and version do not match the handle {record.handle}"
    if record.version not in VERSIONS:
        yield f"there is no version {record.version}"
    if record.format != _format(record.version):
        yield f"version {record.version} does not have the format {record.format}"
    if (record.num_classes is None) != (record.kind == "feature_vector"):
        yield f"a {record.kind} module cannot have {record.num_classes or 'no'} classes"
    yield from _wrong_values(record)
    for role in SUFFIXES:
        if role not in record.files:
            yield f"has no {role}"
        elif record.files[role].path != path_in_release(record.handle, role):
            yield f"its {role} is listed as {record.files[role].path}"


def _format(version: int) -> str:
    return "hub" if version in TF1_VERSIONS else "saved_model_2"


def _wrong_values(record: ArtifactRecord) -> Iterator[str]:
    said = dict(record.inputs.checkpoint)
    try:
        checkpoint = CheckpointOrigin.model_validate(said)
    except pydantic.ValidationError:
        checkpoint = CheckpointOrigin()
    if checkpoint.source is None or checkpoint.model_dump(exclude_none=True) != said:
        yield "its inputs describe no checkpoint"
        return
    # Made-up values come from no file.
    if (checkpoint.sha256 is None) != (record.values == "synthetic"):
        yield f"its values are not {record.values}: they come from {checkpoint.source}"
    if record.published is not None and not checkpoint.published:
        yield "it has published figures, but not the published checkpoint's values"


def _differing(folder: UntrustedFolder, file: ReleaseFile) -> Iterator[str]:
    check_listed(folder, file)
    yield from ()


def _wrong_page(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[str]:
    page = read_listed(folder, record.files["page"])
    title = f"# Module {record.handle}"
    if page.partition("\n")[0] != title:
        yield f"its title is not {title!r}"
    address = f"{record.inputs.url}/{record.files['archive'].path}"
    found = re.findall(r"^<!-- *asset-path: *(.*?) *-->$", page, re.MULTILINE)
    # In a page, some characters have to be written as their codes.
    if [unquote(one) for one in found] != [unquote(address)]:
        yield f"its asset-path is not {address}"


def _wrong_report(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[str]:
    report = _report(folder, record)
    if not report.passed:
        yield "does not say that the module passed"
    if report.handle != record.handle:
        yield f"is about {report.handle}"
    if report.archive_sha256 != record.files["archive"].sha256:
        yield f"is about another archive, with the SHA-256 {report.archive_sha256}"
    if sorted(one.check for one in report.checks) != sorted(record.inputs.checks):
        yield "its checks are not those the module had to pass"
    counts = {status: sum(one.status == status for one in report.checks) for status in ("pass", "not applicable")}
    said = record.checks
    if counts != {"pass": said.passed, "not applicable": said.not_applicable}:
        yield f"it does not have {said.passed} checks passed and {said.not_applicable} not applicable"
    if report.versions.get("TensorFlow") != said.tensorflow:
        yield f"the module did not run on TensorFlow {said.tensorflow}"
    for one in report.checks:
        if one.status == "fail":
            yield f"{one.check} failed"
        if one.status == "pass" and one.measured is not None and one.limit is not None and one.measured > one.limit:
            yield f"{one.check} passed with {one.measured}, above its limit of {one.limit}"


def _report(folder: UntrustedFolder, record: ArtifactRecord) -> _Report:
    return parsed(_Report, read_listed(folder, record.files["verification"]))


def _wrong_provenance(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[str]:
    found = parsed(_Document, read_listed(folder, record.files["provenance"])).root
    try:
        versions = _report(folder, record).versions
    except UntrustedFileError:
        versions = {}  # That is found elsewhere.
    wanted = statement_of(
        record.handle,
        record.inputs,
        subjects=[record.files[role] for role in ("archive", "page", "card")],
        byproducts=[record.files["verification"], record.sbom],
        versions=versions,
    )
    for place in _missing(wanted, found):
        yield f"{place[1:]} does not agree with the index"


def _missing(wanted: object, found: object) -> Iterator[str]:
    """Yields the places of a JSON document where it does not say what is wanted; it may say more."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for name, value in wanted.items():
            if name not in found:
                yield f".{name}"
            else:
                yield from (f".{name}{place}" for place in _missing(value, found[name]))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, value in enumerate(wanted):
            yield from (f"[{index}]{place}" for place in _missing(value, found[index]))
    # For Python, True is 1.
    elif type(wanted) is not type(found) or wanted != found:
        yield ""
