"""The engine of each deployment format."""

from collections.abc import Callable
from contextlib import AbstractContextManager
import dataclasses
from typing import TYPE_CHECKING

from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.engines import Engine
from hubexport.errors import UsageError
from hubexport.extras import require_extras
from hubexport.modules.deployment_interface import DeploymentInterface

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule


@dataclasses.dataclass(frozen=True)
class Runner:
    """What runs a format.

    Attributes:
        extra: the packages that it needs; None if it needs none.
        engine: the engine's name among those of modules; None if it runs none.
        opened: loads a deployment, for as long as the context lasts. Raises ModuleError if its engine refuses it.
    """

    extra: str | None
    engine: Engine | None
    opened: "Callable[[DeploymentInterface], AbstractContextManager[ImageModule]]"


def _opened_onnx(interface: DeploymentInterface) -> "AbstractContextManager[ImageModule]":
    from hubexport.runtime.onnx_runner import opened_onnx

    return opened_onnx(interface)


def _opened_tfjs(interface: DeploymentInterface) -> "AbstractContextManager[ImageModule]":
    from hubexport.runtime.tfjs_runner import opened_tfjs

    return opened_tfjs(interface)


def _opened_tflite(interface: DeploymentInterface) -> "AbstractContextManager[ImageModule]":
    from hubexport.runtime.tflite_runner import opened_tflite

    return opened_tflite(interface)


# By the names in `DEPLOYMENTS`.
RUNNERS: dict[str, Runner] = {
    "onnx": Runner("onnx", "onnx", _opened_onnx),
    "tfjs": Runner("tensorflow", "tensorflow", _opened_tfjs),
    "tflite": Runner("tflite", None, _opened_tflite),
}


def opened_deployment(
    interface: DeploymentInterface, engine: Engine | None = None
) -> "AbstractContextManager[ImageModule]":
    """Loads a deployment into its engine, for as long as the context lasts.

    Args:
        interface: how it is run.
        engine: the caller's choice; a deployment has but one.
    Raises:
        MissingExtraError: packages of its engine are missing.
        ModuleError: its engine refuses it.
        UsageError: the engine does not run this format.
    """
    format_ = interface.report.format
    runner, title = RUNNERS[format_], DEPLOYMENTS[format_].title
    if engine not in (None, runner.engine):
        raise UsageError(
            f"{interface.shown_as} does not run with --engine {engine}",
            why=f"it is a model for {title}, which has an engine of its own",
            fix="leave --engine out",
        )
    if runner.extra:
        require_extras(f"running {title} models", runner.extra)
    return runner.opened(interface)
