"""Checks the report of `hubexport verify` in a release: that it is about the artifact, and that all in it passed."""

from collections.abc import Generator, Iterator

from hubexport.release.findings import json_document
from hubexport.release.index import ArtifactRecord
from hubexport.release.untrusted_folder import UntrustedFolder, parsed, read_listed
from hubexport.release.verification_report import ReportedCheck, VerificationReport
from hubexport.verify.highest_limits import counts_problems, highest_limit


def read_report(folder: UntrustedFolder, record: ArtifactRecord) -> Generator[str, None, VerificationReport]:
    """Checks an artifact's report.

    Args:
        folder: the release's folder.
        record: the artifact's entry in the index.
    Yields:
        Each problem, in one line.
    Returns:
        The report.
    Raises:
        UntrustedFileError: it is not the listed file, or not a report.
    """
    text = read_listed(folder, record.files["verification"])
    report = parsed(VerificationReport, text)
    yield from json_document(text)
    if not report.passed:
        yield "does not say that the module passed"
    if report.handle != record.handle:
        yield f"is about {report.handle}"
    if report.archive_sha256 != record.digest_file.sha256:
        what = "deployment" if record.deployment else "archive"
        yield f"is about another {what}, with the SHA-256 {report.archive_sha256}"
    selected = (*record.inputs.checks, *(() if report.graph_proved_by else record.inputs.graph_checks))
    if sorted(check.check for check in report.checks) != sorted(selected):
        yield "its checks are not those the module had to pass"
    statuses = [check.status for check in report.checks]
    summary = record.checks
    if (statuses.count("pass"), statuses.count("not applicable")) != (summary.passed, summary.not_applicable):
        yield f"it does not have {summary.passed} checks passed and {summary.not_applicable} not applicable"
    if report.versions.get("TensorFlow") != summary.tensorflow:
        yield f"the module did not run on TensorFlow {summary.tensorflow}"
    if (exporter := report.versions.get("hubexport")) != record.inputs.exporter:
        yield f"is by hubexport {exporter}, the index names {record.inputs.exporter}"
    for check in report.checks:
        yield from _result_findings(check)
    return report


def _result_findings(check: ReportedCheck) -> Iterator[str]:
    if check.status == "fail":
        yield f"{check.check} failed"
    if check.status != "pass":
        return
    if counts_problems(check.check) and (check.measured is None or check.limit is None or check.details):
        yield f"{check.check} passed, but does not say that it counted no problem"
    if check.limit is None:
        return
    if check.measured is not None and not check.measured <= check.limit:
        yield f"{check.check} passed with {check.measured}, above its limit of {check.limit}"
    if not check.limit <= (highest := highest_limit(check.check, check.unit)):
        yield f"{check.check} has the limit {check.limit}, above the highest that hubexport sets, {highest:g}"
