"""Takes a network's trained values from one framework's files to another's, without changing a bit of them."""

from contextlib import AbstractContextManager
import os
from pathlib import Path

from hubexport.checkpoints.open_checkpoint import opened_checkpoint, read_values, restore, unrecognized_error
from hubexport.checkpoints.publication import publish_checkpoint, standing_files
from hubexport.checkpoints.sources import (
    Source,
    SyntheticSource,
    Weights,
    check_weights,
    resolve_source,
)
from hubexport.errors import CheckpointError, OutputError, UsageError, check_choice
from hubexport.formats.conversion_writers import (
    KERAS_SUFFIX,
    KERAS_WEIGHTS_SUFFIX,
    WRITERS,
    TrainedNetwork,
    huggingface_files,
)
from hubexport.layouts.conversion_targets import TARGETS, Target
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_directory, publish_file, scratch_directory, write_failures_reported
from hubexport.system.destinations import Written, check_destination, check_sources_kept
from hubexport.variants import Variant, check_variant

# Those that are a checkpoint of several files, named by their prefix.
_PREFIXES: tuple[Target, ...] = ("slim", "tf2")
# Those that are a directory, and what of one is theirs.
_DIRECTORIES: dict[Target, Written] = {"huggingface": huggingface_files}


def convert(
    source: str | Path,
    target: str | Path,
    to: Target,
    *,
    variant: Variant | None = None,
    weights: Weights = "averaged",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Converts a network's trained values.

    Args:
        source: see `hubexport.checkpoints.sources`.
        target: a file (`keras`, `safetensors`), a checkpoint's prefix (`slim`, `tf2`) or a directory (`huggingface`).
        to: whose names and layout the values get: TF-Slim's, those of `tf.keras.applications.MobileNetV2` (of `.h5` or
            `.weights.h5`, as the target's name ends), TF-Slim's in a safetensors file, those of Hugging Face's
            `MobileNetV2ForImageClassification`, or those of our own TF2 modules.
        variant: what the values must be of; None takes what their names and shapes tell.
        weights: of a training's checkpoint, the `averaged` or the `raw` values.
        overwrite: replace what stands at the target, if it is of the same kind: a file, a checkpoint, or a directory
            with nothing but Hugging Face's files.
        progress: hears of each step, and of other processes that write to the same place.
    Returns:
        The target.
    Raises:
        UsageError: the target's name is none that the framework would load, `to` or `weights` does not exist, or
            `variant` is only a name.
        CheckpointError: the source cannot be found, read or fitted to a network.
        OutputError: something stands at the target already, it cannot be replaced or written, or it is the source.
        TemporaryFileError: the source has to be unpacked, and there is no room for that.
    """
    check_choice("format", to, TARGETS)
    check_weights(weights)
    if variant is not None:
        check_variant(variant)
    progress = progress or Progress()
    target = Path(target)
    _check_target(target, to)
    with _write_failures_reported(target):
        _check_place(target, to, overwrite)
    found = resolve_source(source, variant, progress)
    check_sources_kept(target, standing_files(target) if to in _PREFIXES else [target], found.paths)
    trained = _read(found, weights, variant, progress)
    if trained.network.logits is None:
        progress.warn(f"{source} has no classifier: the result gives feature vectors only")
    progress.step(f"writing {target}")
    with _write_failures_reported(target), scratch_directory(target.parent) as scratch:
        staged = scratch / target.name
        WRITERS[to](staged, trained)
        if to in _PREFIXES:
            publish_checkpoint(staged, target, overwrite=overwrite, progress=progress)
        elif to in _DIRECTORIES:
            publish_directory(staged, target, overwrite=overwrite)
        else:
            publish_file(staged, target, overwrite=overwrite)
    return target


def _check_target(target: Path, to: Target) -> None:
    if target.name in ("", ".."):
        raise UsageError(
            f"{target}: not a valid target",
            why="it has no file name",
            fix="use the path of a file, prefix or directory in it",
        )
    if to == "keras" and target.suffix != KERAS_SUFFIX:
        raise UsageError(
            f"{target}: Keras cannot load weights from a file of this name",
            why="Keras goes by how the file's name ends",
            fix=f"use a name that ends in {KERAS_SUFFIX}, or in {KERAS_WEIGHTS_SUFFIX} for Keras 2.12 and newer",
        )


def _check_place(target: Path, to: Target, overwrite: bool) -> None:
    """Finds out early what keeps the result from its place."""
    if to not in _PREFIXES:
        check_destination(target, overwrite=overwrite, written=_DIRECTORIES.get(to))
        return
    if os.path.lexists(target):
        raise OutputError(
            f"cannot write {target}",
            why="a file or folder with that name exists, and would be read in place of the checkpoint",
            fix="choose another prefix",
        )
    for path in standing_files(target):
        check_destination(path, overwrite=overwrite)


def _read(source: Source, weights: Weights, variant: Variant | None, progress: Progress) -> TrainedNetwork:
    if isinstance(source, SyntheticSource):
        if variant is None:
            raise CheckpointError(
                "synthetic values need a variant", why="they fit any network", fix="add --variant NAME"
            )
        network, multiplier = variant.network_for("classification"), variant.depth_multiplier
        restored = read_values(source, network.variables, weights, variant, progress)
        return TrainedNetwork(network, multiplier, restored.values, variant.class_names())
    with opened_checkpoint(source, progress, [variant.depth_multiplier] if variant else []) as opened:
        found = opened.recognition
        if variant:
            headless = found is not None and found.num_classes is None
            network = variant.network_for("feature_vector" if headless else "classification")
            multiplier, labels = variant.depth_multiplier, variant.class_names()
        elif found:
            size = opened.settings and opened.settings.image_size
            network = found.network(size) if size else found.network()
            multiplier, labels = found.depth_multiplier, None
        else:
            raise unrecognized_error(opened, source.shown_as)
        restored = restore(opened, source.shown_as, network.variables, weights, variant, progress)
    return TrainedNetwork(network, multiplier, restored.values, labels)


def _write_failures_reported(target: Path) -> AbstractContextManager[None]:
    return write_failures_reported(f"cannot write {target}", target, "choose another target")
