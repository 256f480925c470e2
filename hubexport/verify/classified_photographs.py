"""The classes that a module finds in the user's photographs, for the report."""

from collections.abc import Sequence
import io

import numpy as np

from hubexport.verify.context import VerificationContext
from hubexport.verify.deployment_context import DeploymentContext
from hubexport.verify.result import Photograph

# Classes shown per photograph.
_TOP = 5


def classified_photographs(
    context: VerificationContext | DeploymentContext, labels: Sequence[str] | None
) -> tuple[Photograph, ...]:
    """Returns the photographs that a check has measured, each with its best classes.

    Nothing is returned for feature vectors, nor if any output has a wrong shape or is not finite, as a damaged module's
    may be.
    """
    errors = context.measurements.get("photographs", [])
    classes = context.network.num_classes
    if not errors or not classes or any(image.output.shape != (classes,) for image in errors):
        return ()
    from PIL import Image

    from hubexport.images.classification import best_classes, softmax  # Needs Pillow, as photographs do.

    outputs = np.stack([image.output for image in errors])
    gives_probabilities = isinstance(context, DeploymentContext) and context.spec.options.softmax
    probabilities = outputs if gives_probabilities else softmax(outputs)
    if not np.isfinite(probabilities).all():
        return ()
    photographs = []
    for name, image, row in zip(context.photographs.names, context.photographs.images, probabilities, strict=True):
        best = best_classes(row, labels, _TOP)
        jpeg = io.BytesIO()
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(jpeg, "JPEG", quality=85)
        best_scores = tuple((score.index, score.label, score.probability) for score in best)
        photographs.append(Photograph(name, jpeg.getvalue(), best_scores))
    return tuple(photographs)
