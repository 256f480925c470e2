"""Makes artifacts: builds and packs modules, then verifies the packed modules and describes them.

Both steps are functions of values that can travel to another process or machine. Their files stay in a folder that all
of these share, until the run moves them into place.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from pathlib import Path
import shutil
import time

from hubexport.batch import build_batch
from hubexport.build import BuildOptions, BuildOrder
from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.deployment_spec import DeploymentSpec
from hubexport.errors import CheckpointError, HubexportError, ModuleError
from hubexport.formats.manifest import MANIFEST, read_manifest
from hubexport.progress import Progress, Warnings
from hubexport.release.artifact_inputs import checkpoint_provenance
from hubexport.release.artifact_tasks import ArtifactTask, FailedArtifact, MadeArtifact, PackedModule
from hubexport.release.describe_artifact import describe_artifact
from hubexport.release.facts import ValuesOrigin
from hubexport.release.packing import pack
from hubexport.release.plan import PlannedArtifact
from hubexport.release.result_files import check_values
from hubexport.release.samples import check_classes
from hubexport.system.atomic_output import write_failures_reported
from hubexport.system.digests import file_sha256
from hubexport.verify.verify_module import verify_module


def build_and_pack(task: ArtifactTask, progress: Progress) -> list[PackedModule | FailedArtifact]:
    """Builds and packs the modules of one variant, all from one reading of its checkpoint.

    Returns:
        One result per artifact; one module's failure stops no other.
    """
    variant = task.artifacts[0].variant
    folder = task.folder / "modules"
    # A process that was killed may have left modules here.
    for artifact in task.artifacts:
        shutil.rmtree(folder / artifact.handle, ignore_errors=True)
    order = BuildOrder(variant, [artifact.spec for artifact in task.artifacts])
    options = BuildOptions(
        task.checkpoint, task.options.weights, folder, downloads=task.options.downloads, scope=task.options.scope
    )
    progress.step(f"building {variant.name}")
    results: list[PackedModule | FailedArtifact] = []
    outcomes = build_batch([order], options, progress=Warnings(progress))
    for artifact, outcome in zip(task.artifacts, outcomes, strict=True):
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
    manifest = read_manifest(module)
    assert manifest, "hubexport has just written it"
    if manifest.checkpoint.model_dump(exclude_none=True) != task.checkpoint_facts:
        raise _changed(task)
    for name, result in task.options.results_of(artifact.handle).items():
        check_values(name, result, artifact.handle, manifest.sha256)
    if sample := task.options.sample.get(artifact.handle):
        check_classes(sample, artifact.variant, artifact.spec)
    values = ValuesOrigin.of(manifest, task.options.weights)
    seconds = {"build": build_seconds}
    if isinstance(artifact.spec, DeploymentSpec):
        return PackedModule(artifact, task, module, values, file_sha256(module / MANIFEST), seconds)
    archive = task.staged(artifact, "archive")
    with write_failures_reported(f"cannot pack {artifact.handle}", archive, "choose another --output-dir"):
        archive.parent.mkdir(parents=True, exist_ok=True)
        pack(module, archive, mtime=task.options.source_date_epoch)
        shutil.rmtree(module)
    seconds["pack"] = time.monotonic() - started
    return PackedModule(artifact, task, archive, values, manifest.sha256[MODULE_FILE], seconds)


def _check_unchanged(task: ArtifactTask) -> None:
    """Refuses a checkpoint that is not the planned one any more."""
    variant, options = task.artifacts[0].variant, task.options
    found = checkpoint_provenance(task.checkpoint, variant, Progress(), options.downloads, options.scope)
    if found != task.checkpoint_facts:
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
            str(packed.path),
            checkpoint=task.checkpoint,
            scope=task.options.scope,
            variant=artifact.variant,
            spec=artifact.spec,
            checks=(*packed.inputs.checks, *(() if packed.graph_proved_by else packed.inputs.graph_checks)),
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
            f"cannot write the pages of {artifact.handle}", task.folder, "choose another --output-dir"
        ):
            record, staged = describe_artifact(packed, verification)
        return MadeArtifact(artifact, record, staged, {**seconds, "describe": time.monotonic() - started})
    except HubexportError as error:
        return FailedArtifact(artifact, error, {**packed.seconds, "verify": time.monotonic() - started})


def ready_to_verify(
    packed_modules: Iterable[PackedModule], proved: Mapping[str, str]
) -> tuple[list[PackedModule], list[PackedModule]]:
    """Tells which packed modules can be verified now, and which wait for another one that proves their graph.

    Args:
        packed_modules: the modules.
        proved: the handles of artifacts that passed the checks of graphs, by the digests of their graphs.
    Returns:
        The modules to verify: those of proved graphs, which say by what, and the first by name of each other graph;
        and the modules that wait.
    """
    ready: list[PackedModule] = []
    waiting: list[PackedModule] = []
    firsts: set[str] = set()
    for packed in sorted(packed_modules, key=lambda packed: packed.artifact.handle):
        graph = packed.graph_sha256
        if graph in proved:
            ready.append(dataclasses.replace(packed, graph_proved_by=proved[graph]))
        elif graph not in firsts or not packed.inputs.graph_checks:
            ready.append(packed)
        else:
            waiting.append(packed)
        firsts.add(graph)
    return ready, waiting
