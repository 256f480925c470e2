"""Converts a network's trained values from one framework's files to another's, without changing a bit of them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
import os
from pathlib import Path

from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint, open_checkpoint
from hubexport.checkpoints.publication import existing_files, publish_checkpoint
from hubexport.checkpoints.restore import check_classes, restore_values
from hubexport.checkpoints.sources import Source, resolve_source
from hubexport.checkpoints.weights_choice import Weights, check_weights
from hubexport.errors import CheckpointError, OutputError, UsageError, check_choice
from hubexport.formats.conversion_writers import (
    KERAS_SUFFIX,
    KERAS_WEIGHTS_SUFFIX,
    WRITERS,
    TrainedNetwork,
    huggingface_files,
)
from hubexport.layouts.conversion_targets import TARGETS, Target
from hubexport.layouts.registry import target_layouts
from hubexport.networks.family import Family, Parameters
from hubexport.networks.network import Network
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_directory, publish_file, scratch_directory, write_failures_reported
from hubexport.system.destinations import Written, check_destination, check_sources_kept
from hubexport.system.free_space import check_free_space
from hubexport.variants import Variant, check_variant

# Targets that are several files with a common prefix.
_PREFIXES: tuple[Target, ...] = ("slim", "tf2")
# Targets that are directories, each with the function that lists its files.
_DIRECTORIES: dict[Target, Written] = {"huggingface": huggingface_files}

_OTHERWISE = "choose another target"


def convert(
    source: str | Path,
    target: str | Path,
    to: Target,
    *,
    variant: Variant | None = None,
    weights: Weights = "auto",
    scope: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Converts a network's trained values.

    Args:
        source: where the values come from, see `hubexport.checkpoints.sources`.
        target: a file (`keras`, `safetensors`), a checkpoint's prefix (`slim`, `tf2`) or a directory (`huggingface`).
        to: the names and layout of the written values: `slim` (TF-Slim's), `keras` (those of
            `tf.keras.applications.MobileNetV2`, in the format of `.h5` or of `.weights.h5` by the target's name),
            `safetensors` (TF-Slim's, in a safetensors file), `huggingface` (those of Hugging Face's
            `MobileNetV2ForImageClassification`) or `tf2` (those of our own TF2 modules).
        variant: the variant that the values must fit. Defaults to the network that their names and shapes tell.
        weights: `auto`, `averaged` or `raw`. Ignored if the source stores one value per variable.
        scope: what the names of the network's variables begin with in the source, like `module/MobilenetV2`. Defaults
            to TF-Slim's own root scope, or else to the only one that holds all variables of a network.
        overwrite: replace an existing target of the same kind: a file, a checkpoint, or a directory that contains
            nothing but Hugging Face's files.
        progress: is told of each step, and of other processes that write to the same target.
    Returns:
        The target.
    Raises:
        UsageError: the framework cannot load a file of the target's name, `to` or `weights` does not exist, or
            `variant` is only a name, or the framework does not have the network.
        CheckpointError: the source cannot be found or read, or does not fit a network.
        OutputError: the target exists already, cannot be replaced or written, or is the source.
        TemporaryFileError: there is no room to unpack the source.
    """
    check_choice("format", to, TARGETS)
    check_weights(weights)
    if variant is not None:
        check_variant(variant)
    progress = progress or Progress()
    target = Path(target)
    if variant is not None:
        target_layouts(to, variant.network)
        _check_name(target, to)
    _check_has_name(target)
    with _write_failures_reported(target):
        _check_place(target, to, overwrite)
    resolved = resolve_source(source, variant, progress, scope=scope)
    check_sources_kept(target, existing_files(target) if to in _PREFIXES else [target], resolved.paths)
    with open_checkpoint(resolved, progress, variant) as opened:
        network, family, parameters = _network(opened, variant)
        target_layouts(to, family.name)
        _check_name(target, to)
        check_classes(opened)
        restored = restore_values(opened, network.variables, weights, progress)
        if network.logits is None:
            progress.warn(f"{source} has no classifier: the result gives feature vectors only")
        check_free_space(
            target.parent, sum(value.nbytes for value in restored.values.values()), _what(target), _OTHERWISE
        )
        progress.step(f"writing {target}")
        with _write_failures_reported(target), scratch_directory(target.parent) as scratch:
            staged = scratch / target.name
            labels = _class_names(resolved, opened, variant, network, progress)
            WRITERS[to](staged, TrainedNetwork(network, parameters, restored.values, labels))
            restored.check_finite()  # The source may have changed since it was checked.
            if to in _PREFIXES:
                publish_checkpoint(staged, target, overwrite=overwrite, progress=progress)
            elif to in _DIRECTORIES:
                publish_directory(staged, target, overwrite=overwrite)
            else:
                publish_file(staged, target, overwrite=overwrite)
    return target


def _check_has_name(target: Path) -> None:
    if target.name in ("", ".."):
        raise UsageError(
            f"{target}: not a valid target",
            why="it has no file name",
            fix="use the path of a file, prefix or directory in it",
        )


def _check_name(target: Path, to: Target) -> None:
    """Refuses names by which a framework would not know its format. A network that it does not have comes first."""
    if to == "keras" and target.suffix != KERAS_SUFFIX:
        raise UsageError(
            f"{target}: Keras cannot load weights from a file of this name",
            why="Keras goes by how the file's name ends",
            fix=f"use a name that ends in {KERAS_SUFFIX}, or in {KERAS_WEIGHTS_SUFFIX} for Keras 2.12 and newer",
        )


def _check_place(target: Path, to: Target, overwrite: bool) -> None:
    """Finds out early what would keep the result from its place."""
    if to not in _PREFIXES:
        check_destination(target, overwrite=overwrite, written=_DIRECTORIES.get(to))
        return
    if os.path.lexists(target):
        raise OutputError(
            f"cannot write {target}",
            why="a file or folder with that name exists, and would be read in place of the checkpoint",
            fix="choose another prefix",
        )
    for path in existing_files(target):
        check_destination(path, overwrite=overwrite)


def _network(opened: OpenedCheckpoint, variant: Variant | None) -> tuple[Network, Family, Parameters]:
    """Returns the network of the values, with its classifier if they have one; its family and parameters."""
    recognition = opened.recognition
    if variant:
        headless = recognition is not None and recognition.num_classes is None
        network = variant.network_for("feature_vector" if headless else "classification")
        return network, variant.family, variant.family_parameters
    if recognition and recognition.others:
        titles = " and ".join(one.family.title for one in (recognition, *recognition.others))
        raise CheckpointError(
            f"cannot tell which network of {opened.shown_as} to convert",
            why=f"it holds all variables of {titles}",
            fix="pass the variant with --variant",
        )
    if recognition:
        size = opened.settings and opened.settings.image_size
        network = recognition.network(size) if size else recognition.network()
        return network, recognition.likely_families[0], recognition.parameters
    raise opened.unrecognized_error()


def _class_names(
    source: Source, opened: OpenedCheckpoint, variant: Variant | None, network: Network, progress: Progress
) -> Sequence[str] | None:
    """Returns the names of a network's classes: those of its variant, or else those that come with the values."""
    if network.num_classes is None:
        return None
    if variant and variant.labels:
        return variant.class_names()
    try:
        settings = opened.settings and opened.settings.config
        names = settings.class_names if settings else source.class_names()
    except UsageError as error:
        progress.warn(f"leaving out the names of the classes: {error.what}: {error.why}")
        return None
    if names is not None and len(names) != network.num_classes:
        progress.warn(
            f"leaving out the names of the classes: {source.shown_as} has {len(names):,} for {network.num_classes:,}"
        )
        return None
    return names


def _what(target: Path) -> str:
    return f"cannot write {target}"


def _write_failures_reported(target: Path) -> AbstractContextManager[None]:
    return write_failures_reported(_what(target), target, _OTHERWISE)
