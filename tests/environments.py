"""Virtual environments with old and new TensorFlows, and PyTorch, made once and kept in the cache folder.

python -m tests.environments [NAME…]      sets up those named, or all, and tells which cannot be
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import pytest

from hubexport.checkpoints.cache import cache_dir

_REQUIREMENTS = Path(__file__).with_name("requirements")
_PROGRAMS = Path(__file__).with_name("consumers")


@dataclasses.dataclass(frozen=True)
class Environment:
    """A Python and pinned packages.

    Attributes:
        name: of its requirements file, too.
        python: like `3.6`.
        pip: the last pip for that Python, where the one that comes with it is too old for today's packages.
    """

    name: str
    python: str
    pip: str | None = None

    @property
    def requirements(self) -> Path:
        """The pinned packages."""
        return _REQUIREMENTS / f"{self.name}.txt"


# Each has the tensorflow_hub of its TensorFlow's time, and nothing of hubexport.
CONSUMERS = (
    Environment("tf1.7", "3.6", pip="21.3.1"),
    Environment("tf1.7-hub0.2", "3.6", pip="21.3.1"),
    Environment("tf1.13", "3.7", pip="24.0"),
    Environment("tf1.15", "3.7", pip="24.0"),
    Environment("tf2.4", "3.8"),
    Environment("tf2.10", "3.10"),
    Environment("tf2.15", "3.11"),
    Environment("tf2.21", "3.13"),
)
# Those that load Reusable SavedModels.
TF2_CONSUMERS = tuple(environment for environment in CONSUMERS if environment.name.startswith("tf2"))
# The newest Python and TensorFlow on which hubexport itself runs; the development environment is the oldest TensorFlow.
NEWEST = Environment("newest", "3.13")
# Those that run what hubexport converts to, beside the Keras 2 and 3 that come with the TensorFlows. PyPI's torch needs
# its CUDA packages, 5 GB in all, though nothing here uses them; where pip is offered a build for CPUs, it is 1.2 GB.
FRAMEWORKS = (Environment("torch", "3.11"),)


class PythonMissing(Exception):
    """No interpreter of an environment's version is on this machine."""


def python_of(environment: Environment) -> Path:
    """Returns the interpreter of an environment, which is made if it is not there.

    Raises:
        PythonMissing: it cannot be made here.
    """
    pins = hashlib.sha256(environment.requirements.read_bytes()).hexdigest()[:12]
    folder = cache_dir() / "environments" / f"{environment.name}-{pins}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    base = _find_python(environment.python)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(Path(f"{folder}.lock")):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run(base, "-m", "venv", folder)
            if environment.pip:
                _run(python, "-m", "pip", "install", "--quiet", f"pip=={environment.pip}")
            _run(python, "-m", "pip", "install", "--quiet", "--requirement", environment.requirements)
            ready.touch()
    return python


def python_or_skip(environment: Environment) -> Path:
    """Returns the interpreter of an environment, or skips the test that asks and says why.

    Raises:
        PythonMissing: it cannot be made here, though HUBEXPORT_REQUIRED_ENVIRONMENTS names it.
    """
    try:
        return python_of(environment)
    except PythonMissing as error:
        if environment.name in os.environ.get("HUBEXPORT_REQUIRED_ENVIRONMENTS", "").split():
            raise
        pytest.skip(f"{environment.name} is not tried: {error}")


def run_consumer(python: Path, program: str, tasks: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Runs a program of `tests/consumers` in an environment.

    Args:
        python: the environment's interpreter.
        program: the program's file name.
        tasks: what it is told, one object a module.
        folder: where question and answer go.
    Returns:
        What it saw: in `modules`, one object a task.
    """
    (folder / "task.json").write_text(json.dumps({"modules": tasks}))
    command = [python, _PROGRAMS / program, folder / "task.json", folder / "seen.json"]
    done = subprocess.run(
        [*map(str, command)], env=_clean_environment(), capture_output=True, text=True, check=False, timeout=560
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    assert len(seen["modules"]) == len(tasks)
    return seen


def _clean_environment() -> dict[str, str]:
    # A PYTHONPATH of ours would put today's packages into an old Python.
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _find_python(version: str) -> str:
    candidates = [f"python{version}"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        candidates += map(str, Path(root, "versions").glob(f"{version}.*/bin/python"))
    for candidate in candidates:
        with contextlib.suppress(OSError):
            probe = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            if subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip() == version:
                return candidate
    raise PythonMissing(f"no Python {version} on this machine")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], env=_clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")


def main(names: list[str]) -> None:
    """Sets environments up, one line each."""
    for environment in (*CONSUMERS, *FRAMEWORKS, NEWEST):
        if not names or environment.name in names:
            try:
                print(f"{environment.name:14}{python_of(environment)}", flush=True)
            except PythonMissing as error:
                print(f"{environment.name:14}CANNOT BE SET UP: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
