"""From units of labelled images to counts: what every machine does that takes part in an evaluation.

Images are read and prepared by threads, ahead of the module: decoders, NumPy and TensorFlow compute without Python's
lock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
import concurrent.futures
import contextlib
import dataclasses
import io
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.errors import ImageError, printable
from hubexport.evaluation.classes import check_label
from hubexport.evaluation.counting import Counts, count
from hubexport.evaluation.preprocessing import CENTRAL_CROP, PREPROCESSINGS
from hubexport.evaluation.units import Sample, Unit
from hubexport.images.classification import count_classes
from hubexport.images.reading import read_image
from hubexport.modules.image_interface import InterfaceHints

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

_DEFAULT = "default"
# While the module has one batch, the next is prepared; the third is for those that take longer than others.
_BATCHES_AHEAD = 2


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        preprocessing: one of `PREPROCESSINGS`.
        batch_size: how many images the module gets at once.
        threads: how many read and prepare images; None for one a core.
        told: what the caller says of the module.
    """

    preprocessing: str = CENTRAL_CROP
    batch_size: int = 64
    threads: int | None = None
    told: InterfaceHints = InterfaceHints()


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """An image on its way: which unit it is of, and what becomes of it."""

    unit: int
    sample: Sample
    pixels: "concurrent.futures.Future[Array]"


def measure(units: Iterable[Unit], module: "ImageModule", options: EvaluationOptions) -> Iterator[Counts]:
    """Yields the counts of each unit, in their order.

    Args:
        units: what to classify.
        module: a classification module.
        options: how.
    Raises:
        DataError: the images cannot be had, or a label is none of the module's.
        ModuleError: it is no classification module.
    """
    height, width, _ = module.interface.image_shape
    preprocessing = PREPROCESSINGS[options.preprocessing]

    def prepare(source: Path | bytes) -> Array:
        file = source if isinstance(source, Path) else io.BytesIO(source)
        image = read_image(file, "it", upright=preprocessing.upright)
        return preprocessing.apply(image, height, width)

    with _threads(options.threads or available_cores()) as pool:
        prepared = _prepared_ahead(units, pool, prepare, _BATCHES_AHEAD * options.batch_size)
        for _, of_unit in itertools.groupby(prepared, key=lambda one: one.unit):
            yield _count_unit(of_unit, module, options.batch_size)


@contextlib.contextmanager
def _threads(number: int) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    pool = concurrent.futures.ThreadPoolExecutor(number)
    try:
        yield pool
    finally:
        # Whoever interrupts does not want to wait for what has not begun.
        pool.shutdown(cancel_futures=True)


def _prepared_ahead(
    units: Iterable[Unit],
    pool: concurrent.futures.ThreadPoolExecutor,
    prepare: Callable[[Path | bytes], Array],
    ahead: int,
) -> Iterator[_Prepared]:
    """Yields images in their order, of which so many are on their way."""
    waiting: deque[_Prepared] = deque()
    for number, unit in enumerate(units):
        for sample in unit.samples():
            waiting.append(_Prepared(number, sample, pool.submit(prepare, sample.source)))
            if len(waiting) > ahead:
                yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _count_unit(images: Iterator[_Prepared], module: "ImageModule", batch_size: int) -> Counts:
    total = Counts()
    while batch := list(itertools.islice(images, batch_size)):
        total += _count_batch(batch, module)
    return total


def _count_batch(batch: Sequence[_Prepared], module: "ImageModule") -> Counts:
    num_classes = count_classes(module.interface)
    pixels, labels, skipped = [], [], []
    for image in batch:
        check_label(image.sample.label, num_classes, image.sample.name)
        try:
            pixels.append(image.pixels.result())
            labels.append(image.sample.label)
        except ImageError as error:
            skipped.append(printable(f"{image.sample.name}: {error.why}"))
    counted = count(module.run(np.stack(pixels))[_DEFAULT], labels) if pixels else Counts()
    return counted + Counts(skipped=tuple(skipped))
