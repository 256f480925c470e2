"""Converts a network's trained values from one framework's files to another's, without changing a bit of them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
import dataclasses
import os
from pathlib import Path

from hubexport.checkpoints.network_doubt import undecided_error
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint, open_checkpoint
from hubexport.checkpoints.publication import existing_files, publish_checkpoint
from hubexport.checkpoints.restore import check_classes, restore_values
from hubexport.checkpoints.sources import Source, resolve_source
from hubexport.checkpoints.stored_class_names import stored_class_names
from hubexport.checkpoints.weights_choice import Weights, check_weights
from hubexport.deployments.options import DeploymentOptions, no_probabilities_error
from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.deployments.tfjs_files import tfjs_files
from hubexport.errors import CheckpointError, OutputError, UsageError, check_choice, either
from hubexport.extras import require_extras
from hubexport.formats.conversion_writers import (
    KERAS_MODEL_SUFFIX,
    KERAS_SUFFIX,
    KERAS_WEIGHTS_SUFFIX,
    WRITERS,
    TrainedNetwork,
    huggingface_files,
)
from hubexport.formats.manifest import Manifest
from hubexport.formats.source_manifest import source_manifest
from hubexport.layouts.conversion_targets import LAYOUT_TARGETS, TARGETS, LayoutTarget, Target
from hubexport.layouts.registry import target_layouts
from hubexport.networks.endpoint_keys import EndpointRequest, endpoint_keys
from hubexport.networks.family import Family, Parameters
from hubexport.networks.network import Network
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_directory, publish_file, scratch_directory, write_failures_reported
from hubexport.system.destinations import Written, check_destination, check_sources_kept
from hubexport.system.free_space import check_free_space
from hubexport.variants import KINDS, Kind, Variant, check_variant

# Targets that are several files with a common prefix.
_PREFIXES: tuple[Target, ...] = ("slim", "tf2")
# Targets that are directories, each with the function that lists its files.
_DIRECTORIES: dict[Target, Written] = {"huggingface": huggingface_files, "tfjs": tfjs_files}

_OTHERWISE = "choose another target"
_NAME_VARIANT = "pass the variant with --variant"


def convert(
    source: str | Path,
    target: str | Path,
    to: Target,
    *,
    variant: Variant | None = None,
    weights: Weights = "auto",
    scope: str | None = None,
    kind: Kind | None = None,
    endpoints: EndpointRequest = (),
    options: DeploymentOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Converts a network's trained values.

    Args:
        source: where the values come from, see `hubexport.checkpoints.sources`.
        target: a file (`keras`, `safetensors`, `onnx`, `tflite`), a checkpoint's prefix (`slim`, `tf2`) or a directory
            (`huggingface`, `tfjs`).
        to: the names and layout of the written values: `slim` (TF-Slim's), `keras` (a whole model for Keras 3 in a
            file `.keras`; or the values of `tf.keras.applications.MobileNetV2` in a file `.h5` or `.weights.h5`),
            `safetensors` (TF-Slim's, in a safetensors file), `huggingface` (those of Hugging Face's
            `MobileNetV2ForImageClassification`), `tf2` (those of our own TF2 modules), `onnx` or `tflite` (whole models
            for inference, in files `.onnx` and `.tflite`) or `tfjs` (a graph model of TF.js: `model.json` and files of
            weights).
        variant: the variant that the values must fit. Defaults to the network that their names and shapes tell.
        weights: `auto`, `averaged` or `raw`. Ignored if the source stores one value per variable.
        scope: what the names of the network's variables begin with in the source, like `module/MobilenetV2`. Defaults
            to TF-Slim's own root scope, or else to the only one that holds all variables of a network.
        kind: `feature_vector` leaves the classifier out; `classification` requires one. Defaults to what the source
            has.
        endpoints: the keys of endpoints that a whole model gives besides its logits or features, or `all`.
        options: how to write a deployment, like `OnnxOptions()`. Defaults to those of the format.
        overwrite: replace an existing target of the same kind: a file, a checkpoint, or a directory that contains
            nothing but files of such a target.
        progress: is told of each step, and of other processes that write to the same target.
    Returns:
        The target.
    Raises:
        UsageError: the framework cannot load a file of the target's name, `to`, `weights`, `kind` or an endpoint does
            not exist, the target has no endpoints or no such options, `variant` is only a name, or the framework does
            not have the network.
        MissingExtraError: packages that the format needs are missing.
        CheckpointError: the source cannot be found or read, does not fit a network, or has no classifier.
        OutputError: the target exists already, cannot be replaced or written, or is the source.
        TemporaryFileError: there is no room to unpack the source.
    """
    check_choice("format", to, TARGETS)
    check_weights(weights)
    if kind is not None:
        check_choice("kind", kind, KINDS)
    if variant is not None:
        check_variant(variant)
    progress = progress or Progress()
    target = Path(target)
    layout = _layout_target(target, to)
    if variant is not None and layout:
        _check_format(target, layout, variant.network)
    _check_name(target, to)
    _check_options(target, to, layout, endpoints, options)
    if deployment := DEPLOYMENTS.get(to):
        if deployment.extra:
            require_extras(f"converting to {deployment.title}", deployment.extra)
        options = options or deployment.options()
        options.check_writable()
        if options.softmax and kind == "feature_vector":
            raise no_probabilities_error()
    with _write_failures_reported(target):
        _check_place(target, to, overwrite)
    resolved = resolve_source(source, variant, progress, scope=scope)
    check_sources_kept(target, existing_files(target) if to in _PREFIXES else [target], resolved.paths)
    with open_checkpoint(resolved, progress, variant) as opened:
        manifest = source_manifest(resolved, opened)
        network, family, parameters = _network(opened, variant, kind, manifest, any_size=deployment is not None)
        if layout:
            _check_format(target, layout, family.name)
        else:
            _check_certain(opened)
        keys = endpoint_keys(network, family, endpoints)
        check_classes(opened)
        restored = restore_values(opened, network.variables, weights, progress)
        if network.logits is None and kind is None:
            progress.warn(f"{source} has no classifier: the result gives feature vectors only")
        check_free_space(
            target.parent, sum(value.nbytes for value in restored.values.values()), _what(target), _OTHERWISE
        )
        progress.step(f"writing {target}")
        with _write_failures_reported(target), scratch_directory(target.parent) as scratch:
            staged = scratch / target.name
            labels = _class_names(resolved, opened, variant, network, progress)
            name = _name(variant, family, manifest)
            trained = TrainedNetwork(name, network, parameters, restored.values, labels, keys, options, progress)
            WRITERS[to](staged, trained)
            restored.check_finite()  # The source may have changed since it was checked.
            if to in _PREFIXES:
                publish_checkpoint(staged, target, overwrite=overwrite, progress=progress)
            elif to in _DIRECTORIES:
                publish_directory(staged, target, overwrite=overwrite)
            else:
                publish_file(staged, target, overwrite=overwrite)
    return target


def _layout_target(target: Path, to: Target) -> LayoutTarget | None:
    """Returns the format whose layouts the target's values have; None for a whole model, which takes any network."""
    if to == "keras" and target.suffix == KERAS_MODEL_SUFFIX:
        return None
    return next((one for one in LAYOUT_TARGETS if one == to), None)


def _check_name(target: Path, to: Target) -> None:
    if target.name in ("", ".."):
        raise UsageError(
            f"{target}: not a valid target",
            why="it has no file name",
            fix="use the path of a file, prefix or directory in it",
        )
    deployment = DEPLOYMENTS.get(to)
    if deployment and deployment.suffix is None and target.name == deployment.file:
        raise UsageError(
            f"{target}: not a name for {deployment.title} models",
            why=f"such a model is a folder, and {deployment.file} is one of the files in it",
            fix="use the path of the folder",
        )
    if deployment and deployment.suffix not in (None, target.suffix):
        raise UsageError(
            f"{target}: not a name for {deployment.title} models",
            why=f"{deployment.readers} and other programs go by how the file's name ends",
            fix=f"use a name that ends in {deployment.suffix}",
        )


def _check_options(
    target: Path,
    to: Target,
    layout: LayoutTarget | None,
    endpoints: EndpointRequest,
    options: DeploymentOptions | None,
) -> None:
    """Refuses what only other formats have."""
    if endpoints and layout:
        raise UsageError(
            f"{target}: {to} files have no endpoints",
            why="they hold values alone, not a model with outputs",
            fix=f"convert to {either([*DEPLOYMENTS])}, or to keras with a target that ends in {KERAS_MODEL_SUFFIX}, or "
            "leave the endpoints out",
        )
    deployment = DEPLOYMENTS.get(to)
    if options is not None and not (deployment and type(options) is deployment.options):
        raise UsageError(
            f"{target}: {to} files are not written by {type(options).__name__}",
            why="each deployment format has options of its own",
            fix=f"pass {deployment.options.__name__}" if deployment else "leave them out",
        )


def _check_format(target: Path, to: LayoutTarget, network_name: str) -> None:
    """Refuses a network that the format does not have, and names by which a framework would not know the format."""
    target_layouts(to, network_name)
    if to == "keras" and target.suffix != KERAS_SUFFIX:
        raise UsageError(
            f"{target}: Keras cannot load weights from a file of this name",
            why="Keras goes by how the file's name ends",
            fix=f"use a name that ends in {KERAS_SUFFIX}, in {KERAS_WEIGHTS_SUFFIX} for Keras 2.12 and newer, or in "
            f"{KERAS_MODEL_SUFFIX} for a whole model of Keras 3",
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


def _network(
    opened: OpenedCheckpoint, variant: Variant | None, kind: Kind | None, manifest: Manifest | None, *, any_size: bool
) -> tuple[Network, Family, Parameters]:
    """Returns the network of the values, with its classifier if they have one and it is wanted; family, parameters.

    With `any_size`, it takes images of any size if the values come from a module that does.
    """
    recognition = opened.recognition
    headless = recognition is not None and recognition.num_classes is None
    if headless and kind == "classification":
        raise CheckpointError(
            f"cannot convert {opened.shown_as} for classification",
            why="it has no classifier",
            fix="leave the kind out, or use a source with a classifier",
        )
    headless = headless or kind == "feature_vector"
    if variant:
        version = _version(variant.family, manifest) if any_size else None
        network = variant.network_for("feature_vector" if headless else "classification", version)
        return network, variant.family, variant.family_parameters
    if recognition and recognition.others:
        raise undecided_error(opened, "convert", _NAME_VARIANT)
    if recognition:
        family = recognition.likely_families[0]
        size = opened.image_size or _size(family, manifest)
        version = _version(family, manifest) if any_size else None
        kept = dataclasses.replace(recognition, num_classes=None) if headless else recognition
        network = kept.network(size, version) if size else kept.network(version=version)
        return network, family, recognition.parameters
    raise opened.unrecognized_error()


def _version(family: Family, manifest: Manifest | None) -> int | None:
    """Returns the version of the module that holds the values; None if that is unknown."""
    if manifest is None or manifest.network != family.name or manifest.version not in family.versions:
        return None
    return manifest.version


def _size(family: Family, manifest: Manifest | None) -> int | None:
    """Returns the height and width of the images of the module that holds the values; None if that is unknown."""
    if manifest is None or manifest.network != family.name or manifest.input_height_px != manifest.input_width_px:
        return None
    size = manifest.input_height_px
    return None if size is None or family.size_problem(size) else size


def _name(variant: Variant | None, family: Family, manifest: Manifest | None) -> str:
    """Returns the name of the variant that is asked for, or of which the module says that it is."""
    if variant:
        return variant.name
    named = manifest.variant if manifest and manifest.network == family.name else None
    return named or family.name


def _check_certain(opened: OpenedCheckpoint) -> None:
    """Refuses values that fit several networks: a model is one of them."""
    if not opened.variant and opened.recognition and opened.recognition.alike:
        raise undecided_error(opened, "convert", _NAME_VARIANT)


def _class_names(
    source: Source, opened: OpenedCheckpoint, variant: Variant | None, network: Network, progress: Progress
) -> Sequence[str] | None:
    """Returns the names of a network's classes: those of its variant, or else those that come with the values."""
    if network.num_classes is None:
        return None
    if variant and variant.labels:
        return variant.class_names()
    return stored_class_names(source, opened, network.num_classes, progress)


def _what(target: Path) -> str:
    return f"cannot write {target}"


def _write_failures_reported(target: Path) -> AbstractContextManager[None]:
    return write_failures_reported(_what(target), target, _OTHERWISE)
