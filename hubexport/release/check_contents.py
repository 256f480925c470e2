"""Compares an artifact's record, page, card and statement with what hubexport would write for the same facts."""

from collections.abc import Iterator
import dataclasses

import pydantic

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.errors import HubexportError
from hubexport.formats.manifest import MANIFEST, manifest_content, manifest_fields, values_sha256
from hubexport.labels import MODULE_LABELS, parse_labels
from hubexport.release.artifact_inputs import program_sha256
from hubexport.release.artifact_record import artifact_record
from hubexport.release.check_archive import ArchiveContents
from hubexport.release.config_facts import ConfigFacts
from hubexport.release.facts import RESULTS, ModuleFacts, ValuesOrigin
from hubexport.release.findings import Finding, first_difference
from hubexport.release.index import ArtifactRecord, Role, as_json, record_path
from hubexport.release.pages import model_card, module_page
from hubexport.release.slsa_provenance import statement
from hubexport.release.untrusted_folder import first_error
from hubexport.release.verification_report import VerificationReport
from hubexport.variants import PublishedFigures, Variant


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
    path = record_path(record.handle)
    try:
        facts = _facts(record, contents)
        yield from (Finding(path, what) for what in _record_findings(facts, record))
        graph = record.digest_file.sha256 if record.deployment else contents.archive.digests[MODULE_FILE]
        if contents.report.graph_sha256 not in (None, graph):
            what = f"is about another {MANIFEST if record.deployment else MODULE_FILE} than this artifact's"
            yield Finding(record.files["verification"].path, what)
        values = values_sha256(contents.archive.digests)
        for name, title in RESULTS.items():
            if (result := getattr(record, name)) and result.values_sha256 != values:
                yield Finding(path, f"has a {title} of other values than its own")
        if record.sample and (problem := record.sample.problem(record.num_classes or 0, facts.class_names)):
            yield Finding(path, f"has a sample result that it cannot have: {problem}")
        if contents.config is None:
            what = "another hubexport made it, and its statement does not have the facts of its pages"
            yield Finding(path, what, is_problem=False)
            return
        problems = list(_module_findings(facts, record, contents))
        yield from (Finding(record.digest_file.path, what) for what in problems)
        # Pages name the first and the last class.
        if not problems:
            yield from _text_findings(facts, record, contents)
    except pydantic.ValidationError as error:
        yield Finding(path, f"has facts that hubexport cannot describe: {first_error(error)}")
    except HubexportError as error:
        yield Finding(path, f"has facts that hubexport cannot describe: {error.what}: {error.why}")
    except ValueError as error:  # An address like http://[x is one in no other way.
        yield Finding(path, f"has facts that hubexport cannot describe: {error}")


def _record_findings(facts: ModuleFacts, record: ArtifactRecord) -> Iterator[str]:
    expected = artifact_record(facts, record.inputs, record.files, record.sbom, record.contents)
    for name in ArtifactRecord.model_fields:
        if (said := getattr(record, name)) != (computed := getattr(expected, name)):
            yield f"says {name} {said}, not {computed}"


def _module_findings(facts: ModuleFacts, record: ArtifactRecord, contents: ArtifactContents) -> Iterator[str]:
    """Compares the manifest and the names of classes in an archive with the config's."""
    assert contents.config, "nothing else tells what the classes are called"
    has_labels = record.kind == "classification" and record.deployment is None
    wanted = contents.config.labels_sha256 if has_labels else None
    if contents.archive.digests.get(MODULE_LABELS.as_posix()) != wanted:
        yield f"its {MODULE_LABELS} does not have the names of its config"
    elif facts.class_names is not None and len(facts.class_names) != facts.variant.num_classes:
        yield f"its {MODULE_LABELS} names {len(facts.class_names)} classes, not {facts.variant.num_classes}"
    if is_ours(record) and (written := _manifest(facts, record, contents)) != contents.archive.manifest_bytes:
        found = contents.archive.manifest_bytes.decode(errors="replace")
        difference = first_difference(written.decode(), found)
        yield f"its {MANIFEST} is not what hubexport writes for this module: {difference}"


def _manifest(facts: ModuleFacts, record: ArtifactRecord, contents: ArtifactContents) -> bytes:
    manifest, spec = contents.archive.manifest, facts.spec
    provenance = {"values": manifest.values, "weights": manifest.weights, "checkpoint": record.inputs.checkpoint}
    network = facts.variant.network_for(spec.kind, spec.version)
    fields = manifest_fields(facts.variant, spec, network, provenance)
    return manifest_content({**fields, "sha256": manifest.sha256})


def _text_findings(facts: ModuleFacts, record: ArtifactRecord, contents: ArtifactContents) -> Iterator[Finding]:
    files = record.files
    provenance = statement(
        record.handle,
        record.inputs,
        subjects=[*record.contents, files["page"], files["card"]],
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
            yield Finding(files[role].path, what, is_problem=is_ours(record))


def _facts(record: ArtifactRecord, contents: ArtifactContents) -> ModuleFacts:
    """Returns the facts about a module, of its record only what no other file tells.

    Raises:
        pydantic.ValidationError: no variant has the record's facts.
        UsageError: the names of classes cannot be read.
    """
    archive, config = contents.archive, contents.config
    labels = archive.labels
    named = record.kind == "classification" and config is not None and config.labels_sha256 is not None
    return ModuleFacts(
        variant=config.variant if config else _variant_of(record),
        spec=record.spec,
        url=record.inputs.url,
        values=ValuesOrigin.of(archive.manifest, record.inputs.weights),
        proof=contents.report.proof(),
        sha256=record.digest_file.sha256,
        bytes=sum(file.bytes for file in record.contents),
        exporter=record.inputs.exporter,
        outputs_compared=contents.report.outputs_compared,
        class_names=None if labels is None else parse_labels(labels, MODULE_LABELS),
        has_class_names=named and record.deployment is not None,
        measured=record.measured,
        sample=record.sample,
    )


def _variant_of(record: ArtifactRecord) -> Variant:
    """Returns a variant with the facts that a record has of it."""
    return Variant.model_validate(
        {
            "name": record.variant,
            "publisher": record.publisher,
            "collection": record.collection,
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
