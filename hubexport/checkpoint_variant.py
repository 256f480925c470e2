"""Makes a variant of what a checkpoint tells about itself, so that nobody has to write its config."""

from collections.abc import Sequence
import os
from pathlib import Path

import pydantic

from hubexport.checkpoints.network_doubt import undecided_error
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint, open_checkpoint
from hubexport.checkpoints.recognize import Recognition
from hubexport.checkpoints.restore import warn_of_size
from hubexport.checkpoints.sources import FileSource, Source, resolve_source
from hubexport.checkpoints.stored_class_names import stored_class_names
from hubexport.config_files import is_builtin
from hubexport.errors import CheckpointError, HubexportError, UsageError, check_choice, check_list, check_positive
from hubexport.formats.source_manifest import source_manifest
from hubexport.labels import labels_problem, read_labels
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.modules.saved_model_interface import saved_model_interface
from hubexport.networks.family import Family, Parameters
from hubexport.networks.registry import FAMILIES
from hubexport.progress import Progress, Warnings
from hubexport.variants import (
    KINDS,
    UNKNOWN_DATASET,
    ModuleSpec,
    Variant,
    check_handle_part,
    module_spec,
    what_must_be,
)

# No tool knows who trained a checkpoint.
DEFAULT_PUBLISHER = "local"
_COLLECTION = "models"

# Every family takes images of this size.
_EXAMPLE_SIZE = 224
# Only the size of its images is asked of a module: the rest could be anything.
_ANY_USE = InterfaceHints(input_range=(0.0, 1.0), output_kind="logits")


def recognize_variant(
    checkpoint: str | Path,
    name: str,
    *,
    publisher: str = DEFAULT_PUBLISHER,
    labels: str | Path | Sequence[str] | None = None,
    image_size: int | None = None,
    network: str | None = None,
    depth_multiplier: float | None = None,
    modules: Sequence[ModuleSpec | str] = (),
    scope: str | None = None,
    progress: Progress | None = None,
) -> Variant:
    """Makes a variant of what a checkpoint tells about itself: its network, the size of its images, its classes.

    Args:
        checkpoint: the checkpoint, in any of the forms that `hubexport.checkpoints.sources` lists but made-up values.
        name: the variant's name. The handles of its modules are `PUBLISHER/models/NAME/KIND/VERSION`.
        publisher: the first part of the handles.
        labels: the names of the classes, or the path of a text file in UTF-8 with one name per line. Defaults to the
            names that come with the checkpoint, in a module or in Hugging Face's `config.json`, if there are any.
        image_size: the height and width of the images in pixels. Defaults to what the checkpoint says.
        network: the name of the network's family, like `resnet_v1_50`. It is needed where the values fit several.
        depth_multiplier: the depth multiplier, where it is none of the published ones.
        modules: the kinds and versions of the variant's modules, like `feature_vector/3`, or kinds alone. Defaults to
            both kinds, or to `feature_vector` alone if the checkpoint has no classifier, in the newest version.
        scope: what the names of the network's variables begin with in the checkpoint. Defaults to what they tell.
        progress: is told of each step.
    Returns:
        The variant, for `build_modules` and all else. `variant_yaml` writes its config.
    Raises:
        UsageError: the name, the publisher, a module, the network, its depth multiplier or the image size is not a
            possible one, the labels cannot be read or do not name the classes, or the checkpoint is made up.
        CheckpointError: the checkpoint cannot be found or read, holds no known network, another one than asked for, or
            several; it has no classifier and one is asked for; or nothing says the size of its images.
    Example:
        >>> checkpoint = "modules/google/imagenet/mobilenet_v2_035_96/classification/5"
        >>> variant = hubexport.recognize_variant(checkpoint, "birds")
        >>> variant.handle("classification/5"), variant.image_size, variant.num_classes
        ('local/models/birds/classification/5', 96, 1001)
    """
    _check_name(name)
    check_handle_part("publisher", publisher)
    check_list(modules=modules)
    requests = [str(module) for module in modules]
    for request in requests:
        if request not in KINDS:
            module_spec(request)
    if image_size is not None:
        check_positive(image_size=image_size)
    networks = _wanted_networks(network, depth_multiplier)
    progress = progress or Progress()
    source = resolve_source(checkpoint, None, progress, scope=scope)
    if source.made_up:
        raise UsageError(
            f"cannot name a variant after {source.shown_as}",
            why="made-up values fit any network, so they tell of none",
            fix="use a variant that `hubexport list` shows, with --variant in place of --name",
        )
    progress.step(f"recognizing {source.shown_as}")
    # Warnings alone: steps and notes come when the values are read.
    with open_checkpoint(source, Warnings(progress), networks=networks) as opened:
        found = _only_network(opened, network, depth_multiplier)
        kinds = KINDS if found.num_classes else ("feature_vector",)
        _check_kinds(opened, found, requests)
        fields = {
            "name": name,
            "publisher": publisher,
            "collection": _COLLECTION,
            "network": found.family.name,
            "family_parameters": found.parameters,
            "image_size": _image_size(source, opened, found.family, image_size),
            # A variant needs a number of classes, even where its network has no classifier.
            "num_classes": found.num_classes or 1,
            "dataset": UNKNOWN_DATASET,
            "labels": _labels(labels, source, opened, found.num_classes, progress),
            "modules": [f"{kind}/{found.family.versions[-1]}" for kind in kinds],
        }
        try:
            variant = Variant.model_validate(fields)
        except pydantic.ValidationError as error:
            key = error.errors(include_url=False)[0]["loc"][0]
            raise UsageError(
                f"cannot make a variant of {opened.shown_as}",
                why=f"its {key} must be {what_must_be(error)}",
                fix="name other labels, or use another checkpoint",
            ) from error
        warn_of_size(opened, variant, progress)
    if not found.num_classes and not requests:
        progress.note(
            f"{source.shown_as} has no classifier: {name} has feature vectors only, and num_classes means nothing"
        )
    return variant.model_copy(update={"modules": variant.select_modules(requests)})


def _check_name(name: str) -> None:
    check_handle_part("name", name)
    if name == "all" or is_builtin(name):
        raise UsageError(
            f"name {name!r} is taken",
            why="it stands for all variants" if name == "all" else "a built-in variant has it",
            fix="choose another name",
        )


def _wanted_networks(network: str | None, depth_multiplier: float | None) -> list[tuple[Family, Parameters]]:
    """Returns the networks to look for first: those that the caller describes, as far as that goes."""
    if network is not None:
        check_choice("network", network, list(FAMILIES))
    families = [FAMILIES[network]] if network else list(FAMILIES.values())
    if depth_multiplier is None:
        return [(family, family.published_parameters[0]) for family in families] if network else []
    given = {"depth_multiplier": depth_multiplier}
    having = [family for family in families if given.keys() <= family.parameters.model_fields.keys()]
    if not having:
        raise UsageError(
            f"{families[0].title} has no depth multiplier", why="its channels are fixed", fix="leave it out"
        )
    try:
        return [(family, family.parameters.model_validate(given)) for family in having]
    except pydantic.ValidationError as error:
        raise UsageError(
            f"{depth_multiplier!r} is not a depth multiplier",
            why=f"it must be {what_must_be(error)}",
            fix="use one like 0.6",
        ) from error


def _only_network(opened: OpenedCheckpoint, network: str | None, depth_multiplier: float | None) -> Recognition:
    """Returns the one network of a checkpoint that is wanted."""
    recognition = opened.recognition
    if recognition is None:
        raise opened.unrecognized_error("name a depth multiplier of its own with --depth-multiplier")
    suitable = [
        one
        for one in recognition.possible
        if network in (None, one.family.name)
        and depth_multiplier in (None, dict(one.parameters).get("depth_multiplier"))
    ]
    if len(suitable) > 1:
        flags = " or ".join(f"--network {one.family.name}" for one in suitable)
        raise undecided_error(opened, "build", f"say which: {flags}")
    if not suitable:
        titles = " and ".join(one.family.describe(one.parameters) for one in recognition.possible)
        raise CheckpointError(
            f"{opened.shown_as} does not hold the network that is asked for",
            why=f"this is {titles}",
            fix="leave out --network and --depth-multiplier, or use another checkpoint",
        )
    return suitable[0]


def _check_kinds(opened: OpenedCheckpoint, found: Recognition, requests: Sequence[str]) -> None:
    classifying = [request for request in requests if request.partition("/")[0] == "classification"]
    if classifying and found.num_classes is None:
        raise CheckpointError(
            f"cannot build {classifying[0]} from {opened.shown_as}",
            why="it has no classifier",
            fix="build only feature_vector modules from it",
        )


def _image_size(source: Source, opened: OpenedCheckpoint, family: Family, given: int | None) -> int:
    """Returns the height and width of the images: the caller's, or what the checkpoint says."""
    size = given or opened.image_size or _size_of_module(source, opened)
    if size is None:
        raise CheckpointError(
            f"cannot tell the image size of {opened.shown_as}",
            why="it does not say which size its network was trained on",
            fix=f"add the height and width in pixels, like --image-size {_EXAMPLE_SIZE}",
        )
    if problem := family.size_problem(size):
        kind, whose = (UsageError, "") if given else (CheckpointError, f"{opened.shown_as} is for such images, but ")
        raise kind(
            f"modules of {family.title} do not take images of {size} pixels",
            why=f"{whose}the size must be {problem}",
            fix=f"choose another, like --image-size {_EXAMPLE_SIZE}",
        )
    return size


def _size_of_module(source: Source, opened: OpenedCheckpoint) -> int | None:
    """Returns the height and width of the images of the module that holds the values; None if there is none."""
    if not opened.in_module:
        return None
    manifest = source_manifest(source, opened)
    sizes = (manifest.input_height_px, manifest.input_width_px) if manifest else (None, None)
    if sizes == (None, None) and isinstance(source, FileSource):
        try:
            sizes = saved_model_interface(source.files.prefix.parent.parent, hints=_ANY_USE).image_shape[:2]
        except HubexportError:
            return None
    return sizes[0] if sizes[0] == sizes[1] else None


def _labels(
    given: str | Path | Sequence[str] | None,
    source: Source,
    opened: OpenedCheckpoint,
    num_classes: int | None,
    progress: Progress,
) -> str | list[str] | None:
    """Returns the names of the classes: the caller's, or those that come with the checkpoint."""
    if given is None:
        names = stored_class_names(source, opened, num_classes, progress) if num_classes else None
        if names and num_classes and (problem := labels_problem(names, num_classes)):
            progress.warn(f"leaving out the names of the classes in {source.shown_as}: {problem}")
            return None
        return names
    path = None
    if isinstance(given, (str, Path)):
        path = Path(os.path.abspath(given))
        given = read_labels(path)
    problem = labels_problem(given, num_classes, path) if num_classes else "it has no classifier"
    if problem:
        raise UsageError(
            f"the labels do not name the classes of {opened.shown_as}",
            why=problem,
            fix="use one name for each class, in their order" if num_classes else "leave the labels out",
        )
    return str(path) if path else list(given)
