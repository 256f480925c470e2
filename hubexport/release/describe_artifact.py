"""Describes a verified module: its page, its card, and the files that tell how it was made and verified."""

import functools
import hashlib
from pathlib import Path

from hubexport.deployment_spec import DeploymentSpec
from hubexport.formats.manifest import MANIFEST
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
    files: dict[Role, ReleaseFile] = {}
    if isinstance(artifact.spec, DeploymentSpec):
        staged = {f"{artifact.handle}/{path.name}": path for path in sorted(packed.path.iterdir())}
        contents = [ReleaseFile.of(path, name) for name, path in staged.items()]
        [main] = (file for file in contents if file.path.endswith(f"/{MANIFEST}"))
    else:
        main = ReleaseFile.of(packed.path, path_in_release(artifact.handle, "archive"))
        files["archive"] = main
        staged, contents = {main.path: packed.path}, [main]

    def add(role: Role, content: bytes) -> None:
        path = task.staged(artifact, role)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files[role] = ReleaseFile.of(path, path_in_release(artifact.handle, role))
        staged[files[role].path] = path

    report = VerificationReport.of(
        artifact.handle,
        main.sha256,
        verification,
        graph_sha256=packed.graph_sha256,
        graph_proved_by=packed.graph_proved_by,
    )
    facts = _facts(packed, report, main.sha256, sum(file.bytes for file in contents))
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
        packed.inputs,
        subjects=[*contents, files["page"], files["card"]],
        byproducts=[files["verification"], bill],
        versions=report.versions,
        config=ConfigFacts.of(artifact.variant),
    )
    add("provenance", as_json(provenance))
    record = artifact_record(facts, packed.inputs, files, bill, contents)
    path = task.folder / record_path(artifact.handle)
    path.write_bytes(as_json(record))
    return record, {**staged, record_path(artifact.handle): path}


def _facts(packed: PackedModule, report: VerificationReport, sha256: str, size: int) -> ModuleFacts:
    inputs, variant, spec = packed.inputs, packed.artifact.variant, packed.artifact.spec
    deployed = isinstance(spec, DeploymentSpec)
    names = variant.class_names() if spec.kind == "classification" else None
    return ModuleFacts(
        variant=variant,
        spec=spec,
        url=inputs.url,
        values=packed.values,
        proof=report.proof(),
        sha256=sha256,
        bytes=size,
        exporter=inputs.exporter,
        outputs_compared=report.outputs_compared,
        class_names=None if deployed else names,
        has_class_names=deployed and names is not None,
        **packed.task.options.results_of(packed.artifact.handle),
    )


@functools.cache
def _bill_of_materials() -> tuple[bytes, str]:
    """Returns the bill of materials of this environment, and its path in the release."""
    from hubexport.release.sbom import sbom  # Slow to import, and not needed by runs that make nothing.

    content = sbom()
    return content, f"sbom-{hashlib.sha256(content).hexdigest()[:12]}.cdx.json"
