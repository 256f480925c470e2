"""What a release has to do, told from what is there: which artifacts are to be made, and why."""

from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
from typing import Any, Literal

from hubexport.batch import BuildOrder
from hubexport.checkpoints.download_cache import Downloads
from hubexport.checkpoints.sources import Weights, check_weights
from hubexport.errors import HubexportError, ReleaseError
from hubexport.progress import Progress
from hubexport.release.artifact_inputs import CONTENT, ArtifactInputs, checkpoint_digests, checkpoint_of, inputs_of
from hubexport.release.index import ArtifactRecord, ReleaseIndex, read_record
from hubexport.system.digests import file_sha256
from hubexport.variants import ModuleSpec, Variant
from hubexport.verify.checks.registry import select_checks

# What becomes of an artifact:
#   make        build, prove and pack it
#   list        it is finished, by a run that did not come to its end, and has to be listed only
#   up to date  it is published, and would come out the same
#   keep        it is published, and would come out with the same content, but in another way
#   refuse      it cannot be made, or must not be
Action = Literal["make", "list", "up to date", "keep", "refuse"]

# For people, of the attributes of Inputs.
_CALLED = {
    "network": "the config",
    "checkpoint": "the checkpoint",
    "weights": "--weights",
    "description": "the description in its config",
    "url": "--url",
    "exporter": "hubexport's version",
    "program": "hubexport's code",
    "compressor": "the compressor",
    "checks": "the selected checks",
    "source_date_epoch": "SOURCE_DATE_EPOCH",
}


@dataclasses.dataclass(frozen=True)
class ReleaseOptions:
    """How all artifacts of a release shall be made.

    Attributes:
        checkpoint: where values come from, see `hubexport.release.artifact_inputs.checkpoint_of`. Defaults to the
            published archives, which are downloaded.
        weights: `averaged` or `raw`.
        url: where the release will be served, without a slash at the end.
        checks: those that a module has to pass, as `select_checks` takes them; empty means all.
        source_date_epoch: the time that files in archives carry, in seconds since 1970.
        downloads: where published archives are looked for, and fetched from.
    Raises:
        UsageError: `weights` is neither `averaged` nor `raw`, or there is no such check.
    """

    checkpoint: str | Path | None = None
    weights: Weights = "averaged"
    url: str = "https://tfhub.dev"
    checks: tuple[str, ...] = ()
    source_date_epoch: int = 0
    downloads: Downloads = Downloads()

    def __post_init__(self) -> None:
        check_weights(self.weights)
        select_checks(self.checks)


@dataclasses.dataclass(frozen=True)
class PlannedArtifact:
    """One artifact of a plan.

    Attributes:
        variant: what it is, or will be, made of.
        spec: its kind and version.
        action: what becomes of it.
        why: a few words.
        inputs: what it would be made from now; None if that cannot be told.
        record: of what is finished; None where there is nothing that stays.
        error: why it is refused.
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
    recipe: ReleaseOptions,
    directory: Path,
    index: ReleaseIndex | None,
    progress: Progress,
) -> list[PlannedArtifact]:
    """Compares what is wanted with what is there. This imports no TensorFlow and downloads nothing.

    Args:
        orders: what is wanted; each variant once.
        recipe: how.
        directory: the release's, which need not exist.
        index: what is published there; None if nothing is.
        progress: hears of each variant.
    Returns:
        All artifacts, in the order asked for.
    """
    published = {record.handle: record for record in index.artifacts} if index else {}
    items = []
    progress.step(f"looking for finished artifacts in {directory}")
    for count, order in enumerate(orders, start=1):
        progress.count(count, len(orders))
        items += _plan_variant(order, recipe, directory, published, progress)
    return items


def _plan_variant(
    order: BuildOrder,
    recipe: ReleaseOptions,
    directory: Path,
    published: Mapping[str, ArtifactRecord],
    progress: Progress,
) -> list[PlannedArtifact]:
    try:
        inputs = _inputs(order.variant, recipe, progress)
    except HubexportError as error:
        return [PlannedArtifact(order.variant, spec, "refuse", error.what, error=error) for spec in order.modules]
    return [_plan_one(order.variant, spec, inputs, directory, published) for spec in order.modules]


def _inputs(variant: Variant, recipe: ReleaseOptions, progress: Progress) -> ArtifactInputs:
    text = checkpoint_of(recipe.checkpoint, variant)
    checkpoint: dict[str, Any] = checkpoint_digests(text, variant, progress, recipe.downloads)
    return inputs_of(
        variant,
        checkpoint,
        weights=recipe.weights,
        url=recipe.url,
        checks=[check.name for check in select_checks(recipe.checks)],
        source_date_epoch=recipe.source_date_epoch,
    )


def _plan_one(
    variant: Variant, spec: ModuleSpec, inputs: ArtifactInputs, directory: Path, published: Mapping[str, ArtifactRecord]
) -> PlannedArtifact:
    handle = variant.handle(spec)
    if handle in published:
        return _plan_published(PlannedArtifact(variant, spec, "up to date", "", inputs, published[handle]), directory)
    record = read_record(directory, handle)
    if record is None:
        return PlannedArtifact(variant, spec, "make", "new", inputs)
    if differing := inputs.differing(record.inputs):
        return PlannedArtifact(
            variant, spec, "make", f"an unfinished run used different inputs: {_called(differing)}", inputs
        )
    # Nobody has promised these yet, so that they are looked at closely.
    if missing := _wrong_files(record, directory, with_digests=True):
        return PlannedArtifact(variant, spec, "make", missing[0], inputs)
    return PlannedArtifact(variant, spec, "list", "finished by an interrupted run", inputs, record)


def _plan_published(item: PlannedArtifact, directory: Path) -> PlannedArtifact:
    assert item.inputs and item.record
    differing = item.inputs.differing(item.record.inputs)
    if changed := [name for name in differing if name in CONTENT]:
        error = _content_changed(item, changed)
        return dataclasses.replace(item, action="refuse", why=error.why, error=error)
    wrong = _wrong_files(item.record, directory, with_digests=False)
    if wrong and differing:
        error = _beyond_repair(item, wrong, differing)
        return dataclasses.replace(item, action="refuse", why=error.why, error=error)
    if wrong:
        return dataclasses.replace(item, action="make", why=f"published, but {wrong[0]}")
    if differing:
        return dataclasses.replace(item, action="keep", why=f"published before {_called(differing)} changed")
    return dataclasses.replace(item, why="no input changed")


def _wrong_files(record: ArtifactRecord, directory: Path, *, with_digests: bool) -> list[str]:
    """Returns what is missing of an artifact, or not as its record says."""
    wrong = []
    for file in (*record.all_files(), record.own_file()):
        path = directory / file.path
        try:
            size = path.lstat().st_size
        except OSError as error:
            wrong.append(f"{file.path}: {error.strerror}")
            continue
        if size != file.bytes:
            wrong.append(f"{file.path} has {size} bytes, expected {file.bytes}")
        elif with_digests and file_sha256(path) != file.sha256:
            wrong.append(f"{file.path} has changed")
    return wrong


def _called(names: Sequence[str]) -> str:
    return ", ".join(_CALLED[name] for name in names)


def _content_changed(item: PlannedArtifact, changed: Sequence[str]) -> ReleaseError:
    return ReleaseError(
        f"{item.handle} is already published",
        why=f"its content would change because of {_called(changed)}, and published modules never change",
        fix="release it as an unpublished version, or into another --output_dir",
    )


def _beyond_repair(item: PlannedArtifact, wrong: Sequence[str], differing: Sequence[str]) -> ReleaseError:
    return ReleaseError(
        f"{item.handle} is damaged, and cannot be rebuilt as it was",
        why=f"{wrong[0]}; {_called(differing)} changed since it was made",
        fix="restore its files from a copy, or rebuild it from the inputs that its provenance lists",
        details=wrong[1:],
    )
