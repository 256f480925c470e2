"""Classifies images with a module: `hubexport.classify`."""

from collections.abc import Generator, Iterable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.engines import Engine
from hubexport.errors import ModuleError, UsageError, check_positive
from hubexport.images.image_batches import Batch, OnUnreadable, apply_to_files
from hubexport.images.image_files import find_images, image_count_text
from hubexport.images.open_module import opened_module
from hubexport.labels import read_labels
from hubexport.modules.image_interface import ImageInterface, unknown_output_error
from hubexport.modules.interface_hints import InterfaceHints, OutputKind
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# How far rounding in float32 moves the sum of probabilities from 1, and how far it may be for declared probabilities.
_ROUNDING = 1e-5
_MAX_DEVIATION = 1e-2


@dataclasses.dataclass(frozen=True)
class Score:
    """How probable a class is.

    Attributes:
        index: the class's index in the module's output, from 0.
        label: the class's name; None if the classes have no names.
        probability: from 0 to 1; the probabilities of all classes sum to 1.
    """

    index: int
    label: str | None
    probability: float


@dataclasses.dataclass(frozen=True)
class Classification:
    """The most probable classes of one image.

    Attributes:
        path: the image's file.
        top: the most probable classes, the best one first.
    """

    path: Path
    top: tuple[Score, ...]


class Classifications(Iterator[Classification]):
    """The classifications of images, made while they are iterated over.

    Args:
        engine: what computes them.
        interface: how the module is run.
        found: makes them.
    Attributes:
        engine: the program that runs the module, and its version, like `ONNX Runtime 1.20.0`.
        interface: how the module is run. Its files may be gone after the last image.
    """

    def __init__(self, engine: str, interface: ImageInterface, found: Generator[Classification, None, None]) -> None:
        self.engine = engine
        self.interface = interface
        self._found = found

    def __next__(self) -> Classification:
        return next(self._found)

    def close(self) -> None:
        """Closes the module before all images are classified."""
        self._found.close()


def classify(
    module: "ImageModule | str | Path",
    images: str | Path | Iterable[str | Path],
    *,
    labels: Sequence[str] | str | Path | None = None,
    top: int = 5,
    batch_size: int = 32,
    input_range: tuple[float, float] | None = None,
    output_kind: OutputKind | None = None,
    image_size: tuple[int, int] | None = None,
    engine: Engine | None = None,
    unreadable: OnUnreadable | None = None,
    progress: Progress | None = None,
) -> Classifications:
    """Classifies images.

    The whole image is resized to the module's size or `image_size` (Pillow's bilinear filter, aspect ratio not kept).
    The module gets float32 [batch, height, width, 3], RGB, with intensities in [0, 1] or in `input_range`.

    The call checks its arguments, starts the engine and opens the module. The images are read while the result is
    iterated over, a few batches ahead, so that memory does not grow with the number of images.

    Args:
        module: a classification module: its directory, a gzipped tar of it, its http or https address on a hub server,
            a deployment like an ONNX model, or a module that
            `hubexport.runtime.image_module.opened_image_module` has opened.
        images: one or more of: JPEG, PNG, BMP, GIF and WebP files, folders (with their subfolders), patterns such as
            `photos/**/*.jpg`. The files of a folder or pattern are sorted by name.
        labels: the names of the classes in the order of their indices, or the path of a text file in UTF-8 with one
            name per line. Defaults to the module's `assets/labels.txt`, if there is one, or those in a deployment.
        top: the number of classes to return for each image.
        batch_size: the number of images that the module computes at once.
        input_range: the intensities of black and white that the module takes, like `(-1, 1)`. Defaults to (0, 1), as in
            the common signatures for images. SavedModels without these signatures, such as Keras models, need it.
        output_kind: the meaning of the module's output: `logits` or `probabilities`. Defaults to what the module says.
            SavedModels without the common signatures need it.
        image_size: height and width in pixels, for a module that takes images of any size. Defaults to the size that
            the module or its manifest names.
        engine: what runs the module: `tensorflow`, or `onnx` for ONNX Runtime, which runs modules of hubexport and
            starts in a fraction of the time. Defaults to TensorFlow, or to ONNX Runtime if TensorFlow is not installed.
            An ONNX model always runs in ONNX Runtime.
        unreadable: called with the path and the `ImageError` of each file that cannot be read. Such files are left out,
            with a warning to `progress`.
        progress: receives each step, the number of images done, and warnings.
    Returns:
        An iterator over one `Classification` for each image that can be read, in the order of the images. Its `engine`
        says what runs the module.
    Raises:
        ImageError: an input matches no image. While iterating: none of the images can be read.
        ModuleError: the module cannot be opened, computes feature vectors, or does not say how to run it. While
            iterating: its output for an image is infinite or NaN, or is not of the kind that was declared.
        UsageError: there are more or fewer labels than classes, the labels cannot be read, `top` or `batch_size` is
            less than 1, there is no such range, kind of output, size or engine, or the engine does not run it.
        MissingExtraError: packages of the engine are missing.
    Example:
        >>> path = "modules/google/imagenet/mobilenet_v2_035_96/classification/5"
        >>> for found in hubexport.classify(path, "photos", top=2):
        ...     print(found.path, [score.index for score in found.top])
        photos/cat.png [..., ...]
    """
    check_positive(top=top, batch_size=batch_size)
    progress = progress or Progress()
    files = find_images(images)
    names = read_labels(Path(labels)) if isinstance(labels, (str, Path)) else labels
    with contextlib.ExitStack() as stack:
        hints = InterfaceHints(input_range, output_kind, image_size)
        opened = stack.enter_context(
            opened_module(module, progress, hints, engine, check=lambda one: _fitting_labels(names, one))
        )
        interface = opened.interface
        names = _fitting_labels(names, interface)
        progress.step(f"classifying {image_count_text(len(files))}")
        height, width, _ = interface.image_shape
        batches = apply_to_files(
            lambda pictures: opened.run(pictures)["default"],
            files,
            height,
            width,
            batch_size=batch_size,
            progress=progress,
            unreadable=unreadable,
        )
        found = _classify_batches(batches, interface, names, top, stack.pop_all())
        return Classifications(opened.engine, interface, found)


def _fitting_labels(labels: Sequence[str] | None, interface: ImageInterface) -> Sequence[str] | None:
    """Returns the names of a module's classes: the caller's, or else its own.

    Raises:
        ModuleError: it has no classes.
        UsageError: the names cannot be read, or there are more or fewer than classes.
    """
    classes = count_classes(interface)
    labels = interface.class_names() if labels is None else labels
    check_labels(labels, classes, interface.shown_as)
    return labels


def _classify_batches(
    batches: Generator[Batch, None, None],
    interface: ImageInterface,
    labels: Sequence[str] | None,
    top: int,
    opened: contextlib.ExitStack,
) -> Generator[Classification, None, None]:
    with opened, contextlib.closing(batches):
        for batch in batches:
            for path, probabilities in zip(batch.paths, class_probabilities(batch.numbers, interface)):
                yield Classification(path, best_classes(probabilities, labels, top))


def count_classes(interface: ImageInterface) -> int:
    """Returns the number of a module's classes.

    Raises:
        ModuleError: the module is not a classification module, or does not say what its output is.
    """
    if interface.output_kind is None:
        raise unknown_output_error(f"cannot classify with {interface.shown_as}")
    if interface.output_kind == "features":
        raise ModuleError(
            f"cannot classify with {interface.shown_as}",
            why="it outputs feature vectors, not class logits",
            fix=f"use {_sibling(interface.shown_as) or 'a classification module'}, or run `hubexport features`",
        )
    return interface.output_shape[0]


def _sibling(shown_as: str) -> str | None:
    """Returns the path of the classification module beside a feature vector module; None if there is none."""
    sibling = Path(re.sub(r"\bfeature_vector\b(?!.*\bfeature_vector\b)", "classification", shown_as))
    return str(sibling) if str(sibling) != shown_as and sibling.exists() else None


def class_probabilities(outputs: Array, interface: ImageInterface) -> npt.NDArray[np.float64]:
    """Returns the probabilities of the classes.

    Args:
        outputs: a module's outputs, float32 [batch, num_classes].
        interface: the module's interface.
    Returns:
        Float64 [batch, num_classes]; each row sums to 1, up to rounding.
    Raises:
        ModuleError: the outputs are declared as probabilities but are not; or they look like probabilities, and the
            caller did not declare them as logits.
    """
    deviation = float(np.abs(outputs.sum(axis=1, dtype=np.float64) - 1).max())
    nonnegative = bool((outputs >= 0).all())
    if interface.output_kind == "probabilities":
        if not nonnegative or deviation > _MAX_DEVIATION:
            off = f"for one image, their sum differs from 1 by {deviation:.3g}"
            raise ModuleError(
                f"the outputs of {interface.shown_as} are not probabilities",
                why=off if nonnegative else "some are negative",
                fix="use --output-kind logits if they are logits",
            )
        return outputs.astype(np.float64)
    if interface.hints.output_kind is None and outputs.shape[1] > 1 and nonnegative and deviation < _ROUNDING:
        raise ModuleError(
            f"the outputs of {interface.shown_as} look like probabilities, not logits",
            why="for each image none is negative, and their sum is 1",
            fix="add --output-kind probabilities, or --output-kind logits if they are logits all the same",
        )
    return softmax(outputs)


def check_labels(labels: Sequence[str] | None, classes: int, shown_as: str) -> None:
    """Checks that there is one label for each class; None is accepted.

    Args:
        labels: the names of the classes.
        classes: the number of the module's classes.
        shown_as: what messages call the module.
    Raises:
        UsageError: there are more or fewer labels than classes.
    """
    if labels is not None and len(labels) != classes:
        raise UsageError(
            f"the labels do not match {shown_as}",
            why=f"there are {len(labels):,} labels for {classes:,} classes",
            fix="use a text file with one class name per line, class 0 first",
        )


def softmax(logits: Array) -> npt.NDArray[np.float64]:
    """Turns logits into probabilities, without overflow for logits of any size.

    Args:
        logits: float32 [batch, num_classes].
    Returns:
        Float64 [batch, num_classes]; each row sums to 1.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def best_classes(probabilities: npt.NDArray[np.float64], labels: Sequence[str] | None, top: int) -> tuple[Score, ...]:
    """Returns the `top` most probable classes, the best one first. Equal classes keep their order.

    Args:
        probabilities: float64 [num_classes].
        labels: the name of each class; None if the classes have no names.
        top: the number of classes to return.
    """
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(Score(int(index), labels[index] if labels else None, float(probabilities[index])) for index in order)
