"""Environments of the consumers, and those that only tests need: the newest Python and TensorFlow, PyTorch, JAX, ONNX
Runtime, LiteRT, MediaPipe, other converters, and packages of Node.

python -m tests.environments [NAME…]      sets up the named ones, or all, and reports which cannot be set up
"""

from collections.abc import Callable, Iterable
import functools
import os
from pathlib import Path
import sys
from typing import Any

import pytest

from hubexport.cli.progress_display import shown_progress
from hubexport.consumers import registry
from hubexport.consumers.child import running
from hubexport.consumers.environments import Environment, create, find_python
from hubexport.consumers.registry import Consumer
from hubexport.errors import ConsumerError
from hubexport.progress import Progress
from tests import node

_REQUIREMENTS = Path(__file__).with_name("requirements")
_PROGRAMS = Path(__file__).with_name("consumers")
_TIMEOUT_S = 1700.0

CONSUMERS = tuple(consumer.environment for consumer in registry.CONSUMERS)
# The oldest and the newest TensorFlow of each format. Only `make prove` tries the others.
_ALWAYS_TRIED = ("tf1.7", "tf1.15", "tf2.4", "tf2.21")
# The newest Python and TensorFlow that hubexport itself supports; the development environment has the oldest ones.
NEWEST = Environment("newest", "3.13", _REQUIREMENTS / "newest.txt")
# Frameworks that load converted checkpoints, besides Keras 2 and 3, which come with TensorFlow; both have Keras 3, too,
# for which they are backends. PyPI's torch needs CUDA packages, 5 GB in all, although nothing here uses them; an index
# with a build for CPUs makes it 1.2 GB.
FRAMEWORKS = (
    Environment("torch", "3.11", _REQUIREMENTS / "torch.txt"),
    Environment("jax", "3.13", _REQUIREMENTS / "jax.txt"),
)
# The newest ONNX Runtime, onnx and OpenCV; the development environment has an older onnx, which fits its TensorFlow.
ONNX = Environment("onnx", "3.13", _REQUIREMENTS / "onnx.txt")
# What runs TFLite models: the newest LiteRT, and the last MediaPipe whose wheel has a reader of metadata.
LITERT = Environment("litert", "3.12", _REQUIREMENTS / "litert.txt")
MEDIAPIPE = Environment("mediapipe", "3.11", _REQUIREMENTS / "mediapipe.txt")
# Other converters to ONNX and to TF.js, with the TensorFlow that they read modules with.
TF2ONNX = Environment("tf2onnx", "3.11", _REQUIREMENTS / "tf2onnx.txt")
TENSORFLOWJS = Environment("tensorflowjs", "3.11", _REQUIREMENTS / "tensorflowjs.txt")


def cases(consumers: Iterable[Environment | Consumer]) -> list[Any]:
    """Returns the parameters of a test of consumers; those that only `make prove` tries are marked."""
    return [
        pytest.param(consumer, id=consumer.name, marks=[] if consumer.name in _ALWAYS_TRIED else [pytest.mark.prove])
        for consumer in consumers
    ]


def python_or_skip(environment: Environment) -> Path:
    """Returns the interpreter of an environment, or skips the test if its Python is not installed.

    Raises:
        ConsumerError: the environment cannot be set up for another reason, or HUBEXPORT_REQUIRED_ENVIRONMENTS names it.
    """
    required = environment.name in os.environ.get("HUBEXPORT_REQUIRED_ENVIRONMENTS", "").split()
    if not required and not environment.is_ready and find_python(environment.python) is None:
        pytest.skip(f"{environment.name} is not tried: no Python {environment.python} on this machine")
    return create(environment, Progress())


def run_consumer(python: Path, program: str | Path, tasks: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Runs a program in an environment.

    Args:
        python: the environment's interpreter.
        program: the name of a file in `tests/consumers`, or the path of another program.
        tasks: the task's `modules`.
        folder: a folder for the task and the answer.
    Returns:
        The answer, with one object per task in `modules`.
    """
    command = [python, _PROGRAMS / program]
    with running(f"{python} {program}", command, {"modules": tasks}, folder, timeout_s=_TIMEOUT_S) as answer:
        seen = answer()
    assert len(seen["modules"]) == len(tasks)
    return seen


def main(names: list[str]) -> None:
    """Sets up environments, and prints a line about each."""
    with shown_progress() as progress:
        setups: dict[str, Callable[[], Path]] = {
            environment.name: functools.partial(create, environment, progress)
            for environment in (*CONSUMERS, *FRAMEWORKS, ONNX, LITERT, MEDIAPIPE, TF2ONNX, TENSORFLOWJS, NEWEST)
        }
        setups[node.NAME] = functools.partial(node.create_packages, progress)
        for name, set_up in setups.items():
            if not names or name in names:
                try:
                    print(f"{name:14}{set_up()}", flush=True)
                except ConsumerError as error:
                    print(f"{name:14}CANNOT BE SET UP: {error.why}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
