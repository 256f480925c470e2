"""Accuracies that `hubexport evaluate` measured, from its JSON."""

import pydantic
from pydantic import ConfigDict

from hubexport.release.facts import MeasuredFigures
from hubexport.release.result_files import ResultFile


class _Accuracy(pydantic.BaseModel):
    model_config = ConfigDict(strict=True)

    percent: float


class _Evaluation(pydantic.BaseModel):
    """The part of an evaluation's JSON that a release uses; see `hubexport.evaluation.evaluation_result`."""

    model_config = ConfigDict(strict=True)

    values_sha256: str
    data_name: str
    preprocessing: str
    engine: str | None
    images: int
    top1: _Accuracy
    top5: _Accuracy


def _figures(document: object) -> MeasuredFigures:
    found = _Evaluation.model_validate(document)
    if found.images == 0:
        raise ValueError("no image was classified")
    return MeasuredFigures(
        top1_percent=found.top1.percent,
        top5_percent=found.top5.percent,
        images=found.images,
        dataset=found.data_name,
        preprocessing=found.preprocessing,
        engine=found.engine,
        values_sha256=found.values_sha256,
    )


MEASUREMENTS = ResultFile(
    "measured",
    "evaluate",
    _figures,
    keys=frozenset({"module", "top1"}),
    places={"top1_percent": "top1.percent", "top5_percent": "top5.percent", "dataset": "data_name"},
)
