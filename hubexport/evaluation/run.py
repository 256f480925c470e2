"""Counts how often a module is right, here or by Apache Beam, and takes up what an interrupted run has left."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import hashlib
import json
import logging
import time
from typing import Any

import numpy as np

from hubexport.beam.options import Beam
from hubexport.errors import ModuleError
from hubexport.evaluation.counting import Counts
from hubexport.evaluation.datasets import Dataset
from hubexport.evaluation.pipeline import EvaluationOptions, measure
from hubexport.evaluation.state import State
from hubexport.evaluation.units import Unit
from hubexport.images.classification import count_classes
from hubexport.modules.image_interface import InterfaceHints, image_interface
from hubexport.modules.opening import ModuleDirectory
from hubexport.progress import Progress
from hubexport.system.digests import file_sha256, tree_files


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came of all images.

    Attributes:
        counts: of them.
        images_now: how many were read in this run.
        seconds: how long that took, without the start of TensorFlow here.
    """

    counts: Counts
    images_now: int
    seconds: float


def evaluation_key(module: ModuleDirectory, dataset: Dataset, options: EvaluationOptions) -> str:
    """Returns a digest of all that decides about the results: the module's files, the data, and how they are read.

    Raises:
        ModuleError: its files cannot be read.
    """
    root = module.directory
    try:
        files = {path.relative_to(root).as_posix(): file_sha256(path) for path in tree_files(root)}
    except OSError as error:
        raise ModuleError(
            f"cannot read module {module.shown_as}",
            why=f"{error.strerror or error}: {error.filename or root}",
            fix="make its files readable",
        ) from error
    facts: dict[str, Any] = {"module": files, "data": dataset.listing, "preprocessing": options.preprocessing}
    if options.told != InterfaceHints():
        facts["told"] = dataclasses.asdict(options.told)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def count_dataset(
    module: ModuleDirectory,
    dataset: Dataset,
    options: EvaluationOptions,
    state: State,
    *,
    beam: Beam | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Classifies all images of a dataset that have not been classified before.

    Args:
        module: a classification module.
        dataset: its images.
        options: how.
        state: where results are kept, and those of an interrupted run are.
        beam: who does it; None means this process, with all its cores.
        progress: hears how far it is, and of images that cannot be read.
    Raises:
        DataError: the images cannot be had, or their labels do not fit the module.
        ModuleError: it is damaged, or no classification module.
        OutputError: results cannot be kept.
        UsageError: Beam is not there, has no such runner, or does not understand its options.
        HubexportError: Beam's runner failed.
    """
    progress = progress or Progress()
    done = state.finished(len(dataset.units))
    left = [(number, unit) for number, unit in enumerate(dataset.units) if number not in done]
    images_left = sum(unit.size for _, unit in left)
    before = sum(done.values(), Counts())
    if done:
        images_done = dataset.size - images_left
        progress.note(f"resuming: {images_done:,} of {dataset.size:,} images are done, {images_left:,} are left")
    if not left:
        return Measured(before, 0, 0.0)
    if beam is not None:
        with _imports_hushed():
            from hubexport.evaluation.on_beam import measure_on_beam

        progress.step(f"evaluating {images_left:,} images in {len(left):,} parts on {beam.runner}")
        start = time.monotonic()
        now = measure_on_beam(left, dataset, module, options, state, beam)
        seconds = time.monotonic() - start
        for line in now.skipped:
            progress.warn(f"skipped {line}")
    else:
        now, seconds = _evaluate_here(left, module, dataset, options, state, progress)
    return Measured(before + now, images_left, seconds)


@contextlib.contextmanager
def _imports_hushed() -> Iterator[None]:
    """Keeps from the log what Beam says of itself when it is imported; what its runners say later is worth knowing."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _evaluate_here(
    left: Sequence[tuple[int, Unit]],
    module: ModuleDirectory,
    dataset: Dataset,
    options: EvaluationOptions,
    state: State,
    progress: Progress,
) -> tuple[Counts, float]:
    """Returns the counts of the units that are left, and the seconds that they took."""
    interface = image_interface(module.directory, module.shown_as, options.told)
    dataset.check_labels(count_classes(interface))
    with contextlib.ExitStack() as stack:
        # It talks while it loads, too.
        with progress.tensorflow_starting():
            from hubexport.runtime.image_module import opened

            model = stack.enter_context(opened(interface))
        # The first time takes longer.
        model.run(np.zeros((1, *interface.image_shape), np.float32))
        to_do = sum(unit.size for _, unit in left)
        progress.step(f"evaluating {to_do:,} images")
        start, total, done = time.monotonic(), Counts(), 0
        for (number, unit), counts in zip(left, measure((unit for _, unit in left), model, options), strict=True):
            state.keep(number, counts)
            for line in counts.skipped:
                progress.warn(f"skipped {line}")
            total, done = total + counts, done + unit.size
            seconds = time.monotonic() - start
            progress.step(f"{done:,} of {to_do:,} images, {done / seconds:.1f} images/s")
        return total, time.monotonic() - start
