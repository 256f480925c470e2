"""Results for one photograph that `hubexport classify` printed, from its JSON."""

from pathlib import PurePath
from typing import Annotated

import pydantic
from pydantic import ConfigDict, Field

from hubexport.errors import ReleaseError
from hubexport.release.facts import MAX_SAMPLE_CLASSES, SampleResult
from hubexport.release.result_files import ResultFile
from hubexport.variants import ModuleSpec, Variant


class _Score(pydantic.BaseModel):
    model_config = ConfigDict(strict=True)

    index: int
    label: str | None
    probability: float


class _Image(pydantic.BaseModel):
    model_config = ConfigDict(strict=True)

    file: str
    top: Annotated[list[_Score], Field(min_length=1)]


class _Classified(pydantic.BaseModel):
    """The part of the JSON that a release uses; see `hubexport.cli.classify`."""

    model_config = ConfigDict(strict=True)

    values_sha256: str
    engine: str
    images: list[_Image]


def check_classes(sample: SampleResult, variant: Variant, spec: ModuleSpec) -> None:
    """Checks that a result has classes of an artifact, under their own names.

    Args:
        sample: the result.
        variant: the artifact's variant.
        spec: its kind and version.
    Raises:
        ReleaseError: it has others.
        UsageError: the file of labels cannot be read.
    """
    num_classes = variant.network_for(spec.kind, spec.version).num_classes or 0
    if problem := sample.problem(num_classes, variant.class_names()):
        raise ReleaseError(
            f"{variant.handle(spec)} cannot have its sample result",
            why=problem,
            fix="make the file again with `hubexport classify`, without --labels",
        )


def _sample(document: object) -> SampleResult:
    found = _Classified.model_validate(document)
    if len(found.images) != 1:
        raise ValueError(f"it is about {len(found.images)} images; a page shows one")
    [image] = found.images
    return SampleResult.model_validate(
        {
            "photograph": PurePath(image.file).name,
            "classes": [
                {"number": score.index, "name": score.label, "probability": score.probability}
                for score in image.top[:MAX_SAMPLE_CLASSES]
            ],
            "engine": found.engine,
            "values_sha256": found.values_sha256,
        }
    )


SAMPLES = ResultFile(
    "sample",
    "classify",
    _sample,
    keys=frozenset({"engine", "images", "skipped"}),
    subject="one photograph and a module of hubexport",
    places={"photograph": "images.0.file", "classes": "images.0.top", "number": "index", "name": "label"},
)
