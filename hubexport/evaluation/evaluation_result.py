"""The result of an evaluation, with the published accuracy beside the measured one."""

import dataclasses
import os
from pathlib import Path, PurePath
from typing import Any

from hubexport.config_files import load_variant
from hubexport.errors import ConfigError
from hubexport.evaluation.accuracy_counts import AccuracyCounts, percent, standard_error_percent
from hubexport.evaluation.evaluation_preprocessing import PREPROCESSINGS
from hubexport.evaluation.evaluation_task import EvaluationTask
from hubexport.evaluation.measure_dataset import Measurement
from hubexport.formats.manifest import Manifest, ManifestError, values_sha256
from hubexport.progress import Progress
from hubexport.variants import PublishedFigures

_SYNTHETIC = "synthetic"


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A top-1 or top-5 accuracy, measured and published. Unknown figures are None.

    Attributes:
        right: the number of images that the module got right.
        percent: `right` in percent of the images that could be read.
        standard_error: the standard error of `percent`, in percent; None if all images are right, or none.
        published_percent: the accuracy that the checkpoint's publishers measured.
    """

    right: int
    percent: float | None
    standard_error: float | None
    published_percent: float | None

    @property
    def difference(self) -> float | None:
        """The measured accuracy minus the published one, in percentage points."""
        if self.percent is None or self.published_percent is None:
            return None
        return self.percent - self.published_percent

    def as_json(self) -> dict[str, Any]:
        """Returns the figures in a form that `json.dumps` accepts."""
        return {**dataclasses.asdict(self), "difference": self.difference}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        module: the module's path or address.
        data: the data's path or pattern.
        values: the origin of the module's values according to its manifest, like `trained, averaged`; None if the
            manifest does not say.
        preprocessing: how the images were prepared, in words.
        counts: the numbers of images classified and right, and a line for each image that cannot be read.
        published: the published figures of the module's variant; None if there are none.
        images_now: the number of images read in this run, as opposed to before an interruption.
        seconds: the time that these images took, without the start of the engine.
        engine: the program that ran the module, and its version; None if no images were left, or workers of Beam ran
            it.
        data_name: what people call the data.
        handle: the module's handle according to its manifest; None if the manifest does not say.
        values_sha256: a digest of the values that were measured, see `hubexport.formats.manifest.values_sha256`.
    """

    module: str
    data: str
    values: str | None
    preprocessing: str
    counts: AccuracyCounts
    published: PublishedFigures | None
    images_now: int
    seconds: float
    engine: str | None = None
    data_name: str = ""
    handle: str | None = None
    values_sha256: str | None = None

    @property
    def top1(self) -> Accuracy:
        """How often the right class had the highest score."""
        return self._accuracy(self.counts.top1, self.published.top1_percent if self.published else None)

    @property
    def top5(self) -> Accuracy:
        """How often the right class was among the five with the highest scores."""
        return self._accuracy(self.counts.top5, self.published.top5_percent if self.published else None)

    @property
    def images_per_second(self) -> float | None:
        """The speed of this run; None if no images were left."""
        return self.images_now / self.seconds if self.images_now else None

    def as_json(self) -> dict[str, Any]:
        """Returns the evaluation in a form that `json.dumps` accepts, always with the same keys."""
        return {
            "module": self.module,
            "handle": self.handle,
            "values_sha256": self.values_sha256,
            "data": self.data,
            "data_name": self.data_name,
            "values": self.values,
            "preprocessing": self.preprocessing,
            "engine": self.engine,
            "images": self.counts.images,
            "skipped": list(self.counts.skipped),
            "top1": self.top1.as_json(),
            "top5": self.top5.as_json(),
            "images_now": self.images_now,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }

    def _accuracy(self, right: int, published: float | None) -> Accuracy:
        images = self.counts.images
        return Accuracy(right, percent(right, images), standard_error_percent(right, images), published)


def conclude(
    task: EvaluationTask,
    data: str,
    data_name: str | None,
    measurement: Measurement,
    config_dir: str | Path | None,
    progress: Progress,
) -> Evaluation:
    """Puts the published figures beside the measured ones.

    Args:
        task: the module, the dataset and the options.
        data: the path or pattern of the dataset, as the user wrote it.
        data_name: what people call the dataset. Defaults to the last part of `data`.
        measurement: the counts, and the speed of this run.
        config_dir: a folder of configs beside the built-in ones. The published figures come from the variant's config.
        progress: receives a warning if the published figures cannot be found.
    """
    try:
        manifest = task.interface.manifest()
    except ManifestError as error:
        progress.warn(f"no published accuracy to compare with: {error}")
        manifest = None
    values = None
    if manifest and manifest.values is not None:
        values = ", ".join(part for part in (manifest.values, manifest.weights) if part and part != "only")
    return Evaluation(
        module=task.interface.shown_as,
        data=data,
        values=values,
        preprocessing=PREPROCESSINGS[task.options.preprocessing].meaning,
        counts=measurement.counts,
        published=_published_figures(manifest, config_dir, progress),
        images_now=measurement.images_now,
        seconds=measurement.seconds,
        engine=measurement.engine,
        data_name=data_name or PurePath(os.path.abspath(data)).name or data,
        handle=manifest.handle if manifest else None,
        values_sha256=values_sha256(task.file_digests),
    )


def _published_figures(
    manifest: Manifest | None, config_dir: str | Path | None, progress: Progress
) -> PublishedFigures | None:
    # The published figures are not those of made-up weights.
    if manifest is None or manifest.variant is None or manifest.values == _SYNTHETIC:
        return None
    try:
        return load_variant(manifest.variant, config_dir).published
    except ConfigError as error:
        progress.warn(f"no published accuracy to compare with: {error.what}")
        return None
