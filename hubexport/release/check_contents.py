"""Compares an artifact's record, page, card and statement with what hubexport would write for the same facts."""

from collections.abc import Iterator
import dataclasses

import pydantic

from hubexport.errors import HubexportError
from hubexport.formats.manifest import MANIFEST, manifest_content, manifest_fields
from hubexport.labels import MODULE_LABELS, parse_labels
from hubexport.release.artifact_inputs import program_sha256
from hubexport.release.artifact_record import artifact_record
from hubexport.release.check_archive import ArchiveContents
from hubexport.release.config_facts import ConfigFacts
from hubexport.release.facts import ModuleFacts, ValuesOrigin
from hubexport.release.findings import Finding, first_difference
from hubexport.release.index import ArtifactRecord, Role, as_json, record_path
from hubexport.release.pages import model_card, module_page
from hubexport.release.slsa_provenance import statement
from hubexport.release.verification_report import VerificationReport
from hubexport.variants import ModuleSpec, PublishedFigures, Variant


@dataclasses.dataclass(frozen=True)
class ArtifactContents:
    """The contents of an artifact's files, each of which is in order by itself.

    Attributes:
        archive: its archive.
        report: its report.
        config: the facts of its config, from its statement; None if another hubexport wrote none that this one reads.
        texts: the texts of its page, card, report and statement.
    """

    archive: ArchiveContents
    report: VerificationReport
    config: ConfigFacts | None
    texts: dict[Role, str]


def is_ours(record: ArtifactRecord) -> bool:
    """Tells whether the code of the hubexport that runs made an artifact; other code may write other pages."""
    return record.inputs.program == program_sha256()


def contents_findings(record: ArtifactRecord, contents: ArtifactContents) -> Iterator[Finding]:
    """Writes an artifact's files again, all but its archive, and compares.

    What another hubexport wrote may differ: of that, only the record is a problem.

    Args:
        record: the artifact's entry in the index.
        contents: the contents of its files.
    """
    path, files = record_path(record.handle), record.files
    try:
        facts = _facts(record, contents)
        expected = artifact_record(facts, record.inputs, files, record.sbom)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        yield Finding(path, f"describes no network: {'.'.join(map(str, first['loc']))}: {first['msg']}")
        return
    except HubexportError as error:
        yield Finding(path, f"describes no network: {error.what}: {error.why}")
        return
    for name in ArtifactRecord.model_fields:
        if (said := getattr(record, name)) != (computed := getattr(expected, name)):
            yield Finding(path, f"says {name} {said}, not {computed}")
    ours = is_ours(record)
    if contents.config is None:
        yield Finding(path, "another hubexport made it, and its statement does not have the facts of its pages", False)
        return
    if problems := list(_labels_findings(facts, contents)):
        # Pages name the first and the last class.
        yield from (Finding(files["archive"].path, what) for what in problems)
        return
    if ours and (what := _manifest_difference(facts, record, contents)):
        yield Finding(files["archive"].path, what)
    provenance = statement(
        record.handle,
        record.inputs,
        subjects=[files[role] for role in ("archive", "page", "card")],
        byproducts=[files["verification"], record.sbom],
        versions=contents.report.versions,
        config=contents.config,
    )
    written: dict[Role, str] = {
        "page": module_page(facts),
        "card": model_card(facts),
        "verification": as_json(contents.report).decode(),
        "provenance": as_json(provenance).decode(),
    }
    for role, text in written.items():
        if text != contents.texts[role]:
            what = f"is not what hubexport writes for this module: {first_difference(text, contents.texts[role])}"
            yield Finding(files[role].path, what, is_problem=ours)


def _facts(record: ArtifactRecord, contents: ArtifactContents) -> ModuleFacts:
    """Returns the facts about a module, of its record only what no other file tells.

    Raises:
        pydantic.ValidationError: no variant has the record's facts.
        UsageError: the names of classes cannot be read.
    """
    archive, config = contents.archive, contents.config
    labels = archive.labels
    return ModuleFacts(
        variant=config.variant if config else _variant_of(record),
        spec=ModuleSpec(kind=record.kind, version=record.version),
        url=record.inputs.url,
        values=ValuesOrigin.of(archive.manifest, record.inputs.weights),
        proof=contents.report.proof(),
        archive_sha256=record.files["archive"].sha256,
        archive_bytes=record.files["archive"].bytes,
        exporter=record.inputs.exporter,
        class_names=None if labels is None else parse_labels(labels, MODULE_LABELS),
    )


def _variant_of(record: ArtifactRecord) -> Variant:
    """Returns a variant with the facts that a record has of it."""
    publisher, collection, *_ = record.handle.split("/")
    return Variant.model_validate(
        {
            "name": record.variant,
            "publisher": publisher,
            "collection": collection,
            "network": record.network,
            "family_parameters": dict(record.family_parameters),
            "image_size": record.image_size,
            "num_classes": record.num_classes or record.family.published_classes,
            "dataset": record.dataset,
            "license": record.license,
            # The index has all figures as floating-point numbers.
            "published": PublishedFigures.model_validate(record.published or {}, strict=False),
            "modules": [f"{record.kind}/{record.version}"],
        }
    )


def _labels_findings(facts: ModuleFacts, contents: ArtifactContents) -> Iterator[str]:
    """Compares the names of classes in an archive with the config's."""
    assert contents.config, "nothing else tells what the classes are called"
    wanted = contents.config.labels_sha256 if facts.spec.kind == "classification" else None
    if contents.archive.digests.get(MODULE_LABELS.as_posix()) != wanted:
        yield f"its {MODULE_LABELS} does not have the names of its config"
    elif facts.class_names is not None and len(facts.class_names) != facts.variant.num_classes:
        yield f"its {MODULE_LABELS} names {len(facts.class_names)} classes, not {facts.variant.num_classes}"


def _manifest_difference(facts: ModuleFacts, record: ArtifactRecord, contents: ArtifactContents) -> str:
    """Says how a manifest differs from the one that hubexport writes; empty if it does not."""
    manifest, spec = contents.archive.manifest, facts.spec
    provenance = {"values": manifest.values, "weights": manifest.weights, "checkpoint": record.inputs.checkpoint}
    network = facts.variant.network_for(spec.kind, spec.version)
    fields = {**manifest_fields(facts.variant, spec, network, provenance), "sha256": manifest.sha256}
    written = manifest_content(fields)
    if written == contents.archive.manifest_bytes:
        return ""
    found = contents.archive.manifest_bytes.decode(errors="replace")
    return f"its {MANIFEST} is not what hubexport writes for this module: {first_difference(written.decode(), found)}"
