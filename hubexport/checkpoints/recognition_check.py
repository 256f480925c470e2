"""Checks a recognized network against what is said of it beside the values, and warns of what is left out."""

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path

from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.keras_values import KerasValues
from hubexport.checkpoints.recognize import Recognition
from hubexport.checkpoints.sources import Source
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.errors import printable
from hubexport.layouts.keras_graph import compare_model
from hubexport.layouts.registry import KERAS_WEIGHTS_H5
from hubexport.progress import Progress

# The manifest of a module. One of ours has about 900 bytes.
MODULE_MANIFEST = "hubexport.json"
_MAX_MANIFEST_BYTES = 1 << 20
# The most names that a warning lists.
_SHOWN_NAMES = 4


def check_recognition(
    recognition: Recognition | None, stored: StoredValues, shown_as: Path, progress: Progress
) -> tuple[Recognition | None, str | None]:
    """Compares the recognized network with the file's own description of its model, if it has one.

    Args:
        recognition: the network recognized from names and shapes; None if none was.
        stored: the values.
        shown_as: how messages name the file.
        progress: receives a warning about everything that is left out.
    Returns:
        The recognition, without a classifier if the model computes more from the features than TF-Slim's classifier
        does. It is None if the model's network differs before the features; the second result then says where.
    """
    if recognition is None:
        return None, None
    further: Sequence[str] = ()
    if isinstance(stored, KerasValues) and stored.model_config:
        network, layouts = recognition.network(), recognition.variable_layouts
        numbered = recognition.layout == KERAS_WEIGHTS_H5
        try:
            report = compare_model(stored.model_config, network, layouts, numbered=numbered)
        except ValueError as error:
            reason = printable(str(error))
            progress.warn(
                f"{shown_as}: names and shapes alone tell its network; its model cannot be understood: {reason}"
            )
        else:
            if report.mismatch:
                mismatch = (
                    f"its names and shapes are those of {recognition.family.name}, but its model differs, first in "
                    f"{report.mismatch}"
                )
                progress.warn(f"{shown_as}: {mismatch}")
                return None, mismatch
            if report.before:
                progress.warn(f"{shown_as}: what comes before the network is left out: {listed(report.before)}")
            further = report.further
    elif isinstance(stored, KerasValues) and recognition.num_classes and not recognition.further:
        progress.warn(
            f"{shown_as}: it holds weights alone, which do not tell how its dense layer is used; it is taken for a "
            "classifier on the averaged features"
        )
    if further := further or recognition.further:
        progress.warn(
            f"{shown_as}: only its features are used, without {listed(further)}: a classifier must be a single dense "
            "layer on the pooled features"
        )
        recognition = dataclasses.replace(recognition, num_classes=None, classifier=(), is_matrix=False)
    return recognition, None


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
