"""Accuracies that `hubexport evaluate` measured, read from its JSON for the artifacts of a release."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

import pydantic
from pydantic import ConfigDict

from hubexport.errors import ReleaseError, UsageError, printable
from hubexport.formats.manifest import values_sha256
from hubexport.release.facts import MeasuredFigures
from hubexport.system.regular_files import read_regular_file

# An evaluation lists the images that it skipped.
_MAX_BYTES = 16 << 20

# Where an evaluation has the fields of `MeasuredFigures` that it calls otherwise.
_PLACES = {"top1_percent": "top1.percent", "top5_percent": "top5.percent", "dataset": "data_name"}


class _Accuracy(pydantic.BaseModel):
    model_config = ConfigDict(strict=True)

    percent: float


class _Evaluation(pydantic.BaseModel):
    """The part of an evaluation's JSON that a release uses; see `hubexport.evaluation.evaluation_result`."""

    model_config = ConfigDict(strict=True)

    handle: str
    values_sha256: str
    data_name: str
    preprocessing: str
    engine: str | None
    images: int
    top1: _Accuracy
    top5: _Accuracy


def read_measurements(paths: Sequence[str | Path]) -> dict[str, MeasuredFigures]:
    """Reads the accuracies that `hubexport evaluate --format json` printed.

    Args:
        paths: the files, one for each module that was measured.
    Returns:
        The figures, by the handle of the module or deployment that they were measured on.
    Raises:
        ReleaseError: a file cannot be read, is no evaluation, or does not say which module it is of.
        UsageError: two files are of the same one.
    """
    measured: dict[str, MeasuredFigures] = {}
    origins: dict[str, str | Path] = {}
    for path in paths:
        handle, figures = _read(Path(path))
        if handle in measured:
            raise UsageError(
                f"--measured {path}: another file is about the same module",
                why=f"{origins[handle]} has the accuracy of {printable(handle)}, too",
                fix="give one of the two",
            )
        measured[handle], origins[handle] = figures, path
    return measured


def check_all_used(measured: Mapping[str, MeasuredFigures], handles: set[str]) -> None:
    """Refuses accuracies of artifacts that a run does not release.

    Args:
        measured: the figures by handle.
        handles: the handles of the run's artifacts.
    Raises:
        UsageError: there are some.
    """
    if unused := sorted(measured.keys() - handles):
        raise UsageError(
            f"--measured: this run does not release {printable(unused[0])}",
            why="a measured accuracy is published with the module or deployment that it was measured on",
            fix="select that one with --variant, --module and --deployment, or leave the file out",
            details=[f"{printable(handle)} is not released either" for handle in unused[1:]],
        )


def check_values(measured: MeasuredFigures, handle: str, digests: Mapping[str, str]) -> None:
    """Checks that an accuracy was measured on the values of an artifact.

    Args:
        measured: the figures.
        handle: the artifact's handle.
        digests: the SHA-256 of each of its files, as its manifest lists them.
    Raises:
        ReleaseError: it was measured on other values.
    """
    if measured.values_sha256 != values_sha256(digests):
        raise ReleaseError(
            f"{handle} does not have the values that were measured",
            why="--measured has an accuracy of something with this handle, but with other values",
            fix="measure what was built from the same checkpoint, or leave its file out of --measured",
        )


def _read(path: Path) -> tuple[str, MeasuredFigures]:
    try:
        document: Any = json.loads(read_regular_file(path, _MAX_BYTES))
    except OSError as error:
        raise _unusable(path, f"{error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, "it is not JSON") from error
    if isinstance(document, dict) and {"module", "top1"} <= document.keys():
        if document.get("handle") is None or document.get("values_sha256") is None:
            raise _unusable(path, "it does not say which module was measured: that one has no hubexport.json")
        if document.get("images") == 0:
            raise _unusable(path, "no image was classified")
    try:
        found = _Evaluation.model_validate(document)
        return found.handle, MeasuredFigures(
            top1_percent=found.top1.percent,
            top5_percent=found.top5.percent,
            images=found.images,
            dataset=found.data_name,
            preprocessing=found.preprocessing,
            engine=found.engine,
            values_sha256=found.values_sha256,
        )
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        names = ".".join(printable(str(part)) for part in first["loc"])
        place = _PLACES.get(names, names)
        raise _unusable(path, ": ".join(filter(None, (place, first["msg"].removeprefix("Value error, "))))) from error


def _unusable(path: Path, why: str) -> ReleaseError:
    return ReleaseError(
        f"--measured {path}: no accuracy to publish",
        why=why,
        fix="give what `hubexport evaluate --format json` printed for a module of hubexport",
    )
