"""What classification modules take photographs for."""

from collections.abc import Generator, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.errors import ModuleError, UsageError
from hubexport.images.batches import Batch, Unreadable, apply_to_files
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.running.image_module import ImageModule

# Where a module has the names of its classes.
_LABELS = Path("assets", "labels.txt")
# A thousand times those of ImageNet.
_MAX_LABELS_BYTES = 32 << 20

_FEATURE_VECTOR = "feature_vector"
# Of the common signatures for images; classification modules of TF1 have both.
_FEATURES_SIGNATURE = "image_feature_vector"
_CLASSES_SIGNATURE = "image_classification"


@dataclasses.dataclass(frozen=True)
class Score:
    """How probable a class is.

    Attributes:
        index: of the class, from 0.
        label: its name; None if nobody told it.
        probability: from 0 to 1; over all classes they sum to 1.
    """

    index: int
    label: str | None
    probability: float


@dataclasses.dataclass(frozen=True)
class Classification:
    """What a module takes an image for.

    Attributes:
        path: of the image.
        top: the most probable classes, the first one first.
    """

    path: Path
    top: tuple[Score, ...]


def classify(
    module: "ImageModule",
    images: Sequence[Path],
    *,
    unreadable: Unreadable,
    labels: Sequence[str] | None = None,
    top: int = 5,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Iterator[Classification]:
    """Classifies images, each resized to the module's size by `hubexport.images.preprocessing.resized`.

    Args:
        module: a classification module, opened.
        images: files; see `hubexport.images.files.find_images`.
        unreadable: hears of files that cannot be read, and why; they are left out.
        labels: the name of each class.
        top: how many classes are wanted of each image.
        batch_size: how many images the module gets at once.
        progress: hears how many images are done.
    Returns:
        One by one what is found, in the order of the images.
    Raises:
        ModuleError: the module gives feature vectors, or numbers that are infinite or NaN.
        UsageError: there are more or fewer labels than classes.
    """
    check_labels(labels, count_classes(module), module.report.path)
    height, width, _ = module.image_shape
    batches = apply_to_files(
        lambda pictures: module.run(pictures)["default"],
        images,
        height,
        width,
        batch_size=batch_size,
        progress=progress or Progress(),
        unreadable=unreadable,
    )
    return _classified(batches, labels, top)


def _classified(
    batches: Generator[Batch, None, None], labels: Sequence[str] | None, top: int
) -> Iterator[Classification]:
    with contextlib.closing(batches):
        for batch in batches:
            for path, probabilities in zip(batch.paths, softmax(batch.numbers)):
                yield Classification(path, best_classes(probabilities, labels, top))


def count_classes(module: "ImageModule") -> int:
    """Returns how many classes a module knows.

    Raises:
        ModuleError: it is no classification module.
    """
    if _gives_features(module) or len(module.default_shape) != 1:
        raise ModuleError(
            f"cannot classify with {module.report.path}",
            why="it outputs feature vectors, not class logits",
            fix="use a classification module, or run `hubexport features`",
        )
    return module.default_shape[0]


def check_labels(labels: Sequence[str] | None, classes: int, shown_as: str) -> None:
    """Refuses labels that are more or fewer than a module's classes.

    Raises:
        UsageError: they are.
    """
    if labels is not None and len(labels) != classes:
        raise UsageError(
            f"the labels do not match {shown_as}",
            why=f"there are {len(labels):,} labels for {classes:,} classes",
            fix="use a text file with one class name per line, class 0 first",
        )


def softmax(logits: Array) -> npt.NDArray[np.float64]:
    """Returns probabilities.

    Args:
        logits: [batch, num_classes], of any size: nothing overflows.
    Returns:
        Float64 [batch, num_classes]; each row sums to 1.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def module_labels(directory: Path) -> list[str] | None:
    """Returns the names of the classes that a module brings in its assets; None if it brings none.

    Raises:
        UsageError: the file cannot be read.
    """
    path = directory / _LABELS
    return read_labels(path) if path.is_file() else None


def read_labels(path: Path) -> list[str]:
    """Returns the lines of a file of labels.

    Raises:
        UsageError: it cannot be read, or is no text in UTF-8.
    """
    fix = "use a text file in UTF-8 with one class name per line"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_LABELS_BYTES + 1)
        # Not splitlines, which also splits at characters that a name may have.
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read labels {path}", why=error.strerror or str(error), fix=fix) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read labels {path}", why=f"byte {error.start} is not UTF-8", fix=fix) from error
    if len(content) > _MAX_LABELS_BYTES:
        raise UsageError(f"cannot read labels {path}", why=f"it is larger than {_MAX_LABELS_BYTES >> 20} MiB", fix=fix)
    return lines


def _gives_features(module: "ImageModule") -> bool:
    report = module.report
    if report.manifest and report.manifest.kind:
        return report.manifest.kind == _FEATURE_VECTOR
    signatures = {signature.name for graph in report.graph_versions for signature in graph.signatures}
    outputs = {
        output.name for graph in report.graph_versions for signature in graph.signatures for output in signature.outputs
    }
    is_tf1 = _FEATURES_SIGNATURE in signatures and _CLASSES_SIGNATURE not in signatures
    return is_tf1 or (_FEATURE_VECTOR in outputs and "logits" not in outputs)


def best_classes(probabilities: npt.NDArray[np.float64], labels: Sequence[str] | None, top: int) -> tuple[Score, ...]:
    """Returns the most probable classes, the first one first; labels are None, or one a class."""
    # Of equals the first one comes first.
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(Score(int(one), labels[one] if labels else None, float(probabilities[one])) for one in order)
