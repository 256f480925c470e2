"""What an evaluation found, beside what was published."""

import dataclasses
from pathlib import Path
from typing import Any

from hubexport.config_files import load_variant
from hubexport.errors import ConfigError
from hubexport.evaluation.counting import Counts, percent, standard_error_percent
from hubexport.evaluation.pipeline import EvaluationOptions
from hubexport.evaluation.preprocessing import PREPROCESSINGS
from hubexport.evaluation.run import Measured
from hubexport.formats.manifest import Manifest, ManifestError, read_manifest
from hubexport.modules.opening import ModuleDirectory
from hubexport.progress import Progress
from hubexport.variants import PublishedFigures

_SYNTHETIC = "synthetic"


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A top-1 or top-5 accuracy, measured and published; a figure that is not known is None.

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
        """Measured less published, in percent."""
        if self.percent is None or self.published_percent is None:
            return None
        return self.percent - self.published_percent

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as `json.dumps` takes them."""
        return {
            "right": self.right,
            "percent": self.percent,
            "standard_error": self.standard_error,
            "published_percent": self.published_percent,
            "difference": self.difference,
        }


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        module: the module's path or address.
        data: the data's path or pattern.
        values: the origin of the module's values according to its manifest, like `trained, averaged`; None if it has
            none.
        preprocessing: what was done to the images, in words.
        counts: the numbers of images classified and right, and a line for each image that cannot be read.
        published: the published figures of the module's variant; None if there are none.
        images_now: the number of images read in this run, not before an interruption.
        seconds: the time that these images took, without the start of TensorFlow.
    """

    module: str
    data: str
    values: str | None
    preprocessing: str
    counts: Counts
    published: PublishedFigures | None
    images_now: int
    seconds: float

    @property
    def top1(self) -> Accuracy:
        """How often the right class had the highest logit."""
        return self._accuracy(self.counts.top1, self.published.top1_percent if self.published else None)

    @property
    def top5(self) -> Accuracy:
        """How often the right class was among the five with the highest logits."""
        return self._accuracy(self.counts.top5, self.published.top5_percent if self.published else None)

    @property
    def images_per_second(self) -> float | None:
        """The speed of this run; None if nothing was left to do."""
        return self.images_now / self.seconds if self.images_now else None

    def as_json(self) -> dict[str, Any]:
        """Returns the evaluation as `json.dumps` takes it, always with the same keys."""
        return {
            "module": self.module,
            "data": self.data,
            "values": self.values,
            "preprocessing": self.preprocessing,
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
    module: ModuleDirectory,
    data: str,
    options: EvaluationOptions,
    measured: Measured,
    config_dir: str | Path | None,
    progress: Progress,
) -> Evaluation:
    """Puts what was measured beside what was published.

    Args:
        module: that was evaluated.
        data: as the user knows them.
        options: how.
        measured: what came of it.
        config_dir: a folder of configs beside the built-in ones; the variant's has the published figures.
        progress: hears why there are none.
    """
    try:
        manifest = read_manifest(module.directory)
    except ManifestError as error:
        progress.warn(f"no published accuracy to compare with: {error}")
        manifest = None
    return Evaluation(
        module=str(module.shown_as),
        data=data,
        values=_values(manifest),
        preprocessing=PREPROCESSINGS[options.preprocessing].meaning,
        counts=measured.counts,
        published=_published(manifest, config_dir, progress),
        images_now=measured.images_now,
        seconds=measured.seconds,
    )


def _values(manifest: Manifest | None) -> str | None:
    """Returns for people where a module's values came from."""
    if manifest is None or manifest.values is None:
        return None
    return ", ".join(part for part in (manifest.values, manifest.weights) if part and part != "only")


def _published(manifest: Manifest | None, config_dir: str | Path | None, progress: Progress) -> PublishedFigures | None:
    # Nobody has measured what is made up.
    if manifest is None or manifest.variant is None or manifest.values == _SYNTHETIC:
        return None
    try:
        return load_variant(manifest.variant, config_dir).published
    except ConfigError as error:
        progress.warn(f"no published accuracy to compare with: {error.what}")
        return None
