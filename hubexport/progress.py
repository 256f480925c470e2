"""The progress of long work. The command line shows it; library calls are silent by default."""

from collections.abc import Iterator
import contextlib
from contextlib import AbstractContextManager, nullcontext
import logging
import os
import sys

from absl import logging as absl_logging

# Whether `tensorflow_hushed` has done its work in this process.
_is_hushed = False


class Progress:
    """Receives reports, and shows nothing. The subclasses in `hubexport.cli.progress_display` show them."""

    def step(self, message: str) -> None:
        """Reports that a step begins; `message` names it, like `reading model.ckpt`."""

    def advance(self, done: int, total: int | None) -> None:
        """Reports that the current step has done `done` bytes of `total`; None if the total is unknown."""

    def count(self, done: int, total: int) -> None:
        """Reports that the current step has done `done` of `total` items."""

    def note(self, message: str) -> None:
        """Reports a fact about the work that users may also want to know afterwards."""

    def warn(self, message: str) -> None:
        """Reports a problem that users must know, although the work goes on."""

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        """Wraps the import of TensorFlow, which takes seconds and prints messages."""
        return nullcontext()


class Warnings(Progress):
    """Passes on warnings, but no steps: for work that is part of a larger step.

    Args:
        parent: the progress of the whole work.
    """

    def __init__(self, parent: Progress) -> None:
        self._parent = parent

    def warn(self, message: str) -> None:
        self._parent.warn(message)

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        return self._parent.tensorflow_starting()


@contextlib.contextmanager
def tensorflow_hushed() -> Iterator[None]:
    """Hides TensorFlow's messages at its start and afterwards, unless absl's `--verbosity 1` asks for them.

    The environment variable silences what its C++ parts log. Many machines set it for other programs, so its value does
    not tell what the user of this one wants. From 2.16 on, a few start-up messages ignore it, so stderr itself is
    redirected meanwhile, once. Exceptions are raised all the same.
    """
    global _is_hushed
    if _is_hushed or absl_logging.get_verbosity() > absl_logging.INFO:
        yield
        return
    _is_hushed = True
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with stderr_hidden():
        yield
    # Its Python parts log deprecations and the files that they load.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    absl_logging.set_verbosity(absl_logging.ERROR)


@contextlib.contextmanager
def stderr_hidden() -> Iterator[None]:
    """Hides what the process writes to stderr, also from C++. Exceptions are raised all the same."""
    if sys.stderr is not None:
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
