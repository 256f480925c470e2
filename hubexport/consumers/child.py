"""Consumers' programs in their own interpreters: errors name the consumer, and what to do about it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
from pathlib import Path
from typing import Any

from hubexport.errors import ConsumerError
from hubexport.system.child_process import (
    ChildError,
    clean_environment,
    last_lines,
    own_environment,
    running_child,
)
from hubexport.system.temporary import temporary_failures_reported


class RunningProgram:
    """A program that was started, and may have ended."""

    def __init__(self, what: str, answer: Callable[[], Any], folder: Path) -> None:
        self._what = what
        self._answer = answer
        self._folder = folder

    def seen(self) -> dict[str, Any]:
        """Waits until the program has ended, and returns its answer.

        Raises:
            ConsumerError: the program died, or did not finish in time.
            TemporaryFileError: the program died because there is no room for its temporary files.
        """
        try:
            with temporary_failures_reported(self._what):
                seen: dict[str, Any] = self._answer()
        except ChildError as error:
            fix = "see its output; `hubexport inspect` shows what a module needs"
            if error.status is None:
                fix = "give it more time, or use a less busy machine"
            raise ConsumerError(self._what, why=str(error), fix=fix, details=last_lines(self._folder)) from error
        return seen


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
    """Starts a program, and kills it at the end of the context if it still runs.

    Args:
        what: the first line of errors, like `tf1.15 cannot use modules/…`.
        command: an interpreter and a program, which gets the names of two files: its task, and where its answer goes.
        task: what the program is told; see `hubexport.system.child_process.child_command`.
        folder: an absolute path, of temporary files; task, answer and whatever else the program leaves go there.
        timeout_s: seconds in which the program must end.
        same_packages: let the program import what this process can.
    Raises:
        ConsumerError: the program cannot be started.
        TemporaryFileError: there is no room for its task.
    """
    interpreter, program = command
    environment = own_environment() if same_packages else clean_environment()
    with contextlib.ExitStack() as stack:
        try:
            with temporary_failures_reported(what):
                answer = stack.enter_context(
                    running_child(interpreter, program, task, folder, environment, timeout_s=timeout_s)
                )
        except ChildError as error:
            fix = "set it up again, with `hubexport consumers create`"
            raise ConsumerError(what, why=str(error), fix=fix) from error
        yield RunningProgram(what, answer, folder)
