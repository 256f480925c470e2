"""What a classification module says of the user's photographs, for the report."""

from collections.abc import Sequence
import io

import numpy as np

from hubexport.arrays import Array
from hubexport.verify.context import VerificationContext
from hubexport.verify.result import Photograph

# Classes shown per photograph.
_TOP = 5


def classified_photographs(context: VerificationContext, labels: Sequence[str] | None) -> tuple[Photograph, ...]:
    """Returns the photographs with their best classes.

    Args:
        context: has the outputs for photographs, if a check has measured them.
        labels: the names of the classes in the order of their indices; None if they have no names.
    Returns:
        One entry per photograph. Empty if no check measured photographs, if the module gives feature vectors, or if its
        outputs have a wrong shape or are not finite, as a damaged module's may be.
    """
    errors = context.measurements.get("photographs", [])
    classes = context.network.num_classes
    if not errors or not classes or any(image.output.shape != (classes,) for image in errors):
        return ()
    from hubexport.images.classification import best_classes, softmax  # Needs Pillow, as photographs do.

    probabilities = softmax(np.stack([image.output for image in errors]))
    if not np.isfinite(probabilities).all():
        return ()
    photographs = []
    for name, image, row in zip(context.photographs.names, context.photographs.images, probabilities, strict=True):
        best = best_classes(row, labels, _TOP)
        classes_shown = tuple((score.index, score.label, score.probability) for score in best)
        photographs.append(Photograph(name, _jpeg(image), classes_shown))
    return tuple(photographs)


def _jpeg(image: Array) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()
