"""Consumers' programs in their own interpreters: errors name the consumer, and what to do about it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
from pathlib import Path
from typing import Any

from hubexport.errors import ConsumerError
from hubexport.system.child_process import ChildError, clean_environment, last_lines, running_child
from hubexport.system.temporary import temporary_failures_reported


@contextlib.contextmanager
def running(
    what: str,
    command: Sequence[str | Path],
    task: Mapping[str, Any],
    folder: Path,
    *,
    timeout_s: float,
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Starts a program, and kills it at the end of the context if it still runs.

    Args:
        what: the first line of errors, like `tf1.15 cannot use modules/…`.
        command: an interpreter and a program, which gets the names of two files: its task, and where its answer goes.
        task: the program's task; see `hubexport.system.child_process.child_command`.
        folder: an absolute path, of temporary files; task, answer and whatever else the program leaves go there.
        timeout_s: seconds in which the program must end.
    Yields:
        A function that waits until the program has ended, and returns its answer. It raises ConsumerError if the
        program died or did not finish in time, and TemporaryFileError if it died for lack of room.
    Raises:
        ConsumerError: the program cannot be started.
        TemporaryFileError: there is no room for its task.
    """
    interpreter, program = command

    def checked_answer() -> dict[str, Any]:
        try:
            with temporary_failures_reported(what):
                seen: dict[str, Any] = answer()
        except ChildError as error:
            fix = "see its output; `hubexport inspect` shows what a module needs"
            if error.status is None:
                fix = "give it more time, or use a less busy machine"
            raise ConsumerError(what, why=str(error), fix=fix, details=last_lines(folder)) from error
        return seen

    with contextlib.ExitStack() as stack:
        try:
            with temporary_failures_reported(what):
                child = running_child(interpreter, program, task, folder, clean_environment(), timeout_s=timeout_s)
                answer = stack.enter_context(child)
        except ChildError as error:
            fix = "set it up again, with `hubexport consumers create`"
            raise ConsumerError(what, why=str(error), fix=fix) from error
        yield checked_answer
