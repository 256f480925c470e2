"""How an artifact is made: built and packed, then proved as it is packed, and described.

Both steps are functions of what travels to another process or machine; what they make lies in a folder that all share
until it comes to its place.
"""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
from pathlib import Path
import shutil
import time

from hubexport.batch import BuildOptions, BuildOrder, build_batch
from hubexport.errors import CheckpointError, HubexportError, ModuleError
from hubexport.formats.manifest import Manifest, read_manifest
from hubexport.progress import Progress, Warnings
from hubexport.release.artifact_inputs import checkpoint_digests
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
from hubexport.release.packing import pack
from hubexport.release.pages import model_card, module_page
from hubexport.release.plan import PlannedArtifact, ReleaseOptions
from hubexport.release.slsa_provenance import statement
from hubexport.system.atomic_output import write_failures_reported
from hubexport.verify.result import Verification
from hubexport.verify.verify_module import verify_module

# What this check measures are random numbers: they differ from one verification to the next.
_DRAWN_AT_RANDOM = {"behaviour.dropout"}


@dataclasses.dataclass(frozen=True)
class ArtifactTask:
    """Artifacts of one variant that shall be made.

    Attributes:
        items: which; all of one variant, with the same inputs.
        checkpoint: what `hubexport build` is told.
        recipe: how.
        folder: where they are put.
    """

    items: tuple[PlannedArtifact, ...]
    checkpoint: str
    recipe: ReleaseOptions
    folder: Path


@dataclasses.dataclass(frozen=True)
class PackedModule:
    """A module in its archive, of which nothing is known yet.

    Attributes:
        item: which.
        task: what it belongs to.
        archive: where it is.
        values: where its values come from.
        seconds: what it took to build and pack it, by stage.
    """

    item: PlannedArtifact
    task: ArtifactTask
    archive: Path
    values: ValuesOrigin
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class MadeArtifact:
    """An artifact with all its files, not yet in its place.

    Attributes:
        item: which.
        record: what there is to say of it.
        staged: where its files are, by their paths in the release; its record comes last.
        seconds: what it took, by stage.
    """

    item: PlannedArtifact
    record: ArtifactRecord
    staged: dict[str, Path]
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class FailedArtifact:
    """An artifact that could not be made, and why."""

    item: PlannedArtifact
    error: HubexportError
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def build(task: ArtifactTask, progress: Progress) -> list[PackedModule | FailedArtifact]:
    """Builds and packs the modules of one variant, all from one reading of its checkpoint.

    Returns:
        One result an item; one module's failure stops no other.
    """
    variant = task.items[0].variant
    modules = {item.spec: item for item in task.items}
    folder = task.folder / "modules"
    # A process that was killed may have left some.
    for spec in modules:
        shutil.rmtree(folder / variant.handle(spec), ignore_errors=True)
    options = BuildOptions(task.checkpoint, task.recipe.weights, folder, downloads=task.recipe.downloads)
    progress.step(f"building {variant.name}")
    outcomes = build_batch([BuildOrder(variant, tuple(modules))], options, progress=Warnings(progress))
    results: list[PackedModule | FailedArtifact] = []
    for item, outcome in zip(task.items, outcomes, strict=True):
        try:
            if isinstance(outcome.result, HubexportError):
                raise outcome.result
            results.append(_pack(item, task, outcome.result, outcome.seconds))
        except HubexportError as error:
            results.append(FailedArtifact(item, error, {"build": outcome.seconds}))
    return _unless_changed(task, results)


def _pack(item: PlannedArtifact, task: ArtifactTask, module: Path, build_seconds: float) -> PackedModule:
    started = time.monotonic()
    archive = _staged(task, item, "archive")
    manifest = read_manifest(module)
    assert manifest and item.inputs, "hubexport has just written it, for what is planned"
    if manifest.checkpoint.model_dump(exclude_none=True) != item.inputs.checkpoint:
        raise _changed(task)
    with write_failures_reported(f"cannot pack {item.handle}", archive, "choose another --output_dir"):
        archive.parent.mkdir(parents=True, exist_ok=True)
        pack(module, archive, mtime=item.inputs.source_date_epoch)
        shutil.rmtree(module)
    seconds = {"build": build_seconds, "pack": time.monotonic() - started}
    return PackedModule(item, task, archive, _values(manifest), seconds)


def _values(manifest: Manifest) -> ValuesOrigin:
    checkpoint = manifest.checkpoint
    return ValuesOrigin(
        synthetic=manifest.values == "synthetic",
        weights=manifest.weights or "",
        source=checkpoint.source or "",
        published=bool(checkpoint.published),
    )


def _unless_changed(
    task: ArtifactTask, results: Sequence[PackedModule | FailedArtifact]
) -> list[PackedModule | FailedArtifact]:
    """Returns the results, or failures if the checkpoint is not the one any more with which the work began."""
    try:
        _check_unchanged(task)
    except HubexportError as error:
        return [
            result if isinstance(result, FailedArtifact) else FailedArtifact(result.item, error) for result in results
        ]
    return list(results)


def _check_unchanged(task: ArtifactTask) -> None:
    variant, inputs = task.items[0].variant, task.items[0].inputs
    assert inputs
    if checkpoint_digests(task.checkpoint, variant, Progress(), task.recipe.downloads) != inputs.checkpoint:
        raise _changed(task)


def _changed(task: ArtifactTask) -> CheckpointError:
    return CheckpointError(
        f"{task.checkpoint} changed while it was read",
        why="its SHA-256 differs from when the release was planned",
        fix="find out what writes to it, and run the same command again",
    )


def prove(packed: PackedModule, progress: Progress) -> MadeArtifact | FailedArtifact:
    """Verifies a module as it is packed, and writes what is published beside it."""
    started = time.monotonic()
    item, task = packed.item, packed.task
    progress.step(f"verifying {item.handle}")
    try:
        assert item.inputs
        verification = verify_module(
            str(packed.archive),
            checkpoint=task.checkpoint,
            variant=item.variant,
            spec=item.spec,
            checks=item.inputs.checks,
            progress=Warnings(progress),
        )
        seconds = {**packed.seconds, "verify": time.monotonic() - started}
        # Otherwise a module could be blamed for it, or come out of values that are nowhere any more.
        _check_unchanged(task)
        if not verification.passed:
            raise _disproved(item, verification)
        started = time.monotonic()
        with write_failures_reported(
            f"cannot write the pages of {item.handle}", task.folder, "choose another --output_dir"
        ):
            record, staged = _describe(packed, verification)
        return MadeArtifact(item, record, staged, {**seconds, "describe": time.monotonic() - started})
    except HubexportError as error:
        return FailedArtifact(item, error, {**packed.seconds, "verify": time.monotonic() - started})


def _disproved(item: PlannedArtifact, verification: Verification) -> ModuleError:
    return ModuleError(
        f"{item.handle} failed verification, and is not published",
        why=f"{len(verification.failed)} of {len(verification.results)} checks failed",
        fix="build it with `hubexport build`, and run `hubexport verify` on it",
        details=[f"{result.check}: {result.explanation}" for result in verification.failed],
    )


def _describe(packed: PackedModule, verification: Verification) -> tuple[ArtifactRecord, dict[str, Path]]:
    """Writes all files of an artifact but its archive, which is there already; its record comes last."""
    item, task = packed.item, packed.task
    assert item.inputs
    files: dict[Role, ReleaseFile] = {"archive": _file(packed.archive, item, "archive")}
    staged = {files["archive"].path: packed.archive}

    def add(role: Role, content: bytes) -> None:
        path = _staged(task, item, role)
        path.write_bytes(content)
        files[role] = _file(path, item, role)
        staged[files[role].path] = path

    facts = _facts(packed, verification, files["archive"])
    add("page", module_page(facts).encode())
    add("card", model_card(facts).encode())
    add("verification", as_json(_report(item, files["archive"], verification)))
    bill, staged_bill = _bill_of_materials(packed)
    staged[bill.path] = staged_bill
    add(
        "provenance",
        as_json(
            statement(
                item.variant,
                item.spec,
                item.inputs,
                subjects=[files[role] for role in ("archive", "page", "card")],
                byproducts=[files["verification"], bill],
                versions=verification.versions,
            )
        ),
    )
    record = _record(packed, facts, files, bill)
    path = task.folder / record_path(item.handle)
    path.write_bytes(as_json(record))
    return record, {**staged, record_path(item.handle): path}


def _staged(task: ArtifactTask, item: PlannedArtifact, role: Role) -> Path:
    return task.folder / path_in_release(item.handle, role)


def _file(path: Path, item: PlannedArtifact, role: Role) -> ReleaseFile:
    return ReleaseFile.of(path, path_in_release(item.handle, role))


def _facts(packed: PackedModule, verification: Verification, archive: ReleaseFile) -> ModuleFacts:
    item = packed.item
    assert item.inputs
    return ModuleFacts(
        variant=item.variant,
        spec=item.spec,
        url=item.inputs.url,
        values=packed.values,
        proof=VerificationProof(
            passed=sum(result.status == "pass" for result in verification.results),
            not_applicable=sum(result.status == "not applicable" for result in verification.results),
            tensorflow=verification.versions.get("TensorFlow"),
        ),
        archive_sha256=archive.sha256,
        archive_bytes=archive.bytes,
        exporter=item.inputs.exporter,
    )


def _report(item: PlannedArtifact, archive: ReleaseFile, verification: Verification) -> dict[str, object]:
    """Returns what a verification found, without what differs from one to the next: times, and random numbers."""
    told = ("check", "status", "explanation", "measured", "limit", "unit", "details")
    checks = [{name: result[name] for name in told} for result in verification.as_json()["results"]]
    for check in checks:
        if check["check"] in _DRAWN_AT_RANDOM:
            check["measured"] = None
    return {
        "handle": item.handle,
        "archive_sha256": archive.sha256,
        "passed": verification.passed,
        "checks": checks,
        "versions": dict(verification.versions),
    }


def _bill_of_materials(packed: PackedModule) -> tuple[ReleaseFile, Path]:
    """Writes the list of what is installed here; artifacts share its place, but what one writes no other relies on."""
    content, name = _this_bill()
    path = packed.task.folder / f"{packed.item.handle}.{name}"
    path.write_bytes(content)
    return ReleaseFile.of(path, name), path


@functools.cache
def _this_bill() -> tuple[bytes, str]:
    from hubexport.release.sbom import sbom  # Its library would slow down runs that find all up to date.

    content = sbom()
    return content, f"sbom-{hashlib.sha256(content).hexdigest()[:12]}.cdx.json"


def _record(
    packed: PackedModule, facts: ModuleFacts, files: dict[Role, ReleaseFile], bill: ReleaseFile
) -> ArtifactRecord:
    variant, spec = facts.variant, facts.spec
    network = variant.network_for(spec.kind)
    assert packed.item.inputs
    figures = variant.published if packed.values.published else None
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
        values="synthetic" if packed.values.synthetic else "trained",
        published=figures.model_dump(mode="json") if figures else None,
        checks=CheckSummary(**dataclasses.asdict(facts.proof)),
        inputs=packed.item.inputs,
        files={role: files[role] for role in SUFFIXES},
        sbom=bill,
    )
