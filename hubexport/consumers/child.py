"""Programs that run in another interpreter, and never outlive the process that started them."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from hubexport.consumers.environments import clean_environment
from hubexport.errors import ConsumerError, printable
from hubexport.system.temporary import check_room, temporary_failures_reported

# However this process ends, its end of the pipe is closed: the child reads that, and ends as well. Python 3.6 reads it.
_ATTENDED = """\
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Of what a program said when it died.
_LAST_LINES = 15


class RunningProgram:
    """A program that was started, and may have ended.

    Attributes:
        what: what it is there for, as errors say it, like `tf1.15 cannot use modules/…`.
    """

    def __init__(self, what: str, process: "subprocess.Popen[bytes]", folder: Path, deadline: float) -> None:
        self.what = what
        self._process = process
        self._folder = folder
        self._deadline = deadline

    def seen(self) -> dict[str, Any]:
        """Waits until the program has ended, and returns what it wrote.

        Raises:
            ConsumerError: it died, or has not come to an end in time.
            TemporaryFileError: it died because there is no room for its temporary files.
        """
        try:
            status = self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            fix = "give it more time, or use a less busy machine"
            raise self._error("it did not finish in time", fix) from error
        if status:
            check_room(self.what, self._folder, "\n".join(self._last_lines()))
            why = f"it was killed by signal {-status}" if status < 0 else f"it exited with status {status}"
            last = self._last_lines()[-1:]
            raise self._error(": ".join([why, *last]), "see its output; `hubexport inspect` shows what a module needs")
        seen: dict[str, Any] = json.loads((self._folder / "seen.json").read_text(encoding="utf-8"))
        return seen

    def _error(self, why: str, fix: str) -> ConsumerError:
        return ConsumerError(self.what, why=why, fix=fix, details=self._last_lines())

    def _last_lines(self) -> list[str]:
        said = (self._folder / "said.txt").read_text(encoding="utf-8", errors="replace")
        return [printable(line) for line in said.splitlines() if line.strip()][-_LAST_LINES:]


@contextlib.contextmanager
def running(
    what: str,
    command: Sequence[str | Path],
    task: Mapping[str, Any],
    folder: Path,
    *,
    timeout_s: float,
    same_packages: bool = False,
) -> Iterator[RunningProgram]:
    """Starts a program; it is ended with the context if it still runs.

    Args:
        what: what errors say if it comes to nothing, like `tf1.15 cannot use modules/…`.
        command: an interpreter, and the program, which gets the names of two files: its task and where its answer goes.
        task: what it is told, as `json.dumps` takes it; paths in it are absolute.
        folder: an absolute path, of temporary files; task, answer and whatever else the program leaves go there.
        timeout_s: in which it must have ended.
        same_packages: let it import what this process can.
    Raises:
        ConsumerError: it cannot be started.
        TemporaryFileError: there is no room for its task.
    """
    interpreter, program = map(str, command)
    with temporary_failures_reported(what):
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        said = (folder / "said.txt").open("wb")
    with said:
        try:
            process = subprocess.Popen(
                [interpreter, "-c", _ATTENDED, program, str(folder / "task.json"), str(folder / "seen.json")],
                env=_environment(folder, same_packages),
                # Python looks there for packages first of all.
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
            )
        except OSError as error:
            raise ConsumerError(
                what,
                why=f"{error.strerror}: {error.filename}",
                fix="set it up again, with `hubexport consumers create`",
            ) from error
    with process:
        try:
            yield RunningProgram(what, process, folder, time.monotonic() + timeout_s)
        finally:
            process.kill()


def _environment(folder: Path, same_packages: bool) -> dict[str, str]:
    packages = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"} if same_packages else {}
    # TensorFlow leaves files in the temporary folder when it is killed.
    return {**clean_environment(), **packages, "TMPDIR": str(folder)}
