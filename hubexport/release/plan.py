"""Plans a release: which artifacts have to be made, and why, judging by the files that exist."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Literal

from hubexport.build import BuildOrder
from hubexport.checkpoints.checkpoint_choice import checkpoint_for
from hubexport.errors import HubexportError, ReleaseError
from hubexport.progress import Progress
from hubexport.release.artifact_inputs import (
    CONTENT,
    ArtifactInputs,
    checkpoint_provenance,
    checks_of,
    inputs_of,
    pinned_variant,
    unpinned_error,
)
from hubexport.release.facts import RESULTS
from hubexport.release.index import ArtifactRecord, ReleaseIndex, read_record
from hubexport.release.options import ReleaseOptions
from hubexport.release.result_files import check_all_used
from hubexport.system.digests import file_sha256
from hubexport.variants import ModuleSpec, Variant

# What a run does with an artifact:
#   make        build, verify and pack it
#   list        only add it to the index: an earlier run finished it, but was stopped before it published
#   up to date  nothing: it is published, and would come out the same
#   keep        nothing: it is published, and would come out with the same content, but described or proved differently
#   refuse      report an error: it cannot be made, or must not be
Action = Literal["make", "list", "up to date", "keep", "refuse"]

# What users call the attributes of ArtifactInputs.
_INPUT_NAMES = {
    "network": "the config",
    "checkpoint": "the checkpoint",
    "weights": "--weights",
    "description": "the description in its config",
    "url": "--url",
    "exporter": "hubexport's version",
    "program": "hubexport's code",
    "deployment": "the deployment's options, or the packages that write it",
    "compressor": "the compressor",
    "checks": "the selected checks",
    "graph_checks": "the selected checks",
    "source_date_epoch": "SOURCE_DATE_EPOCH",
    **{name: f"the {title}" for name, title in RESULTS.items()},
}


@dataclasses.dataclass(frozen=True)
class PlannedArtifact:
    """One artifact of a plan.

    Attributes:
        variant: the module's variant, with the SHA-256 of its published archive if that is known.
        spec: the module's kind and version.
        action: what the run does with the artifact.
        why: the reason, in a few words.
        inputs: what it would be made from now; None if that cannot be found out.
        record: the record of the finished artifact; None if there is none, or it is to be replaced.
        error: why the artifact is refused.
    """

    variant: Variant
    spec: ModuleSpec
    action: Action
    why: str
    inputs: ArtifactInputs | None = None
    record: ArtifactRecord | None = None
    error: HubexportError | None = None

    @property
    def handle(self) -> str:
        """Like `google/imagenet/mobilenet_v2_075_192/feature_vector/2`."""
        return self.variant.handle(self.spec)


def make_plan(
    orders: Sequence[BuildOrder],
    options: ReleaseOptions,
    directory: Path,
    index: ReleaseIndex | None,
    progress: Progress,
) -> list[PlannedArtifact]:
    """Compares what is wanted with what exists. This imports no TensorFlow.

    It downloads nothing but published archives of unknown SHA-256, if the options accept them.

    Args:
        orders: the modules to release, at most one order per variant.
        options: how to make them.
        directory: the release's folder, which need not exist.
        index: what is published there; None if nothing is.
        progress: is told of each variant.
    Returns:
        All artifacts, in the order of `orders`.
    Raises:
        UsageError: a result is of something that is none of them, or the options select no check for one of them.
    """
    for order in orders:
        for spec in order.modules:
            checks_of(order.variant, spec, options)
    handles = {order.variant.handle(spec) for order in orders for spec in order.modules}
    for name in RESULTS:
        check_all_used(name, getattr(options, name), handles)
    published = {record.handle: record for record in index.artifacts} if index else {}
    plan: list[PlannedArtifact] = []
    progress.step(f"looking for finished artifacts in {directory}")
    for count, order in enumerate(orders, start=1):
        progress.count(count, len(orders))
        variant = order.variant
        try:
            text = checkpoint_for(variant, options.checkpoint)
            variant = pinned_variant(variant, text, options, progress)
            checkpoint = checkpoint_provenance(text, variant, progress, options.downloads, options.scope)
            if checkpoint.get("published") and variant is not order.variant and not options.accept_unpinned:
                raise unpinned_error(order.variant, checkpoint["sha256"])
            inputs_by_spec = {spec: inputs_of(variant, spec, checkpoint, options) for spec in order.modules}
        except HubexportError as error:
            plan += [PlannedArtifact(variant, spec, "refuse", error.what, error=error) for spec in order.modules]
            continue
        for spec, inputs in inputs_by_spec.items():
            if record := published.get(variant.handle(spec)):
                plan.append(_plan_published(variant, spec, inputs, record, directory))
            else:
                plan.append(_plan_unpublished(variant, spec, inputs, directory))
    return plan


def _plan_unpublished(variant: Variant, spec: ModuleSpec, inputs: ArtifactInputs, directory: Path) -> PlannedArtifact:
    artifact = PlannedArtifact(variant, spec, "make", "new", inputs)
    record = read_record(directory, artifact.handle)
    if record is None:
        return artifact
    if differing := inputs.differing(record.inputs):
        why = f"an unfinished run used different inputs: {_listed(differing)}"
        return dataclasses.replace(artifact, why=why)
    # Nobody relies on these files yet, so their digests are worth the time.
    if damage := _damage(record, directory, with_digests=True):
        return dataclasses.replace(artifact, why=damage[0])
    return dataclasses.replace(artifact, action="list", why="finished by an interrupted run", record=record)


def _plan_published(
    variant: Variant, spec: ModuleSpec, inputs: ArtifactInputs, record: ArtifactRecord, directory: Path
) -> PlannedArtifact:
    artifact = PlannedArtifact(variant, spec, "up to date", "no input changed", inputs, record)
    differing = inputs.differing(record.inputs)
    if changed := [name for name in differing if name in CONTENT and not _gives_the_same(name, inputs, record.inputs)]:
        return _refused(
            artifact,
            ReleaseError(
                f"{artifact.handle} is already published",
                why=f"its content would change because of {_listed(changed)}, and published modules never change",
                fix="release it as an unpublished version, or into another --output-dir",
            ),
        )
    damage = _damage(record, directory, with_digests=False)
    if damage and differing:
        return _refused(
            artifact,
            ReleaseError(
                f"{artifact.handle} is damaged, and cannot be rebuilt as it was",
                why=f"{damage[0]}; {_listed(differing)} changed since it was made",
                fix="restore its files from a copy, or rebuild it from the inputs that its provenance lists",
                details=damage[1:],
            ),
        )
    if damage:
        return dataclasses.replace(artifact, action="make", why=f"published, but {damage[0]}")
    if differing:
        return dataclasses.replace(artifact, action="keep", why=f"published before {_listed(differing)} changed")
    return artifact


def _gives_the_same(name: str, inputs: ArtifactInputs, others: ArtifactInputs) -> bool:
    """Tells whether different values of an input that decides the content give the same content."""
    # With `averaged`, a build fails where there are no averages; otherwise it does the same as with `auto`.
    return name == "weights" and "raw" not in (inputs.weights, others.weights)


def _refused(artifact: PlannedArtifact, error: ReleaseError) -> PlannedArtifact:
    return dataclasses.replace(artifact, action="refuse", why=error.why, error=error)


def _damage(record: ArtifactRecord, directory: Path, *, with_digests: bool) -> list[str]:
    """Returns which of an artifact's files are missing, or not as its record says."""
    damage = []
    for file in record.all_files():
        path = directory / file.path
        try:
            size = path.lstat().st_size
        except OSError as error:
            damage.append(f"{file.path}: {error.strerror}")
            continue
        if size != file.bytes:
            damage.append(f"{file.path} has {size} bytes, expected {file.bytes}")
        elif with_digests and file_sha256(path) != file.sha256:
            damage.append(f"{file.path} has changed")
    return damage


def _listed(inputs: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(_INPUT_NAMES[name] for name in inputs))
