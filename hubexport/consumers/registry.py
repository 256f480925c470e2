"""The consumers: their TensorFlows and tensorflow_hubs, and the modules that these can load."""

from collections.abc import Sequence
import dataclasses
import functools
import importlib.metadata
from pathlib import Path
import platform
import re
import sys
from typing import TYPE_CHECKING

from hubexport.consumers.environments import Environment
from hubexport.errors import ConsumerError, guess
from hubexport.variants import TF1_VERSIONS, TF2_VERSIONS

if TYPE_CHECKING:
    from hubexport.modules.module_report import Format

ALL = "all"
INSTALLED = "installed"

_REQUIREMENTS = Path(__file__).with_name("requirements")
# The first tensorflow_hub without hub.Module.
_HUB_WITHOUT_MODULE = (0, 16)
# The first tensorflow_hub that knows attachments, which modules have from version 3 on.
_HUB_WITH_ATTACHMENTS = (0, 2)
_VERSION_WITH_ATTACHMENTS = 3
# The oldest TensorFlow in which Reusable SavedModels are tested.
_OLDEST_FOR_TF2 = (2, 4)


@dataclasses.dataclass(frozen=True)
class Consumer:
    """A TensorFlow and a tensorflow_hub that load modules; this class stands for those of the running interpreter.

    Attributes:
        name: the consumer's name, like `tf1.15`.
        python: the version of Python, like `3.7`.
        tensorflow: the version of TensorFlow, like `1.15.5`.
        tensorflow_hub: the version of tensorflow_hub, like `0.12.0`.
    """

    name: str
    python: str
    tensorflow: str
    tensorflow_hub: str

    @property
    def has_hub_module(self) -> bool:
        """Whether its tensorflow_hub has `hub.Module`, the only API that can train TF1 Hub modules."""
        return _release(self.tensorflow_hub) < _HUB_WITHOUT_MODULE

    @property
    def loads(self) -> "dict[Format, tuple[int, ...]]":
        """The versions of the modules that the consumer can load, by module format."""
        versions: dict[Format, Sequence[int]] = {"TF1 Hub module": TF1_VERSIONS, "TF2 SavedModel": TF2_VERSIONS}
        return {
            format_: tuple(version for version in of_format if not why_not_applicable(self, format_, version))
            for format_, of_format in versions.items()
        }

    def interpreter(self) -> Path:
        """Returns the consumer's Python.

        Raises:
            ConsumerError: the consumer's environment is not set up.
        """
        return Path(sys.executable)


@dataclasses.dataclass(frozen=True)
class PinnedConsumer(Consumer):
    """A consumer with its own environment of pinned packages, which may not be set up."""

    environment: Environment

    def interpreter(self) -> Path:
        if not self.environment.is_ready:
            raise ConsumerError(
                f"{self.name} is not set up",
                why=f"there is no complete environment in {self.environment.folder}",
                fix=f"run `hubexport consumers create {self.name}`",
            )
        return self.environment.interpreter


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _pinned(name: str, python: str, pip: str | None = None) -> PinnedConsumer:
    requirements = _REQUIREMENTS / f"{name}.txt"
    pins = dict(line.split("==") for line in requirements.read_text(encoding="utf-8").splitlines() if "==" in line)
    environment = Environment(name, python, requirements, pip)
    return PinnedConsumer(name, python, pins["tensorflow"], pins["tensorflow-hub"], environment)


# Each has a tensorflow_hub from the time of its TensorFlow, and nothing of hubexport.
CONSUMERS = (
    _pinned("tf1.7", "3.6", pip="21.3.1"),
    _pinned("tf1.7-hub0.2", "3.6", pip="21.3.1"),
    _pinned("tf1.13", "3.7", pip="24.0"),
    _pinned("tf1.15", "3.7", pip="24.0"),
    _pinned("tf2.4", "3.8"),
    _pinned("tf2.10", "3.10"),
    _pinned("tf2.15", "3.11"),
    _pinned("tf2.21", "3.13"),
)


@functools.cache
def installed() -> Consumer:
    """Returns the running interpreter as a consumer, without importing TensorFlow.

    Raises:
        ConsumerError: TensorFlow or tensorflow_hub is not installed.
    """
    try:
        tensorflow = importlib.metadata.version("tensorflow")
        tensorflow_hub = importlib.metadata.version("tensorflow-hub")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConsumerError(
            f"{sys.executable} cannot load modules",
            why=f"{error.name} is not installed there",
            fix=f"run `pip install {error.name}`",
        ) from error
    return Consumer(INSTALLED, ".".join(platform.python_version_tuple()[:2]), tensorflow, tensorflow_hub)


def select_consumers(names: Sequence[str]) -> tuple[PinnedConsumer, ...]:
    """Returns consumers by name, in the requested order and without repetitions; `all` stands for all consumers.

    Raises:
        ConsumerError: a name is unknown.
    """
    known = {consumer.name: consumer for consumer in CONSUMERS}
    selected: list[PinnedConsumer] = []
    for name in names:
        if name != ALL and name not in known:
            raise ConsumerError(
                f"no consumer {name}{guess(name, [*known, ALL])}",
                why=f"known consumers: {', '.join(known)}",
                fix=f"use one of these, or {ALL}; `hubexport consumers list` shows more",
            )
        selected += CONSUMERS if name == ALL else [known[name]]
    return tuple(dict.fromkeys(selected))


def why_not_applicable(consumer: Consumer, format: "Format", version: int) -> str | None:
    """Returns why a consumer cannot load a module of this format and version, 1 to 5, as a clause; None if it can."""
    if format == "TF1 SavedModel":
        return "a TensorFlow 1 SavedModel is not a TensorFlow Hub module"
    if format == "TF2 SavedModel":
        if _release(consumer.tensorflow) >= _OLDEST_FOR_TF2:
            return None
        oldest = ".".join(map(str, _OLDEST_FOR_TF2))
        return f"TensorFlow {consumer.tensorflow} is older than {oldest}, the oldest supported for TF2 SavedModels"
    if version >= _VERSION_WITH_ATTACHMENTS and _release(consumer.tensorflow_hub) < _HUB_WITH_ATTACHMENTS:
        return f"tensorflow-hub {consumer.tensorflow_hub} rejects modules with attachments, such as those of version 3"
    return None
