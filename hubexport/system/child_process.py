"""Programs in processes of their own: each gets a task, leaves an answer, and never outlives this process.

A child runs in a private folder. Its two arguments are the paths of JSON files there: the task to read, and the answer
to write. Its output goes to a third file. Its stdin is a pipe: however this process ends, the pipe closes, and then the
child ends as well. The program may use `hubexport.system.child_program`, or be written for an older Python.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import errno
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import time
from typing import Any

from hubexport.errors import printable
from hubexport.system.regular_files import open_regular_file, read_regular_file
from hubexport.system.temporary import NO_ROOM

# Runs a program, and ends it when the pipe closes. Python before 3.11, which ignores PYTHONSAFEPATH, would import from
# the current folder first. This code runs in Python 3.6, too.
_ATTENDED = """\
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
sys.path = [folder for folder in sys.path if folder]
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_TASK = "task.json"
_ANSWER = "answer.json"
_OUTPUT = "output.txt"
_MAX_ANSWER_BYTES = 64 << 20
# Only the end of a child's output is read.
_MAX_OUTPUT_BYTES = 64 << 10
_LAST_LINES = 15
# If a child fails and its folder has less room than this, the lack of room is taken for the cause.
_FEW_BYTES = 1 << 20


class ChildError(Exception):
    """A child could not be started, died, took too long, or left no valid answer. The message says which.

    Args:
        why: what happened.
        status: the child's exit status; -N if signal N killed it; None if it did not start or end.
    """

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


@contextlib.contextmanager
def running_child(
    interpreter: str | Path,
    program: str | Path,
    task: Mapping[str, Any],
    folder: Path,
    environment: Mapping[str, str],
    *,
    timeout_s: float | None = None,
) -> Iterator[Callable[[], Any]]:
    """Starts a child, and kills it at the end of the context if it is still running.

    Args:
        interpreter, program, task, folder, environment: see `child_command`.
        timeout_s: the seconds in which the child must end; None means no limit.
    Yields:
        A function that waits for the child to end, and returns its answer. It raises ChildError, or OSError if the
        child died because there is no room for temporary files.
    Raises:
        ChildError: the child cannot be started.
        OSError: there is no room for its task.
    """
    with child_command(interpreter, program, task, folder, environment) as (command, options):
        try:
            process = subprocess.Popen(command, **options)
        except OSError as error:
            raise ChildError(f"{error.strerror}: {error.filename}") from error
    deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def answer() -> Any:
        try:
            status = process.wait(None if deadline is None else max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise ChildError("it did not finish in time") from None
        try:
            return json.loads(read_answer(folder, status))
        except ValueError as error:
            raise ChildError(f"its answer is not JSON: {error}", status) from error

    with process:
        try:
            yield answer
        finally:
            process.kill()


@contextlib.contextmanager
def child_command(
    interpreter: str | Path, program: str | Path, task: Mapping[str, Any], folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Prepares a child's folder, and yields the command and options with which subprocess or asyncio starts the child.

    Args:
        interpreter: the Python that runs the program.
        program: the absolute path of a Python file.
        task: a value for `json.dumps`. Paths in it are absolute.
        folder: the absolute path of a folder for temporary files. The child's TMPDIR is this folder.
        environment: the child's other environment variables.
    Raises:
        OSError: there is no room for the task.
    """
    (folder / _TASK).write_text(json.dumps(task), encoding="utf-8")
    with (folder / _OUTPUT).open("wb") as output:
        yield [str(interpreter), "-c", _ATTENDED, str(program), str(folder / _TASK), str(folder / _ANSWER)], {
            # TensorFlow leaves files in the temporary folder when it is killed.
            "env": {**environment, "TMPDIR": str(folder)},
            "cwd": folder,
            "stdin": subprocess.PIPE,
            "stdout": output,
            "stderr": output,
        }


def clean_environment() -> dict[str, str]:
    """Returns this process's environment without the variables that would show its packages to another Python."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def own_environment(inherited: Collection[str] | None = None) -> dict[str, str]:
    """Returns an environment in which this Python finds the packages that this process can import.

    Args:
        inherited: the names of the variables to pass on. Defaults to all.
    """
    return {
        **{name: value for name, value in os.environ.items() if inherited is None or name in inherited},
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path),
        "PYTHONSAFEPATH": "1",
    }


def read_answer(folder: Path, status: int, max_bytes: int = _MAX_ANSWER_BYTES) -> bytes:
    """Returns the answer of a child that has ended.

    Raises:
        ChildError: the child failed, or its answer is missing or longer than `max_bytes`.
        OSError: the child died because there is no room for temporary files.
    """
    if status:
        lines = last_lines(folder)
        full = [number for number in NO_ROOM if any(os.strerror(number) in line for line in lines)]
        if not full and shutil.disk_usage(folder).free < _FEW_BYTES:
            full = [errno.ENOSPC]
        for number in full:
            raise OSError(number, os.strerror(number))
        why = f"it was killed by signal {-status}" if status < 0 else f"it exited with status {status}"
        raise ChildError(": ".join([why, *lines[-1:]]), status)
    try:
        return read_regular_file(folder / _ANSWER, max_bytes)
    except OSError as error:
        raise ChildError(f"it left no valid answer: {error.strerror}", status) from error


def last_lines(folder: Path) -> list[str]:
    """Returns the last 15 lines that a child printed, without empty ones. Control characters are escaped."""
    with open_regular_file(folder / _OUTPUT) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_OUTPUT_BYTES))
        text = file.read().decode(errors="replace")
    return [printable(line) for line in text.splitlines() if line.strip()][-_LAST_LINES:]
