"""Node with pinned packages, made once and kept in the cache folder beside the environments of consumers."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from pathlib import Path
import shutil
import subprocess
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hubexport.errors import ConsumerError
from hubexport.progress import Progress
from hubexport.system.cache_folder import cache_dir
from hubexport.system.locks import locked

NAME = "node"

_PACKAGES = Path(__file__).with_name("requirements") / "node.json"
_PROGRAMS = Path(__file__).with_name("consumers")
_INSTALL = ("install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
# It is empty, and made last.
_READY = "ready"
_TIMEOUT_S = 1700


def packages_or_skip() -> Path:
    """Returns a folder with the packages in `node_modules`, or skips the test if there is no Node.

    Raises:
        ConsumerError: the packages cannot be installed, or HUBEXPORT_REQUIRED_ENVIRONMENTS names them, and there is no
            Node.
    """
    required = NAME in os.environ.get("HUBEXPORT_REQUIRED_ENVIRONMENTS", "").split()
    if not required and not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node and npm: apt install nodejs npm")
    return create_packages(Progress())


def create_packages(progress: Progress) -> Path:
    """Installs the packages unless they are there, and returns their folder.

    Raises:
        ConsumerError: they cannot be installed.
    """
    pins = hashlib.sha256(_PACKAGES.read_bytes()).hexdigest()[:12]
    folder = cache_dir().absolute() / "environments" / f"{NAME}-{pins}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(Path(f"{folder}.lock"), f"set up {folder.name}", progress):
        if not (folder / _READY).exists():
            progress.step(f"setting up {NAME}")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            shutil.copyfile(_PACKAGES, folder / "package.json")
            try:
                done = subprocess.run(["npm", *_INSTALL], cwd=folder, capture_output=True, text=True, check=False)
            except OSError as error:
                raise _error(str(error)) from error
            if done.returncode:
                raise _error(f"npm exited with status {done.returncode}: {done.stderr[-1000:]}")
            (folder / _READY).touch()
    return folder


def run_node(program: str, task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs a program of `tests/consumers` in Node, and returns its answer.

    Args:
        program: the file's name.
        task: its task; the folder of the packages is added.
        folder: for the task and the answer.
    """
    task_file, answer_file = folder / "task.json", folder / "answer.json"
    task_file.write_text(json.dumps({**task, "packages": str(packages_or_skip())}))
    command = ["node", str(_PROGRAMS / program), str(task_file), str(answer_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(answer_file.read_text())
    return answer


@dataclasses.dataclass(frozen=True)
class SeenModel:
    """What TF.js gives of a graph model.

    Attributes:
        inputs: name, dtype and shape of each input.
        metadata: what the model says of itself.
        outputs: the values of each output by its key.
    """

    inputs: Sequence[tuple[str, str, Sequence[int]]]
    metadata: Mapping[str, Any]
    outputs: Mapping[str, npt.NDArray[Any]]


def run_tfjs(models: Sequence[Path], images: npt.NDArray[Any], backend: str, folder: Path) -> list[SeenModel]:
    """Runs graph models in TF.js, one after another, in one process of Node.

    Args:
        models: their folders.
        images: what each takes: float32 or int32.
        backend: `cpu` or `wasm`.
        folder: for temporary files.
    """
    given = folder / "images"
    images.tofile(given)
    tasks: list[dict[str, Any]] = []
    for number, model in enumerate(models):
        outputs = folder / f"outputs-{number}"
        outputs.mkdir(exist_ok=True)
        what = {"model": str(model), "backend": backend, "outputs": str(outputs)}
        tasks.append({**what, "images": str(given), "dtype": images.dtype.name, "shape": list(images.shape)})
    answer = run_node("run_tfjs.js", {"modules": tasks}, folder)
    return [
        SeenModel(
            inputs=seen["inputs"],
            metadata=seen["metadata"],
            outputs={
                key: np.fromfile(Path(task["outputs"], str(place)), np.float32).reshape(shape)
                for place, (key, shape) in enumerate(seen["outputs"].items())
            },
        )
        for task, seen in zip(tasks, answer["modules"], strict=True)
    ]


def _error(why: str) -> ConsumerError:
    return ConsumerError(f"cannot set up {NAME}", why=why, fix="npm needs a network or a configured registry")
