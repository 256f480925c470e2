"""Releases of the smallest modules, each made by a process of its own that is forked from one which is warm."""

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
# Proves little, in no time and without TensorFlow.
CHEAP = ("--verify", "structure.digests")
# What a release hides while it is made begins with this.
HIDDEN = ".hubexport-"

# To import what a release needs takes longer than to make a small one.
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
    """What became of a command: its exit status, or minus the number of the signal that ended it."""

    status: int
    stdout: str
    stderr: str


class Command:
    """`hubexport`, under way in another process.

    Args:
        arguments: what follows `hubexport`.
        before: what the process does first: prepares its own misfortune.
    """

    def __init__(self, *arguments: str | Path, before: Callable[[], None] | None = None) -> None:
        self._output = tempfile.TemporaryDirectory()
        given = ["hubexport", *map(str, arguments)]
        self._process = _FORKS.Process(target=_run, args=(given, Path(self._output.name), before))
        self._process.start()

    def kill(self) -> None:
        """Ends it, without a last word."""
        self._process.kill()

    def stderr_so_far(self) -> str:
        """Returns what it has said."""
        stderr = Path(self._output.name, "stderr")
        return stderr.read_text() if stderr.exists() else ""

    def wait(self, timeout_s: float = 120) -> Done:
        """Waits for its end."""
        self._process.join(timeout_s)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            raise TimeoutError(f"hubexport is still at work after {timeout_s} s")
        stdout, stderr = (Path(self._output.name, name) for name in ("stdout", "stderr"))
        # Killed very early, it has made neither.
        done = Done(status, *(path.read_text() if path.exists() else "" for path in (stdout, stderr)))
        self._output.cleanup()
        return done


class Release(Command):
    """`hubexport release`, under way in another process."""

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
    """Returns the SHA-256 of each file of a release, those left out that are hidden while it is made."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.relative_to(directory).parts[0].startswith(HIDDEN)
    }


def hidden(directory: Path) -> list[str]:
    """Returns what is left of work that goes on, or went on."""
    return sorted(path.name for path in directory.rglob(f"{HIDDEN}*"))


def listed(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of all files that the index lists, by their paths, and sees that they are as it says.

    This reads the index as any program would, and shares nothing with hubexport.
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
    """Waits until something is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.002)
