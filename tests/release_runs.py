"""Runs of `hubexport`, mostly releases of the smallest modules, each in a process forked from one that is warm."""

from collections.abc import Callable
import dataclasses
import hashlib
import json
import multiprocessing
import os
from pathlib import Path
import sys
import tempfile
import time

from hubexport.cli import main

_CONFIG = """\
network: mobilenet_v2
depth_multiplier: 0.35
image_size: 96
num_classes: {num_classes}
dataset: made up
modules: [{modules}]
"""
# A check that takes almost no time and no TensorFlow.
CHEAP = ("--checks", "structure.digests")
# The names of hidden files and folders of a running release begin with this.
HIDDEN = ".hubexport-"

# Importing the code of a release takes longer than making a small one.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.warm_release"])


def write_config(folder: Path, name: str, *modules: str, num_classes: int = 7) -> None:
    """Writes the config of a variant."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(_CONFIG.format(num_classes=num_classes, modules=", ".join(modules)))


def two_variants(folder: Path) -> Path:
    """Writes the configs of `one` and `two`, with one module each, and returns their folder."""
    write_config(folder, "one", "classification/3")
    write_config(folder, "two", "feature_vector/5")
    return folder


@dataclasses.dataclass(frozen=True)
class Done:
    """The result of a command: its exit status, or minus the number of the signal that ended it, and its output."""

    status: int
    stdout: str
    stderr: str


class Command:
    """`hubexport`, running in another process.

    Args:
        arguments: the arguments of the command.
        before: a function that the process calls first, to prepare its own fault.
    """

    def __init__(self, *arguments: str | Path, before: Callable[[], None] | None = None) -> None:
        self._output = tempfile.TemporaryDirectory()
        given = ["hubexport", *map(str, arguments)]
        self._process = _FORKS.Process(target=_run, args=(given, Path(self._output.name), before))
        self._process.start()

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()

    def stderr_so_far(self) -> str:
        """Returns the output on stderr so far."""
        stderr = Path(self._output.name, "stderr")
        return stderr.read_text() if stderr.exists() else ""

    def wait(self, timeout_s: float = 120) -> Done:
        """Waits for the end of the process."""
        self._process.join(timeout_s)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            raise TimeoutError(f"hubexport is still at work after {timeout_s} s")
        stdout, stderr = (Path(self._output.name, name) for name in ("stdout", "stderr"))
        # If it was killed very early, it wrote neither.
        done = Done(status, *(path.read_text() if path.exists() else "" for path in (stdout, stderr)))
        self._output.cleanup()
        return done


class Release(Command):
    """`hubexport release`, running in another process."""

    def __init__(self, *arguments: str | Path, before: Callable[[], None] | None = None) -> None:
        super().__init__("release", *arguments, before=before)


def make_release(*arguments: str | Path, before: Callable[[], None] | None = None) -> Done:
    """Runs `hubexport release` to its end."""
    return Release(*arguments, before=before).wait()


def _run(arguments: list[str], output: Path, before: Callable[[], None] | None) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = arguments
    if before:
        before()
    main.run()


def contents(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of a release, except the hidden ones of a running release."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.relative_to(directory).parts[0].startswith(HIDDEN)
    }


def hidden(directory: Path) -> list[str]:
    """Returns the names of hidden files and folders, which a running or killed release leaves."""
    return sorted(path.name for path in directory.rglob(f"{HIDDEN}*"))


def listed(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of all files that the index lists, by path, and asserts that the files are as listed.

    It reads the index like any other program, and shares no code with hubexport.
    """
    index = json.loads((directory / "index.json").read_text())
    files = [*index["publishers"]]
    for artifact in index["artifacts"]:
        files += [*artifact["files"].values(), artifact["sbom"]]
        assert json.loads((directory / f"{artifact['handle']}.json").read_text()) == artifact
    for file in files:
        content = (directory / file["path"]).read_bytes()
        assert len(content) == file["bytes"], file["path"]
        assert hashlib.sha256(content).hexdigest() == file["sha256"], file["path"]
    sums = dict(reversed(line.split("  ")) for line in (directory / "SHA256SUMS").read_text().splitlines())
    for path, sha256 in sums.items():
        assert hashlib.sha256((directory / path).read_bytes()).hexdigest() == sha256, path
    digests = {file["path"]: file["sha256"] for file in files}
    assert digests.items() <= sums.items()
    return digests


def wait_for(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Waits until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.002)
