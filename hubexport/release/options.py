"""What the user of a release decides, for all its artifacts alike."""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
from typing import Any

from hubexport.checkpoints.download_cache import Downloads
from hubexport.checkpoints.weights_choice import Weights, check_weights
from hubexport.release.facts import RESULTS, MeasuredFigures, SampleResult
from hubexport.verify.checks.registry import select_checks

# They tell one module from another with the same graph, and need no TensorFlow.
FOR_EACH_MODULE = ("rebuild", "structure", "weights")
# Where a release is served whose user has not said it. Host names have no underscores: no hub has this one.
UNKNOWN_URL = "https://YOUR_HUB"


@dataclasses.dataclass(frozen=True)
class ReleaseOptions:
    """How to make the artifacts of a release.

    Attributes:
        checkpoint: the source of the values, see `hubexport.checkpoints.checkpoint_choice.checkpoint_for`. Defaults to
            the published checkpoints in the variants' configs, which are downloaded.
        weights: `auto`, `averaged` or `raw`, see `hubexport.checkpoints.restore`.
        url: the address at which the release will be served, without a slash at the end. Defaults to
            `UNKNOWN_URL`, which users of the pages have to replace.
        checks: the checks that each module and deployment has to pass, by name or group; each artifact needs one of
            its own. Empty means `FOR_EACH_MODULE` for each module and the others for one module of each distinct graph,
            and all checks of deployments for each deployment.
        source_date_epoch: the time of the files in archives, in seconds since 1970.
        downloads: where published checkpoints are cached, and where they are downloaded from.
        accept_unpinned: also use published checkpoints whose configs have no SHA-256, see
            `hubexport.checkpoints.download.pin`.
        scope: what the names of the network's variables begin with in the checkpoints, see
            `hubexport.checkpoints.scope_choice`. Defaults to what the names themselves tell.
        measured: accuracies that were measured, by handle, see `hubexport.release.measurements`.
        sample: results for a photograph, by handle, see `hubexport.release.samples`.
    Raises:
        UsageError: `weights` is none of `auto`, `averaged` and `raw`, or a check does not exist.
    """

    checkpoint: str | Path | None = None
    weights: Weights = "auto"
    url: str = UNKNOWN_URL
    checks: tuple[str, ...] = ()
    source_date_epoch: int = 0
    downloads: Downloads = Downloads()
    accept_unpinned: bool = False
    scope: str | None = None
    measured: Mapping[str, MeasuredFigures] = dataclasses.field(default_factory=dict)
    sample: Mapping[str, SampleResult] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_weights(self.weights)
        select_checks(self.checks)

    def results_of(self, handle: str) -> dict[str, Any]:
        """Returns the results to publish with an artifact, by the names in `RESULTS`; None where there are none."""
        return {name: getattr(self, name).get(handle) for name in RESULTS}
