"""Whether values are what their names and shapes say, and what of them is left out: users hear of both."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

from hubexport.checkpoints.keras_values import KerasValues
from hubexport.checkpoints.recognize import Recognition
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.errors import printable
from hubexport.layouts.keras_graph import compare_model
from hubexport.layouts.registry import KERAS_WEIGHTS_H5
from hubexport.progress import Progress

# Of a long list, in a warning.
_SHOWN_NAMES = 4


def check_recognition(
    found: Recognition | None, stored: StoredValues, shown_as: Path, progress: Progress
) -> tuple[Recognition | None, str | None]:
    """Holds what names and shapes tell against the file's own description of its model, if it has one.

    Args:
        found: what names and shapes tell.
        stored: the values.
        shown_as: what messages call the file.
        progress: hears of all that is left out.
    Returns:
        What the values are of: without a classifier if the model computes more from the features than TF-Slim's
        classifier does. It is None if the network up to the features is another one; the second result says why.
    """
    further: Sequence[str] = ()
    if found and isinstance(stored, KerasValues) and stored.model_config:
        numbered = found.layout == KERAS_WEIGHTS_H5
        try:
            report = compare_model(stored.model_config, found.network(), found.variable_layouts, numbered=numbered)
        except ValueError as error:
            reason = printable(str(error))
            progress.warn(f"{shown_as}: names and shapes alone tell what it is; its model is not understood: {reason}")
        else:
            if report.mismatch:
                doubt = f"its names and shapes are those of {found.network_name}, but its model differs"
                progress.warn(f"{shown_as}: {doubt}, first in {report.mismatch}")
                return None, f"{doubt}, first in {report.mismatch}"
            if report.before:
                progress.warn(f"{shown_as}: what comes before the network is left out: {_listed(report.before)}")
            further = report.further
    elif found and isinstance(stored, KerasValues) and found.num_classes and not found.further:
        progress.warn(
            f"{shown_as}: it holds weights alone, which do not tell how its dense layer is used; it is taken for a "
            "classifier on the averaged features"
        )
    if found and (further := further or found.further):
        progress.warn(
            f"{shown_as}: only its features are used, without {_listed(further)}: a classifier must be a single dense "
            "layer on the pooled features"
        )
        found = dataclasses.replace(found, num_classes=None, classifier=())
    return found, None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"{printable(', '.join(names[:_SHOWN_NAMES]))}{more}"
