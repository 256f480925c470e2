"""Classifies the images of a dataset that an interrupted run left, in this process or on Apache Beam."""

from collections.abc import Sequence
import dataclasses
import logging
import time

import numpy as np

from hubexport.beam.options import Beam
from hubexport.evaluation.accuracy_counts import AccuracyCounts
from hubexport.evaluation.dataset_units import DatasetUnit
from hubexport.evaluation.evaluation_task import EvaluationTask
from hubexport.evaluation.kept_results import KeptResults
from hubexport.evaluation.measure_units import measure_units
from hubexport.images.classification import count_classes
from hubexport.images.open_module import opened_interface
from hubexport.progress import Progress


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The counts of a whole dataset, and the speed of this run.

    Attributes:
        counts: the counts of all images, including those of earlier runs.
        images_now: the number of images read in this run.
        seconds: the time that these images took; a local run excludes the start of the engine.
        engine: what ran the module, and its version; None if no images were left, or workers of Beam ran it.
    """

    counts: AccuracyCounts
    images_now: int
    seconds: float
    engine: str | None = None


def measure_dataset(
    task: EvaluationTask, results: KeptResults, *, beam: Beam | None = None, progress: Progress | None = None
) -> Measurement:
    """Classifies all images that have no kept result yet.

    Args:
        task: the module, the images and the options.
        results: the results of an interrupted run, if any. Each new result is added as soon as it is known.
        beam: the Apache Beam runner that does the work. Defaults to this process, with all its cores.
        progress: receives the number of images done, and a warning for each image that cannot be read.
    Raises:
        DataError: images cannot be read, or their labels do not fit the module.
        ModuleError: the module is damaged, or is not a classification module.
        OutputError: results cannot be kept.
        UsageError: Beam has no such runner, or the runner does not understand an option.
        HubexportError: Beam's runner failed.
    """
    progress = progress or Progress()
    units = task.dataset.units
    finished = results.finished(len(units))
    left = [(number, unit) for number, unit in enumerate(units) if number not in finished]
    images_left = sum(unit.size for _, unit in left)
    before = sum(finished.values(), AccuracyCounts())
    if finished:
        images_done = task.dataset.size - images_left
        progress.note(f"resuming: {images_done:,} of {task.dataset.size:,} images are done, {images_left:,} are left")
    if not left:
        return Measurement(before, 0, 0.0)
    if beam is None:
        now, seconds, engine = _measure_here(left, task, results, progress)
        return Measurement(before + now, images_left, seconds, engine)
    # Beam logs a lot while it is imported. What its runners log later is worth reading.
    logging.disable(logging.INFO)
    try:
        from hubexport.evaluation.measure_on_beam import measure_on_beam
    finally:
        logging.disable(logging.NOTSET)
    progress.step(f"evaluating {images_left:,} images in {len(left):,} parts on {beam.runner}")
    start = time.monotonic()
    now = measure_on_beam(left, task, results, beam)
    seconds = time.monotonic() - start
    for line in now.skipped:
        progress.warn(f"skipped {line}")
    return Measurement(before + now, images_left, seconds)


def _measure_here(
    left: Sequence[tuple[int, DatasetUnit]], task: EvaluationTask, results: KeptResults, progress: Progress
) -> tuple[AccuracyCounts, float, str]:
    """Returns the counts of the units that are left, the seconds that they took, and what ran the module."""
    task.dataset.check_labels(count_classes(task.interface))
    with opened_interface(task.interface, progress, task.options.engine) as model:
        # The first run is slow, and would distort the speed.
        model.run(np.zeros((1, *task.interface.image_shape), np.float32))
        images_left = sum(unit.size for _, unit in left)
        progress.step(f"evaluating {images_left:,} images")
        start, total, images_done = time.monotonic(), AccuracyCounts(), 0
        measured = measure_units((unit for _, unit in left), model, task.options)
        for (number, unit), counts in zip(left, measured, strict=True):
            results.keep(number, counts)
            for line in counts.skipped:
                progress.warn(f"skipped {line}")
            total, images_done = total + counts, images_done + unit.size
            seconds = time.monotonic() - start
            progress.step(f"{images_done:,} of {images_left:,} images, {images_done / seconds:.1f} images/s")
        return total, time.monotonic() - start, model.engine
