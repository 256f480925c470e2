"""The program that classifies one uploaded photograph, for `hubexport.serve.trials`.

The photograph may be crafted to attack its decoder. So the process limits its own resources before it imports the
decoder and reads the first byte. It never imports TensorFlow.
"""

import dataclasses
import io
from pathlib import Path
import resource
from typing import TYPE_CHECKING, Any

from hubexport.errors import ImageError, ModuleError, printable
from hubexport.system.child_program import answer_task, limit_resources

if TYPE_CHECKING:
    from hubexport.images.classification import Score
    from hubexport.modules.identity import ModuleIdentity

# Four times the size of the values of the largest module so far.
_MAX_FILE_BYTES = 1 << 30
_MAX_OPEN_FILES = 32
_MAX_REASON = 200
_FIX = "choose an undamaged JPEG, PNG, WebP, GIF or BMP image"


@dataclasses.dataclass(frozen=True)
class TrialTask:
    """What to classify, and within which limits.

    Attributes:
        archive: the path of the classification module, a `.tar.gz`.
        image: the path of the photograph.
        module: the path of an empty folder to unpack the module into.
        labels: the path of a file with class names, for modules without their own. May be None.
        top: how many classes to return.
        image_bytes: the largest size of the photograph.
        memory_bytes: the address space that the process may take.
        cpu_seconds: the CPU time that the process may take.
    """

    archive: str
    image: str
    module: str
    labels: str | None
    top: int
    image_bytes: int
    memory_bytes: int
    cpu_seconds: int


def classify(facts: dict[str, Any]) -> dict[str, Any]:
    """Classifies one photograph.

    Args:
        facts: a `TrialTask` as a dictionary.
    Returns:
        Either `top`, the most probable classes, or `error`, what is wrong with the photograph.
    Raises:
        Exception: something else is wrong. It ends the process with status 1.
    """
    task = TrialTask(**facts)
    limit_resources(
        {
            resource.RLIMIT_AS: task.memory_bytes,
            resource.RLIMIT_CPU: task.cpu_seconds,
            resource.RLIMIT_FSIZE: _MAX_FILE_BYTES,
            resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
            # Neither other programs nor more threads; the system allows them to root all the same.
            resource.RLIMIT_NPROC: 0,
            resource.RLIMIT_CORE: 0,
        }
    )
    try:
        return {"top": [dataclasses.asdict(score) for score in _classify(task)]}
    except ImageError as error:
        return {"error": {"what": error.what, "why": error.why, "fix": error.fix}}


def _classify(task: TrialTask) -> "tuple[Score, ...]":
    from hubexport.modules.identity import identify
    from hubexport.system.tars import unpack_archive
    from hubexport.system.temporary import temporary_failures_reported

    try:
        picture = _read_picture(task)
        with temporary_failures_reported(f"cannot unpack {task.archive}"):
            unpack_archive(Path(task.archive), Path(task.module))
        return _best_classes(picture, identify(Path(task.module), task.archive), task)
    except MemoryError:
        raise _too_much_memory() from None


def _read_picture(task: TrialTask) -> Any:
    from hubexport.images.read_image import read_image

    with open(task.image, "rb") as file:
        content = file.read(task.image_bytes + 1)
    if len(content) > task.image_bytes:
        raise too_large(task.image_bytes)
    try:
        return read_image(io.BytesIO(content), "the image")
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            raise _too_much_memory() from None
        raise ImageError(error.what, why=printable(error.why)[:_MAX_REASON], fix=_FIX) from error


def _best_classes(picture: Any, subject: "ModuleIdentity", task: TrialTask) -> "tuple[Score, ...]":
    import numpy as np

    from hubexport.images.classification import best_classes, softmax
    from hubexport.images.resizing import resized
    from hubexport.modules.values import network_values, read_stored_values
    from hubexport.networks.numpy_forward import Forward

    network = subject.network
    if network.logits is None:
        raise ModuleError(
            f"cannot classify with {subject.shown_as}",
            why="it gives feature vectors",
            fix="use a classification module",
        )
    height, width = network.default_image_size
    images = resized(picture, height, width)[np.newaxis]
    values = network_values(subject, read_stored_values(subject))
    outputs = Forward(network, values, images, dtype=np.float32).run()
    [probabilities] = softmax(outputs[network.logits])
    return best_classes(probabilities, _labels(subject, len(probabilities), task.labels), task.top)


def _labels(subject: "ModuleIdentity", classes: int, others: str | None) -> list[str] | None:
    """Returns the module's own class names, or else those in the file `others`; None unless each class has one."""
    from hubexport.labels import module_labels, read_labels

    for labels in (module_labels(subject.directory), read_labels(Path(others)) if others else None):
        if labels and len(labels) == classes:
            return labels
    return None


def too_large(limit: int) -> ImageError:
    """Returns the error for an image of more than `limit` bytes."""
    return ImageError("the image is too large", why=f"it has more than {limit:,} bytes", fix="choose a smaller one")


def _too_much_memory() -> ImageError:
    return ImageError("the image is too large", why="it needs too much memory", fix="choose one with fewer pixels")


if __name__ == "__main__":
    answer_task(classify)
