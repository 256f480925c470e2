"""Compares one artifact's files with its entry in the index, and with each other."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import re
from typing import Any, Literal
from urllib.parse import unquote

import pydantic
from pydantic import ConfigDict

from hubexport.formats.manifest import CheckpointOrigin
from hubexport.release.check_archive import archive_findings
from hubexport.release.facts import module_format
from hubexport.release.index import SUFFIXES, ArtifactRecord, path_in_release, record_path
from hubexport.release.slsa_provenance import statement
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder, check_listed, parsed, read_listed
from hubexport.variants import VERSIONS

# A path in the release, and what is wrong with it.
Finding = tuple[str, str]


class _Lenient(pydantic.BaseModel):
    """A model that ignores other keys."""

    model_config = ConfigDict(strict=True, frozen=True)


class _Check(_Lenient):
    check: str
    status: Literal["pass", "fail", "not applicable"]
    explanation: str
    measured: float | None
    limit: float | None


class _Report(_Lenient):
    """The part of `hubexport verify`'s report that is compared."""

    passed: bool
    handle: str
    archive_sha256: str
    checks: list[_Check]
    versions: dict[str, str]


class _Document(pydantic.RootModel[dict[str, Any]]):
    """Any JSON object."""


def check_artifact(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[Finding]:
    """Checks an artifact's own files.

    Args:
        folder: the release's folder.
        record: the artifact's entry in the index.
    """
    if findings := list(_entry_findings(record)):
        # The files may be another artifact's, then.
        yield from ((record_path(record.handle), what) for what in findings)
        return
    yield from findings_about(record.files["archive"].path, archive_findings, folder, record)
    yield from findings_about(record.files["page"].path, _page_findings, folder, record)
    yield from findings_about(record.files["card"].path, check_listed, folder, record.files["card"])
    yield from findings_about(record.files["verification"].path, _report_findings, folder, record)
    yield from findings_about(record.files["provenance"].path, _provenance_findings, folder, record)
    yield from findings_about(record_path(record.handle), check_listed, folder, record.own_file())


def findings_about(path: str, check: Callable[..., Iterable[str] | None], *arguments: object) -> Iterator[Finding]:
    """Yields what a check finds wrong with a file, including the error if the check refuses the file."""
    try:
        yield from ((path, what) for what in check(*arguments) or ())
    except UntrustedFileError as error:
        yield path, str(error)


def _entry_findings(record: ArtifactRecord) -> Iterator[str]:
    """Compares the facts that an entry tells more than once."""
    if record.handle.split("/")[2:] != [record.variant, record.kind, str(record.version)]:
        yield f"variant, kind and version do not match the handle {record.handle}"
    if record.version not in VERSIONS:
        yield f"there is no version {record.version}"
    if record.format != module_format(record.version):
        yield f"version {record.version} does not have the format {record.format}"
    if (record.num_classes is None) != (record.kind == "feature_vector"):
        yield f"a {record.kind} module cannot have {record.num_classes or 'no'} classes"
    yield from _values_findings(record)
    for role in SUFFIXES:
        if role not in record.files:
            yield f"has no {role}"
        elif record.files[role].path != path_in_release(record.handle, role):
            yield f"its {role} is listed as {record.files[role].path}"


def _values_findings(record: ArtifactRecord) -> Iterator[str]:
    facts = dict(record.inputs.checkpoint)
    try:
        checkpoint = CheckpointOrigin.model_validate(facts)
    except pydantic.ValidationError:
        checkpoint = CheckpointOrigin()
    if checkpoint.source is None or checkpoint.model_dump(exclude_none=True) != facts:
        yield "its inputs describe no checkpoint"
        return
    # Made-up values come from a seed, or from a module that was built with such values.
    from_seed = checkpoint.source.startswith("synthetic:")
    if (checkpoint.sha256 is None) != from_seed or from_seed and record.values != "synthetic":
        yield f"its values are not {record.values}: they come from {checkpoint.source}"
    if record.published is not None and not checkpoint.published:
        yield "it has published figures, but not the published checkpoint's values"


def _page_findings(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[str]:
    page = read_listed(folder, record.files["page"])
    title = f"# Module {record.handle}"
    if page.partition("\n")[0] != title:
        yield f"its title is not {title!r}"
    address = f"{record.inputs.url}/{record.files['archive'].path}"
    paths = re.findall(r"^<!-- *asset-path: *(.*?) *-->$", page, re.MULTILINE)
    # Pages contain some characters as percent codes.
    if [unquote(path) for path in paths] != [unquote(address)]:
        yield f"its asset-path is not {address}"


def _report_findings(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[str]:
    report = _report(folder, record)
    if not report.passed:
        yield "does not say that the module passed"
    if report.handle != record.handle:
        yield f"is about {report.handle}"
    if report.archive_sha256 != record.files["archive"].sha256:
        yield f"is about another archive, with the SHA-256 {report.archive_sha256}"
    if sorted(check.check for check in report.checks) != sorted(record.inputs.checks):
        yield "its checks are not those the module had to pass"
    counts = {status: sum(check.status == status for check in report.checks) for status in ("pass", "not applicable")}
    summary = record.checks
    if counts != {"pass": summary.passed, "not applicable": summary.not_applicable}:
        yield f"it does not have {summary.passed} checks passed and {summary.not_applicable} not applicable"
    if report.versions.get("TensorFlow") != summary.tensorflow:
        yield f"the module did not run on TensorFlow {summary.tensorflow}"
    for check in report.checks:
        if check.status == "fail":
            yield f"{check.check} failed"
        if check.status != "pass" or check.measured is None or check.limit is None:
            continue
        if check.measured > check.limit:
            yield f"{check.check} passed with {check.measured}, above its limit of {check.limit}"


def _report(folder: UntrustedFolder, record: ArtifactRecord) -> _Report:
    return parsed(_Report, read_listed(folder, record.files["verification"]))


def _provenance_findings(folder: UntrustedFolder, record: ArtifactRecord) -> Iterator[str]:
    provenance = parsed(_Document, read_listed(folder, record.files["provenance"])).root
    try:
        versions = _report(folder, record).versions
    except UntrustedFileError:
        versions = {}  # The report's own check tells what is wrong with it.
    expected = statement(
        record.handle,
        record.inputs,
        subjects=[record.files[role] for role in ("archive", "page", "card")],
        byproducts=[record.files["verification"], record.sbom],
        versions=versions,
    )
    for place in _differences(expected, provenance):
        yield f"{place[1:]} does not agree with the index"


def _differences(expected: object, found: object) -> Iterator[str]:
    """Yields the places where a JSON document lacks what is expected, or says otherwise. It may say more."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name, value in expected.items():
            if name not in found:
                yield f".{name}"
            else:
                yield from (f".{name}{place}" for place in _differences(value, found[name]))
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, value in enumerate(expected):
            yield from (f"[{index}]{place}" for place in _differences(value, found[index]))
    # In Python, True equals 1.
    elif type(expected) is not type(found) or expected != found:
        yield ""
