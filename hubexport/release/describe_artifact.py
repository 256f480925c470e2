"""Describes a verified module: its page, its card, and the files that tell how it was made and verified."""

import functools
import hashlib
from pathlib import Path

from hubexport.networks.costs import multiply_adds
from hubexport.release.artifact_inputs import ArtifactInputs
from hubexport.release.artifact_tasks import PackedModule
from hubexport.release.facts import ModuleFacts, VerificationProof
from hubexport.release.index import (
    SUFFIXES,
    ArtifactRecord,
    ReleaseFile,
    Role,
    as_json,
    path_in_release,
    record_path,
)
from hubexport.release.pages import model_card, module_page
from hubexport.release.plan import PlannedArtifact
from hubexport.release.slsa_provenance import statement
from hubexport.verify.result import Verification

# This check measures random numbers, which differ from one verification to the next.
_RANDOM_CHECK = "behaviour.dropout"
_REPORTED = ("check", "status", "explanation", "measured", "limit", "unit", "details")


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

    facts = _facts(packed, verification, archive)
    add("page", module_page(facts).encode())
    add("card", model_card(facts).encode())
    add("verification", as_json(_report(artifact, archive, verification)))
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
        versions=verification.versions,
        archive=artifact.variant.checkpoint,
    )
    add("provenance", as_json(provenance))
    record = _record(facts, task.inputs, files, bill)
    path = task.folder / record_path(artifact.handle)
    path.write_bytes(as_json(record))
    return record, {**staged, record_path(artifact.handle): path}


def _facts(packed: PackedModule, verification: Verification, archive: ReleaseFile) -> ModuleFacts:
    inputs = packed.task.inputs
    return ModuleFacts(
        variant=packed.artifact.variant,
        spec=packed.artifact.spec,
        url=inputs.url,
        values=packed.values,
        proof=VerificationProof(
            passed=sum(result.status == "pass" for result in verification.results),
            not_applicable=sum(result.status == "not applicable" for result in verification.results),
            tensorflow=verification.versions.get("TensorFlow"),
        ),
        archive_sha256=archive.sha256,
        archive_bytes=archive.bytes,
        exporter=inputs.exporter,
    )


def _report(artifact: PlannedArtifact, archive: ReleaseFile, verification: Verification) -> dict[str, object]:
    """Returns the verification's results, but not what differs from one run to the next: times and random numbers."""
    checks = [{name: result[name] for name in _REPORTED} for result in verification.as_json()["results"]]
    for check in checks:
        if check["check"] == _RANDOM_CHECK:
            check["measured"] = None
    return {
        "handle": artifact.handle,
        "archive_sha256": archive.sha256,
        "passed": verification.passed,
        "checks": checks,
        "versions": dict(verification.versions),
    }


@functools.cache
def _bill_of_materials() -> tuple[bytes, str]:
    """Returns the bill of materials of this environment, and its path in the release."""
    from hubexport.release.sbom import sbom  # Slow to import, and not needed by runs that make nothing.

    content = sbom()
    return content, f"sbom-{hashlib.sha256(content).hexdigest()[:12]}.cdx.json"


def _record(
    facts: ModuleFacts, inputs: ArtifactInputs, files: dict[Role, ReleaseFile], bill: ReleaseFile
) -> ArtifactRecord:
    variant, spec, values = facts.variant, facts.spec, facts.values
    network = variant.network_for(spec.kind, spec.version)
    figures = variant.published if values.published else None
    return ArtifactRecord(
        handle=facts.handle,
        variant=variant.name,
        kind=spec.kind,
        version=spec.version,
        format=facts.format,
        network=variant.network,
        family_parameters=variant.family_parameters,
        image_size=variant.image_size,
        num_features=network.num_features,
        num_classes=network.num_classes,
        parameters=sum(variable.size for variable in network.variables),
        multiply_adds=sum(multiply_adds(network.at_default_size()).values()),
        dataset=variant.dataset,
        license=variant.license,
        values="synthetic" if values.synthetic else "trained",
        published=figures.model_dump(mode="json") if figures else None,
        checks=facts.proof,
        inputs=inputs,
        files={role: files[role] for role in SUFFIXES},
        sbom=bill,
    )
