"""Compares the trained values of checkpoints, modules and deployments: `hubexport diff`.

A deployment's values are folded. They are compared with those of the same deployment, written from the other side.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubexport.arrays import CHUNK_BYTES, Array
from hubexport.checkpoints.sources import read_failures_reported
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.weights_choice import Weights
from hubexport.comparison import Comparison, compare_checkpoints, compare_values
from hubexport.conversion import convert
from hubexport.deployment_spec import DeploymentSpec
from hubexport.deployments.deployed_values import deployed_values
from hubexport.deployments.inference_model import FEATURES
from hubexport.deployments.options import DeploymentOptions
from hubexport.deployments.registry import DEPLOYMENTS, Deployment, deployment_at
from hubexport.errors import ModuleError, UsageError
from hubexport.formats.manifest import MANIFEST
from hubexport.modules.identity import identify
from hubexport.modules.opening import is_address
from hubexport.progress import Progress, Warnings
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.variants import Kind, Variant


class _Arrays(StoredValues):
    """Values in memory."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self.shapes = {name: array.shape for name, array in arrays.items()}

    def dtype(self, name: str) -> str:
        return self._arrays[name].dtype.name

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        content = self._arrays[name].tobytes()
        return (content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES))


def compare(a: str | Path, b: str | Path, *, weights: Weights = "auto", progress: Progress | None = None) -> Comparison:
    """Compares the values of two checkpoints, modules or deployments.

    All values are compared by name if A and B use the same framework's names, and both or neither have moving averages.
    Otherwise only the variables of the network are compared, by TF-Slim's names. If one is a deployment, its folded
    values are compared with those that the other gives in this format. Two deployments must have the same one.

    Args:
        a: A, see `hubexport.checkpoints.sources`, or a deployment's file or folder.
        b: B, the same.
        weights: if only the network's variables are compared, which of their values: `averaged` or `raw`. Both `auto`
            and `averaged` take the raw value of a variable without an average.
        progress: is told of each step.
    Raises:
        CheckpointError: A or B cannot be found, is damaged, or does not fit the other's network.
        ModuleError: a deployment is damaged.
        UsageError: `weights` is none of `auto`, `averaged` and `raw`, or the formats of two deployments differ.
    """
    progress = progress or Progress()
    deployed_a, deployed_b = _deployment(a), _deployment(b)
    if deployed_a is None and deployed_b is None:
        return compare_checkpoints(a, b, weights=weights, progress=progress)
    if deployed_a and deployed_b:
        if deployed_a[0] != deployed_b[0]:
            raise UsageError(
                f"cannot compare {a} with {b}",
                why=f"one is {deployed_a[0].title}, the other {deployed_b[0].title}, and their values differ in form",
                fix="compare each of them with the checkpoint",
            )
        return compare_values("folded", _values(*deployed_a), _values(*deployed_b))
    if deployed_a:
        return compare_values("folded", _values(*deployed_a), _written(b, *deployed_a, weights, progress))
    assert deployed_b
    return compare_values("folded", _written(a, *deployed_b, weights, progress), _values(*deployed_b))


def _deployment(path: str | Path) -> tuple[Deployment, Path] | None:
    if is_address(path):
        return None
    with read_failures_reported(Path(path)):
        return deployment_at(Path(path))


def _values(deployment: Deployment, path: Path) -> StoredValues:
    return _Arrays(deployed_values(_name(deployment), path))


def _written(source: str | Path, deployment: Deployment, path: Path, weights: Weights, progress: Progress) -> _Arrays:
    """Returns the values that a source gives in a deployment's format, written as that was as far as it tells."""
    variant, kind, options = _how(deployment, path)
    what = f"cannot write the values of {source} as {deployment.title}"
    with temporary_directory(what) as scratch, temporary_failures_reported(what):
        target = scratch / f"model{deployment.suffix or ''}"
        to: Any = _name(deployment)
        convert(
            source,
            target,
            to,
            variant=variant,
            weights=weights,
            kind=kind,
            options=options,
            progress=Warnings(progress),
        )
        return _Arrays(deployed_values(to, target))


def _how(deployment: Deployment, path: Path) -> tuple[Variant | None, Kind, DeploymentOptions]:
    folder = path if path.is_dir() else path.parent
    if (folder / MANIFEST).is_file():
        try:
            found = identify(folder, str(folder))
        except ModuleError:
            found = None
        if found and isinstance(found.spec, DeploymentSpec) and found.spec.deployment == deployment:
            return found.variant, found.spec.kind, found.spec.options.without_calibration()
    report = deployment.report(path)
    takes = [tensor.dtype for tensor in report.inputs]
    chosen: dict[str, Any] = {"pixels": pixels for pixels, dtype in deployment.pixels.items() if [dtype] == takes}
    kind: Kind = "feature_vector" if FEATURES in [tensor.name for tensor in report.outputs] else "classification"
    return None, kind, deployment.options(**chosen)


def _name(deployment: Deployment) -> str:
    return next(name for name, one in DEPLOYMENTS.items() if one == deployment)
