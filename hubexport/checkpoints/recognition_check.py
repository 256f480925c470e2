"""Warns of what a recognized network leaves out, and tells networks apart by what is said beside the values."""

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path

from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.recognize import Recognition
from hubexport.checkpoints.sources import Source
from hubexport.errors import printable
from hubexport.layouts.registry import KERAS_LAYOUTS
from hubexport.progress import Progress

# The manifest of a module. One of ours has about 900 bytes.
MODULE_MANIFEST = "hubexport.json"
_MAX_MANIFEST_BYTES = 1 << 20
# The most names that a warning lists.
_SHOWN_NAMES = 4


def check_recognition(
    recognition: Recognition | None, *, described: bool, shown_as: Path, progress: Progress
) -> Recognition | None:
    """Warns of what a recognition leaves out, and of what only a model's description could tell.

    Args:
        recognition: the network of a file's values; None if none was recognized.
        described: whether a description of the model led to the recognition.
        shown_as: how messages name the file.
        progress: receives the warnings.
    Returns:
        The recognition, without a classifier if there is more behind the features than TF-Slim's classifier.
    """
    if recognition is None:
        return None
    if recognition.further:
        progress.warn(
            f"{shown_as}: only its features are used, without {listed(recognition.further)}: a classifier must be a "
            "single dense layer on the pooled features"
        )
        return dataclasses.replace(recognition, num_classes=None, classifier=(), is_matrix=False)
    if recognition.num_classes and recognition.layout in KERAS_LAYOUTS and not described:
        progress.warn(
            f"{shown_as}: names and shapes do not tell how its dense layer is used; it is taken for a classifier on "
            "the averaged features"
        )
    return recognition


def network_named_by_module(recognition: Recognition, files: CheckpointFiles, source: Source) -> Recognition | None:
    """Tells networks with the same variables apart by the manifest of the module that holds the values.

    Args:
        recognition: what names and shapes tell.
        files: the files with the values.
        source: where they come from.
    Returns:
        The recognition of the network that the manifest names. None if there is no doubt, no module, or no manifest
        that names one of the networks.
    Raises:
        CheckpointError: the manifest or the archive with the module cannot be read.
    """
    if not (recognition.alike and files.in_module):
        return None
    try:
        named = json.loads(source.read_in_module(MODULE_MANIFEST, _MAX_MANIFEST_BYTES) or "")["network"]
    # Anybody may have written a manifest.
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    for family in (recognition.family, *recognition.alike):
        if family.name == named:
            return dataclasses.replace(recognition, family=family, alike=())
    return None


def listed(names: Sequence[str]) -> str:
    """Returns the first names, and a count of the others."""
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"{printable(', '.join(names[:_SHOWN_NAMES]))}{more}"
