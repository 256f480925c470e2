"""Describes a verified module: its page, its card, and the files that tell how it was made and verified."""

import functools
import hashlib
from pathlib import Path

from hubexport.release.artifact_record import artifact_record
from hubexport.release.artifact_tasks import PackedModule
from hubexport.release.config_facts import ConfigFacts
from hubexport.release.facts import ModuleFacts
from hubexport.release.index import (
    ArtifactRecord,
    ReleaseFile,
    Role,
    as_json,
    path_in_release,
    record_path,
)
from hubexport.release.pages import model_card, module_page
from hubexport.release.slsa_provenance import statement
from hubexport.release.verification_report import VerificationReport
from hubexport.verify.result import Verification


def describe_artifact(packed: PackedModule, verification: Verification) -> tuple[ArtifactRecord, dict[str, Path]]:
    """Writes all files of an artifact but its archive.

    Returns:
        The record, and the paths of all files by their paths in the release, with that of the record last.
    """
    artifact, task = packed.artifact, packed.task
    archive = ReleaseFile.of(packed.archive, path_in_release(artifact.handle, "archive"))
    files: dict[Role, ReleaseFile] = {"archive": archive}
    staged = {archive.path: packed.archive}

    def add(role: Role, content: bytes) -> None:
        path = task.staged(artifact, role)
        path.write_bytes(content)
        files[role] = ReleaseFile.of(path, path_in_release(artifact.handle, role))
        staged[files[role].path] = path

    report = VerificationReport.of(
        artifact.handle,
        archive.sha256,
        verification,
        graph_sha256=packed.graph_sha256,
        graph_proved_by=packed.graph_proved_by,
    )
    facts = _facts(packed, report, archive)
    add("page", module_page(facts).encode())
    add("card", model_card(facts).encode())
    add("verification", as_json(report))
    # Artifacts share a bill of materials in the release, but each stages a copy of its own.
    content, name = _bill_of_materials()
    staged[name] = task.folder / f"{artifact.handle}.{name}"
    staged[name].write_bytes(content)
    bill = ReleaseFile.of(staged[name], name)
    provenance = statement(
        artifact.handle,
        task.inputs,
        subjects=[files[role] for role in ("archive", "page", "card")],
        byproducts=[files["verification"], bill],
        versions=report.versions,
        config=ConfigFacts.of(artifact.variant),
    )
    add("provenance", as_json(provenance))
    record = artifact_record(facts, task.inputs, files, bill)
    path = task.folder / record_path(artifact.handle)
    path.write_bytes(as_json(record))
    return record, {**staged, record_path(artifact.handle): path}


def _facts(packed: PackedModule, report: VerificationReport, archive: ReleaseFile) -> ModuleFacts:
    inputs, variant, spec = packed.task.inputs, packed.artifact.variant, packed.artifact.spec
    return ModuleFacts(
        variant=variant,
        spec=spec,
        url=inputs.url,
        values=packed.values,
        proof=report.proof(),
        archive_sha256=archive.sha256,
        archive_bytes=archive.bytes,
        exporter=inputs.exporter,
        class_names=variant.class_names() if spec.kind == "classification" else None,
    )


@functools.cache
def _bill_of_materials() -> tuple[bytes, str]:
    """Returns the bill of materials of this environment, and its path in the release."""
    from hubexport.release.sbom import sbom  # Slow to import, and not needed by runs that make nothing.

    content = sbom()
    return content, f"sbom-{hashlib.sha256(content).hexdigest()[:12]}.cdx.json"
