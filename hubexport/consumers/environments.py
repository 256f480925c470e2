"""Virtual environments of pinned packages, made once and kept in the cache folder.

A process that makes or removes an environment holds the lock `FOLDER.lock` beside its folder. An environment without
the file `ready` is incomplete, and is made anew.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Literal

from hubexport.errors import ConsumerError
from hubexport.progress import Progress
from hubexport.system.atomic_output import make_folder
from hubexport.system.cache_folder import cache_dir
from hubexport.system.child_process import clean_environment
from hubexport.system.locks import HeldError, locked

State = Literal["set up", "not set up", "Python missing"]

_READY = "ready"
# How much of a failed command's output an error shows.
_LAST_LINES = 10
# Fails if Python cannot make environments, like Debian's without python3-venv.
_PROBE = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment of pinned packages.

    Attributes:
        name: the environment's name, with which its folder's name begins.
        python: the version of Python, like `3.6`.
        requirements: the requirements file with the pins.
        pip: the pip to install first, if the one that comes with Python is too old for today's packages.
    """

    name: str
    python: str
    requirements: Path
    pip: str | None = None

    @property
    def folder(self) -> Path:
        """The environment's folder, which may not exist yet; it depends on the pins."""
        pins = hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:12]
        return _environments_dir() / f"{self.name}-{pins}"

    @property
    def interpreter(self) -> Path:
        """The environment's Python."""
        return self.folder / "bin" / "python"

    @property
    def is_ready(self) -> bool:
        """Whether the environment is complete, and the Python that it was made from still exists."""
        return os.path.exists(self.folder / _READY) and os.path.exists(self.interpreter)

    @property
    def state(self) -> State:
        """Whether the environment is set up, or can be set up on this machine."""
        if self.is_ready:
            return "set up"
        return "not set up" if find_python(self.python) else "Python missing"


def _environments_dir() -> Path:
    # Absolute, because programs run in other working directories.
    return cache_dir().absolute() / "environments"


def create(environment: Environment, progress: Progress) -> Path:
    """Makes an environment unless it is complete, and returns its interpreter.

    Raises:
        ConsumerError: its Python is not installed, pip failed, or the cache folder cannot be written.
    """
    if environment.is_ready:
        return environment.interpreter
    folder = environment.folder
    python = find_python(environment.python)
    if python is None:
        raise ConsumerError(
            f"cannot set up {environment.name}",
            why=f"it needs Python {environment.python}, which is not installed",
            fix=f"install it, for example with `pyenv install {environment.python}`, or put python{environment.python} "
            "on the PATH",
        )
    try:
        make_folder(folder.parent)
        with locked(_lock_path(folder), f"set up {folder.name}", progress):
            if not environment.is_ready:
                _make(environment, python, progress)
    except OSError as error:
        raise ConsumerError(
            f"cannot set up {environment.name}",
            why=f"{error.strerror or error}: {error.filename or folder}",
            fix="free space there, or set HUBEXPORT_CACHE_DIR to another cache folder",
        ) from error
    return environment.interpreter


def _make(environment: Environment, python: str, progress: Progress) -> None:
    folder = environment.folder
    progress.step(f"setting up {environment.name} with Python {environment.python}")
    shutil.rmtree(folder, ignore_errors=True)
    pip = (environment.interpreter, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    try:
        _run(environment, python, "-m", "venv", folder)
        if environment.pip:
            _run(environment, *pip, f"pip=={environment.pip}")
        _run(environment, *pip, "--requirement", environment.requirements)
        (folder / _READY).touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _run(environment: Environment, *command: str | Path) -> None:
    done = subprocess.run(
        [*map(str, command)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        output = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ConsumerError(
            f"cannot set up {environment.name}",
            why=f"`python {' '.join(map(str, command[1:]))}` exited with status {done.returncode}",
            fix="see its output; pip needs a network or a configured index, and free disk space",
            details=output[-_LAST_LINES:],
        )


def remove(name: str) -> tuple[Path, ...]:
    """Removes all environments of this name, including those with older pins, and returns their folders.

    Raises:
        ConsumerError: another process is making or removing one of them, or a folder cannot be removed.
    """
    pattern = re.compile(rf"{re.escape(name)}-[0-9a-f]{{12}}")
    removed = []
    try:
        for folder in sorted(path for path in _environments_dir().glob("*") if pattern.fullmatch(path.name)):
            with locked(_lock_path(folder), f"set up {folder.name}", None):
                # First, so that what an interruption leaves behind does not count as complete.
                (folder / _READY).unlink(missing_ok=True)
                shutil.rmtree(folder)
            removed.append(folder)
    except HeldError as error:
        raise ConsumerError(
            f"cannot remove {name}",
            why=f"another process is using it: {error}",
            fix="wait until no process uses it",
        ) from error
    except OSError as error:
        raise ConsumerError(
            f"cannot remove {name}",
            why=f"{error.strerror or error}: {error.filename}",
            fix="make its folder writable",
        ) from error
    return tuple(removed)


def _lock_path(folder: Path) -> Path:
    return Path(f"{folder}.lock")


@functools.cache
def find_python(version: str) -> str | None:
    """Returns a Python of this version, like `3.6`, that can make environments; None if this machine has none."""
    candidates = [f"python{version}"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        candidates += map(str, Path(root, "versions").glob(f"{version}.*/bin/python"))
    for candidate in [*candidates, sys.executable]:
        with contextlib.suppress(OSError):
            probe = [candidate, "-c", _PROBE]
            done = subprocess.run(probe, env=clean_environment(), capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                return candidate
    return None
