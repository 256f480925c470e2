"""Faults of a process: functions that a process calls before it begins its work."""

import contextlib
import ctypes
import dataclasses
import itertools
import os
from pathlib import Path
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

from hubexport import build
from hubexport.release import make_artifact, release_modules
from tests.faulty_disk import hide_free_space
from tests.release_runs import HIDDEN, wait_for


def die_before(directory: Path, number: int, name: str | None = None) -> None:
    """Kills this process just before it changes a release's folder, or one file in it, for the nth time."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        place = _touched(directory, event, arguments)
        if place is None or name not in (None, str(place)):
            return
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _touched(directory: Path, event: str, arguments: tuple[Any, ...]) -> Path | None:
    """Returns the path in a release's folder that a system call is about to change, scratch folders excepted."""
    if event not in ("os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"):
        return None
    path = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
    if not isinstance(path, (str, Path)) or directory not in Path(path).parents:
        return None
    place = Path(path).relative_to(directory)
    return None if len(place.parts) > 1 and place.parts[0].startswith(HIDDEN) else place


def fill_at(ballast: Path, number: int) -> None:
    """Fills the disk when a file on it is opened for writing for the nth time, and frees it again at the next time."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event != "open" or not isinstance(arguments[0], (str, Path)) or not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if ballast.parent not in Path(arguments[0]).parents or Path(arguments[0]) == ballast:
            return
        count += 1
        if count == number:
            _fill(ballast)
        elif count == number + 1:
            os.truncate(ballast, 0)

    hide_free_space()
    sys.addaudithook(hook)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass


def use_for_temporary(folder: Path) -> None:
    """Lets this process write its temporary files into a folder."""
    tempfile.tempdir = str(folder)


def obey_modes() -> None:
    """Drops root's right to write everywhere, which other users do not have."""
    version_3_of_this_thread = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert ctypes.CDLL(None).capset(version_3_of_this_thread, (ctypes.c_uint32 * 6)()) == 0


def jump() -> None:
    """Lets the clock of this process jump back and forth by years."""
    now, jumps = time.time(), itertools.cycle((0, 1e9, -1e9, 3e9, -1.5e9))
    time.time = lambda: now + next(jumps)
    time.time_ns = lambda: int(time.time() * 1e9)


def wait_at(step: str, here: Path, go: Path) -> None:
    """Lets a step of a run create the file `here`, and wait for the file `go`."""
    original = getattr(release_modules, step)

    def waiting(*arguments, **options):
        here.touch()
        wait_for(go.exists)
        return original(*arguments, **options)

    setattr(release_modules, step, waiting)


def hold_at(event: str, suffix: str, here: Path, go: Path) -> None:
    """Lets this process create the file `here` before it moves a file of some name into place, and wait for `go`."""

    def hook(found: str, arguments: tuple[Any, ...]) -> None:
        if found == event and str(arguments[1]).endswith(suffix) and not here.exists():
            here.touch()
            wait_for(go.exists)

    sys.addaudithook(hook)


def disprove_two() -> None:
    """Lets the verification of `two` fail."""
    verify = make_artifact.verify_module

    def verify_module(path, **options):
        verification = verify(path, **options)
        if "two" not in path:
            return verification
        failed = dataclasses.replace(verification.results[0], status="fail")
        return dataclasses.replace(verification, results=(failed,))

    make_artifact.verify_module = verify_module


def rewrite_at(step: str, other: Path, path: Path) -> None:
    """Overwrites a checkpoint with other values when a step begins."""
    name, _, function = step.partition(".")
    module = {"release_modules": release_modules, "build": build}[name]
    original = getattr(module, function)

    def rewriting(*arguments, **options):
        shutil.copyfile(other, path)
        return original(*arguments, **options)

    setattr(module, function, rewriting)
