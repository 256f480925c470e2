"""Compares one artifact's files with its entry in the index, and with each other."""

from collections.abc import Generator, Iterator, Mapping
import re
from urllib.parse import unquote

import pydantic

from hubexport.deployment_spec import DeploymentSpec
from hubexport.errors import UsageError
from hubexport.formats.manifest import MANIFEST, CheckpointOrigin
from hubexport.release.artifact_inputs import result_sha256
from hubexport.release.check_archive import read_archive
from hubexport.release.check_contents import ArtifactContents, contents_findings, is_ours
from hubexport.release.check_deployment import read_deployment
from hubexport.release.check_report import read_report
from hubexport.release.check_sbom import Bill, bill_findings
from hubexport.release.config_facts import ConfigFacts
from hubexport.release.facts import RESULTS, artifact_format
from hubexport.release.findings import Finding, collected, findings_about, json_document
from hubexport.release.index import ArtifactRecord, Role, path_in_release, record_path, roles
from hubexport.release.page_facts import asset_path, page_title
from hubexport.release.slsa_provenance import config_of, statement
from hubexport.release.untrusted_folder import UntrustedFolder, check_listed, first_error, read_listed
from hubexport.release.verification_report import VerificationReport
from hubexport.variants import VERSIONS, ModuleSpec


def check_artifact(folder: UntrustedFolder, record: ArtifactRecord, bills: Mapping[str, Bill]) -> Iterator[Finding]:
    """Checks an artifact's own files.

    Args:
        folder: the release's folder.
        record: the artifact's entry in the index.
        bills: the bills of materials that are in order, by their paths.
    """
    own = record_path(record.handle)
    if problems := list(_entry_findings(record)):
        # The files may be another artifact's, then.
        yield from (Finding(own, what) for what in problems)
        return
    files, findings = record.files, findings_about(own, check_listed, folder, record.own_file())
    read_contents = read_deployment if record.deployment else read_archive
    of_archive, archive = collected(record.digest_file.path, read_contents, folder, record)
    of_report, report = collected(files["verification"].path, read_report, folder, record)
    of_page, page = collected(files["page"].path, _read_page, folder, record)
    of_card, card = collected(files["card"].path, _read_card, folder, record)
    of_statement, provenance = collected(files["provenance"].path, _read_statement, folder, record, report)
    findings += [*of_archive, *of_report, *of_page, *of_card, *of_statement]
    if report and (bill := bills.get(record.sbom.path)):
        findings += findings_about(record.sbom.path, bill_findings, bill, record, report.versions)
    yield from findings
    # A file that is wrong by itself would make others look wrong.
    if not findings and archive and report and page and card and provenance:
        text, config = provenance
        texts: dict[Role, str] = {"page": page, "card": card, "provenance": text}
        texts["verification"] = read_listed(folder, files["verification"])
        yield from contents_findings(record, ArtifactContents(archive, report, config, texts))


def _entry_findings(record: ArtifactRecord) -> Iterator[str]:
    """Compares the facts that an entry tells more than once."""
    try:
        spec = record.spec
    except UsageError as error:
        yield f"describes no deployment: {error.what}"
        return
    if record.handle != f"{spec.root}{record.publisher}/{record.collection}/{record.variant}/{spec}":
        yield f"variant, kind and version do not match the handle {record.handle}"
    if record.version not in VERSIONS:
        yield f"there is no version {record.version}"
    if record.format != artifact_format(spec):
        yield f"version {record.version} does not have the format {record.format}"
    if (record.num_classes is None) != (record.kind == "feature_vector"):
        yield f"a {record.kind} module cannot have {record.num_classes or 'no'} classes"
    yield from _values_findings(record)
    for name, title in RESULTS.items():
        result = getattr(record, name)
        if result and record.num_classes is None:
            yield f"has a {title}, but no classes"
        if getattr(record.inputs, name) != result_sha256(result):
            yield f"its inputs have another {title}"
    for role in roles(spec):
        if role not in record.files:
            yield f"has no {role}"
        elif record.files[role].path != path_in_release(record.handle, role):
            yield f"its {role} is listed as {record.files[role].path}"

    if record.inputs.deployment != (spec.as_json() if isinstance(spec, DeploymentSpec) else None):
        yield "its inputs describe another deployment"
    for file in record.deployment.contents if record.deployment else ():
        if not file.path.startswith(f"{record.handle}/") or "/" in file.path.removeprefix(f"{record.handle}/"):
            yield f"lists {file.path}, which is not in its folder"
    if record.deployment and f"{record.handle}/{MANIFEST}" not in [file.path for file in record.deployment.contents]:
        yield f"lists no {MANIFEST}"


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


def _read_page(folder: UntrustedFolder, record: ArtifactRecord) -> Generator[str, None, str]:
    page = read_listed(folder, record.files["page"])
    title = page_title(record.spec, record.handle)
    if page.partition("\n")[0] != title:
        yield f"its title is not {title!r}"
    address = f"{record.inputs.url}/{asset_path(record.spec, record.handle)}"
    paths = re.findall(r"^<!-- *asset-path: *(.*?) *-->$", page, re.MULTILINE)
    # Pages contain some characters as percent codes.
    if [unquote(path) for path in paths] != [unquote(address)]:
        yield f"its asset-path is not {address}"
    return page


def _read_card(folder: UntrustedFolder, record: ArtifactRecord) -> Generator[str, None, str]:
    card = read_listed(folder, record.files["card"])
    title = f"# {record.handle}"
    if title not in card.split("\n"):
        yield f"its title is not {title!r}"
    return card


def _read_statement(
    folder: UntrustedFolder, record: ArtifactRecord, report: VerificationReport | None
) -> Generator[str, None, tuple[str, ConfigFacts | None]]:
    text = read_listed(folder, record.files["provenance"])
    document = yield from json_document(text)
    expected = statement(
        record.handle,
        record.inputs,
        subjects=[*record.contents, record.files["page"], record.files["card"]],
        byproducts=[record.files["verification"], record.sbom],
        # If the report cannot be read, its own check tells.
        versions=report.versions if report else {},
    )
    for place in _differences(expected, document):
        yield f"{place[1:]} does not agree with the index"
    return text, (yield from _config(document, record))


def _config(document: Mapping[str, object], record: ArtifactRecord) -> Generator[str, None, ConfigFacts | None]:
    """Returns the facts of the config in a statement; None, without a problem, if another hubexport wrote others."""
    try:
        config = ConfigFacts.parse(config_of(document), ModuleSpec(kind=record.kind, version=record.version))
    except pydantic.ValidationError as error:
        what = f"its config describes no variant: {first_error(error)}"
    else:
        if (config.network_sha256(), config.description_sha256()) == (record.inputs.network, record.inputs.description):
            return config
        what = "its config is not the one whose digests the index has"
    if is_ours(record):
        yield what
    return None


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
