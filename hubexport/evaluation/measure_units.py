"""Turns units of labelled images into counts: the work of every machine that takes part in an evaluation.

Threads read and prepare images ahead of the module. Decoders, NumPy and TensorFlow release Python's lock while they
compute.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
import concurrent.futures
import dataclasses
import io
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.errors import ImageError, printable
from hubexport.evaluation.accuracy_counts import AccuracyCounts, count_correct
from hubexport.evaluation.class_lookup import check_label
from hubexport.evaluation.dataset_units import DatasetUnit, Sample
from hubexport.evaluation.evaluation_options import EvaluationOptions
from hubexport.evaluation.evaluation_preprocessing import PREPROCESSINGS
from hubexport.images.classification import count_classes
from hubexport.images.read_image import read_image

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# The module computes one batch while the next is prepared. The third covers images that take longer than others.
_BATCHES_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class _QueuedImage:
    """An image that a thread prepares: the number of its unit, the sample, and the pixels to come."""

    unit: int
    sample: Sample
    pixels: "concurrent.futures.Future[Array]"


def measure_units(
    units: Iterable[DatasetUnit], module: "ImageModule", options: EvaluationOptions
) -> Iterator[AccuracyCounts]:
    """Yields the counts of each unit, in the order of the units.

    Args:
        units: the images to classify.
        module: a classification module.
        options: how to prepare the images and run the module.
    Raises:
        DataError: an image's record cannot be read, or a label is not a class of the module.
        ModuleError: the module is not a classification module.
    """
    height, width, _ = module.interface.image_shape
    preprocessing = PREPROCESSINGS[options.preprocessing]

    def prepare(source: Path | bytes) -> Array:
        file = source if isinstance(source, Path) else io.BytesIO(source)
        image = read_image(file, "it", upright=preprocessing.upright)
        return preprocessing.apply(image, height, width)

    # This process may be confined to fewer cores than the machine has.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = concurrent.futures.ThreadPoolExecutor(options.threads or cores or 1)
    try:
        queue = _prepare_ahead(units, pool, prepare, _BATCHES_AHEAD * options.batch_size)
        for _, images in itertools.groupby(queue, key=lambda image: image.unit):
            total = AccuracyCounts()
            while batch := list(itertools.islice(images, options.batch_size)):
                total += _count_batch(batch, module)
            yield total
    finally:
        # An interrupted run does not wait for images that no thread has begun.
        pool.shutdown(cancel_futures=True)


def _prepare_ahead(
    units: Iterable[DatasetUnit],
    pool: concurrent.futures.ThreadPoolExecutor,
    prepare: Callable[[Path | bytes], Array],
    ahead: int,
) -> Iterator[_QueuedImage]:
    """Yields images in order, while up to `ahead` more of them are prepared."""
    queue: deque[_QueuedImage] = deque()
    for number, unit in enumerate(units):
        for sample in unit.samples():
            queue.append(_QueuedImage(number, sample, pool.submit(prepare, sample.source)))
            if len(queue) > ahead:
                yield queue.popleft()
    while queue:
        yield queue.popleft()


def _count_batch(batch: Sequence[_QueuedImage], module: "ImageModule") -> AccuracyCounts:
    num_classes = count_classes(module.interface)
    pixels, labels, skipped = [], [], []
    for image in batch:
        check_label(image.sample.label, num_classes, image.sample.name)
        try:
            pixels.append(image.pixels.result())
            labels.append(image.sample.label)
        except ImageError as error:
            skipped.append(printable(f"{image.sample.name}: {error.why}"))
    counts = count_correct(module.run(np.stack(pixels))["default"], labels) if pixels else AccuracyCounts()
    return counts + AccuracyCounts(skipped=tuple(skipped))
