"""Makes artifacts: builds and packs modules, then verifies the packed modules and describes them.

Both steps are functions of values that can travel to another process or machine. Their files stay in a folder that all
of these share, until the run moves them into place.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path
import shutil
import time

from hubexport.batch import build_batch
from hubexport.build import BuildOptions, BuildOrder
from hubexport.errors import CheckpointError, HubexportError, ModuleError
from hubexport.formats.manifest import read_manifest
from hubexport.progress import Progress, Warnings
from hubexport.release.artifact_inputs import ArtifactInputs, checkpoint_provenance
from hubexport.release.facts import ModuleFacts, ValuesOrigin, VerificationProof
from hubexport.release.index import (
    SUFFIXES,
    ArtifactRecord,
    CheckSummary,
    ReleaseFile,
    Role,
    as_json,
    path_in_release,
    record_path,
)
from hubexport.release.options import ReleaseOptions
from hubexport.release.packing import pack
from hubexport.release.pages import model_card, module_page
from hubexport.release.plan import PlannedArtifact
from hubexport.release.slsa_provenance import statement
from hubexport.system.atomic_output import write_failures_reported
from hubexport.verify.result import Verification
from hubexport.verify.verify_module import verify_module

# This check measures random numbers, which differ from one verification to the next.
_RANDOM_CHECK = "behaviour.dropout"
_REPORTED = ("check", "status", "explanation", "measured", "limit", "unit", "details")


@dataclasses.dataclass(frozen=True)
class ArtifactTask:
    """Artifacts of one variant to make.

    Attributes:
        artifacts: the artifacts, all of one variant and with the same inputs.
        checkpoint: the `--checkpoint` of `hubexport build`.
        options: the release's options.
        folder: where their files are written.
    """

    artifacts: tuple[PlannedArtifact, ...]
    checkpoint: str
    options: ReleaseOptions
    folder: Path

    def staged(self, artifact: PlannedArtifact, role: Role) -> Path:
        """Returns where one of an artifact's files is written."""
        return self.folder / path_in_release(artifact.handle, role)


@dataclasses.dataclass(frozen=True)
class PackedModule:
    """A packed module that is not verified yet.

    Attributes:
        artifact: the artifact as planned.
        task: the task that it belongs to.
        archive: the path of its archive.
        values: the origin of its values.
        seconds: the time that it took so far, by stage.
    """

    artifact: PlannedArtifact
    task: ArtifactTask
    archive: Path
    values: ValuesOrigin
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class MadeArtifact:
    """A verified artifact with all its files, which are not in their places yet.

    Attributes:
        artifact: the artifact as planned.
        record: its record.
        staged: the paths of its files, by their paths in the release; its record comes last.
        seconds: the time that it took, by stage.
    """

    artifact: PlannedArtifact
    record: ArtifactRecord
    staged: dict[str, Path]
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class FailedArtifact:
    """An artifact that could not be made, and why."""

    artifact: PlannedArtifact
    error: HubexportError
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def build_and_pack(task: ArtifactTask, progress: Progress) -> list[PackedModule | FailedArtifact]:
    """Builds and packs the modules of one variant, all from one reading of its checkpoint.

    Returns:
        One result per artifact; one module's failure stops no other.
    """
    variant = task.artifacts[0].variant
    folder = task.folder / "modules"
    # A process that was killed may have left some.
    for artifact in task.artifacts:
        shutil.rmtree(folder / artifact.handle, ignore_errors=True)
    order = BuildOrder(variant, [artifact.spec for artifact in task.artifacts])
    options = BuildOptions(task.checkpoint, task.options.weights, folder, downloads=task.options.downloads)
    progress.step(f"building {variant.name}")
    results: list[PackedModule | FailedArtifact] = []
    for artifact, outcome in zip(
        task.artifacts, build_batch([order], options, progress=Warnings(progress)), strict=True
    ):
        try:
            if isinstance(outcome.result, HubexportError):
                raise outcome.result
            results.append(_pack(artifact, task, outcome.result, outcome.seconds))
        except HubexportError as error:
            results.append(FailedArtifact(artifact, error, {"build": outcome.seconds}))
    try:
        _check_unchanged(task)
    except HubexportError as error:
        return [one if isinstance(one, FailedArtifact) else FailedArtifact(one.artifact, error) for one in results]
    return results


def _pack(artifact: PlannedArtifact, task: ArtifactTask, module: Path, build_seconds: float) -> PackedModule:
    started = time.monotonic()
    archive = task.staged(artifact, "archive")
    manifest, inputs = read_manifest(module), _inputs(artifact)
    assert manifest, "hubexport has just written it"
    checkpoint = manifest.checkpoint
    if checkpoint.model_dump(exclude_none=True) != inputs.checkpoint:
        raise _changed(task)
    with write_failures_reported(f"cannot pack {artifact.handle}", archive, "choose another --output_dir"):
        archive.parent.mkdir(parents=True, exist_ok=True)
        pack(module, archive, mtime=inputs.source_date_epoch)
        shutil.rmtree(module)
    values = ValuesOrigin(
        synthetic=manifest.values == "synthetic",
        weights=manifest.weights or "",
        source=checkpoint.source or "",
        published=bool(checkpoint.published),
    )
    return PackedModule(artifact, task, archive, values, {"build": build_seconds, "pack": time.monotonic() - started})


def _inputs(artifact: PlannedArtifact) -> ArtifactInputs:
    assert artifact.inputs, "a plan knows the inputs of what is to be made"
    return artifact.inputs


def _check_unchanged(task: ArtifactTask) -> None:
    """Refuses a checkpoint that is not the planned one any more."""
    artifact = task.artifacts[0]
    now = checkpoint_provenance(task.checkpoint, artifact.variant, Progress(), task.options.downloads)
    if now != _inputs(artifact).checkpoint:
        raise _changed(task)


def _changed(task: ArtifactTask) -> CheckpointError:
    return CheckpointError(
        f"{task.checkpoint} changed while it was read",
        why="its SHA-256 differs from when the release was planned",
        fix="find out what writes to it, and run the same command again",
    )


def verify_and_describe(packed: PackedModule, progress: Progress) -> MadeArtifact | FailedArtifact:
    """Verifies a packed module, and writes the files that are published with it."""
    started = time.monotonic()
    artifact, task = packed.artifact, packed.task
    progress.step(f"verifying {artifact.handle}")
    try:
        verification = verify_module(
            str(packed.archive),
            checkpoint=task.checkpoint,
            variant=artifact.variant,
            spec=artifact.spec,
            checks=_inputs(artifact).checks,
            progress=Warnings(progress),
        )
        seconds = {**packed.seconds, "verify": time.monotonic() - started}
        # A failed check could be the fault of a changed checkpoint; and a module that passes could contain values that
        # are not in the checkpoint any more.
        _check_unchanged(task)
        if not verification.passed:
            raise ModuleError(
                f"{artifact.handle} failed verification, and is not published",
                why=f"{len(verification.failed)} of {len(verification.results)} checks failed",
                fix="build it with `hubexport build`, and run `hubexport verify` on it",
                details=[f"{result.check}: {result.explanation}" for result in verification.failed],
            )
        started = time.monotonic()
        with write_failures_reported(
            f"cannot write the pages of {artifact.handle}", task.folder, "choose another --output_dir"
        ):
            record, staged = _describe(packed, verification)
        return MadeArtifact(artifact, record, staged, {**seconds, "describe": time.monotonic() - started})
    except HubexportError as error:
        return FailedArtifact(artifact, error, {**packed.seconds, "verify": time.monotonic() - started})


def _describe(packed: PackedModule, verification: Verification) -> tuple[ArtifactRecord, dict[str, Path]]:
    """Writes all files of an artifact but its archive.

    Returns:
        The record, and the paths of all files by their paths in the release, with that of the record last.
    """
    artifact, task, inputs = packed.artifact, packed.task, _inputs(packed.artifact)
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
        artifact.variant,
        artifact.spec,
        inputs,
        subjects=[files[role] for role in ("archive", "page", "card")],
        byproducts=[files["verification"], bill],
        versions=verification.versions,
    )
    add("provenance", as_json(provenance))
    record = _record(facts, inputs, files, bill)
    path = task.folder / record_path(artifact.handle)
    path.write_bytes(as_json(record))
    return record, {**staged, record_path(artifact.handle): path}


def _facts(packed: PackedModule, verification: Verification, archive: ReleaseFile) -> ModuleFacts:
    inputs = _inputs(packed.artifact)
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
    network = variant.network_for(spec.kind)
    figures = variant.published if values.published else None
    return ArtifactRecord(
        handle=facts.handle,
        variant=variant.name,
        kind=spec.kind,
        version=spec.version,
        format=facts.format,
        network=variant.network,
        depth_multiplier=variant.depth_multiplier,
        image_size=variant.image_size,
        num_features=network.num_features,
        num_classes=network.num_classes,
        parameters=sum(variable.size for variable in network.variables),
        multiply_adds=network.multiply_adds,
        dataset=variant.dataset,
        license=variant.license,
        values="synthetic" if values.synthetic else "trained",
        published=figures.model_dump(mode="json") if figures else None,
        checks=CheckSummary(**dataclasses.asdict(facts.proof)),
        inputs=inputs,
        files={role: files[role] for role in SUFFIXES},
        sbom=bill,
    )
