"""Shows progress on stderr: a moving display on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
import contextlib
import sys
from typing import TYPE_CHECKING

from hubexport.progress import Progress, tensorflow_hushed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


@contextlib.contextmanager
def shown_progress(quiet: bool = False) -> "Iterator[ShownProgress]":
    """Yields the display that suits stderr, and clears it at the end.

    Args:
        quiet: show warnings and results only.
    """
    if quiet:
        yield _QuietProgress()
        return
    if not sys.stderr.isatty():
        yield ShownProgress()
        return
    from rich.console import Console

    console = Console(stderr=True, emoji=False)  # The text between two colons is the user's.
    status = console.status("")
    try:
        yield _TerminalProgress(console, status)
    finally:
        status.stop()


class ShownProgress(Progress):
    """Prints steps, notes and warnings to stderr as plain lines, and results to stdout in between."""

    def __init__(self) -> None:
        self._steps: set[str] = set()
        self._warnings: set[str] = set()

    def step(self, message: str) -> None:
        # A checkpoint is opened once to recognize its network and once to take its values, or once for each check.
        if message not in self._steps:
            self._steps.add(message)
            self._print(message)

    def note(self, message: str) -> None:
        self._print(message)

    def warn(self, message: str) -> None:
        # Several steps may give the same warning.
        if message not in self._warnings:
            self._warnings.add(message)
            self._print(f"WARNING {message}", style="bold yellow")

    def result(self, text: str) -> None:
        """Prints lines of the command's result to stdout."""
        print(text)

    @contextlib.contextmanager
    def tensorflow_starting(self) -> Iterator[None]:
        self.step("starting TensorFlow")
        with tensorflow_hushed():
            yield

    def _print(self, text: str, style: str | None = None) -> None:
        print(text, file=sys.stderr, flush=True)


class _QuietProgress(ShownProgress):
    def step(self, message: str) -> None:
        pass

    def note(self, message: str) -> None:
        pass


class _TerminalProgress(ShownProgress):
    def __init__(self, console: "Console", status: "Status") -> None:
        super().__init__()
        self._console = console
        self._status = status
        self._message = ""

    def step(self, message: str) -> None:
        self._message = message
        self._show(message)

    def advance(self, done: int, total: int | None) -> None:
        of_total = f" of {total / 1e6:.1f}" if total else ""
        self._show(f"{self._message}  {done / 1e6:.1f}{of_total} MB")

    def count(self, done: int, total: int) -> None:
        self._show(f"{self._message}  {done:,} of {total:,}")

    def result(self, text: str) -> None:
        # While the display moves, rich redirects stdout to stderr, even if stdout is a file.
        self._status.stop()
        super().result(text)

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def _show(self, text: str) -> None:
        from rich.markup import escape

        self._status.update(escape(text))
        self._status.start()
