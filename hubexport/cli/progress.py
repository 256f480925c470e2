"""What people see on stderr while work goes on."""

from collections.abc import Iterator
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from absl import logging

from hubexport.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    """Gives a moving display on a terminal, and plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _PlainProgress()
        return
    from rich.console import Console

    console = Console(stderr=True)
    status = console.status("")
    try:
        yield _TerminalProgress(console, status)
    finally:
        status.stop()


class _ShownProgress(Progress):
    @contextlib.contextmanager
    def tensorflow_starting(self) -> Iterator[None]:
        self.step("starting TensorFlow")
        with _hushed():
            yield


class _PlainProgress(_ShownProgress):
    def step(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        print(f"WARNING {message}", file=sys.stderr, flush=True)


class _TerminalProgress(_ShownProgress):
    def __init__(self, console: "Console", status: "Status") -> None:
        self._console = console
        self._status = status
        self._message = ""

    def step(self, message: str) -> None:
        self._message = message
        self._show(message)

    def advance(self, done: int, total: int | None) -> None:
        of_total = f" of {total / 1e6:.1f}" if total else ""
        self._show(f"{self._message}  {done / 1e6:.1f}{of_total} MB")

    def warn(self, message: str) -> None:
        self._console.print(f"WARNING {message}", style="bold yellow", markup=False, highlight=False, soft_wrap=True)

    def _show(self, text: str) -> None:
        from rich.markup import escape

        self._status.update(escape(text))
        self._status.start()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keeps what TensorFlow's C++ parts say when they start off the screen, unless somebody wants to hear it.

    The environment variable hushes what they log later. From 2.16 on a few start-up messages heed it no more, so that
    the file descriptor has to go elsewhere meanwhile; an exception is raised all the same.
    """
    if logging.get_verbosity() > logging.INFO or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
