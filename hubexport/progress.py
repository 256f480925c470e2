"""How long work tells where it is; the command line shows it, libraries are silent by default."""

from collections.abc import Iterator
import contextlib
from contextlib import AbstractContextManager, nullcontext
import logging
import os
import sys

from absl import logging as absl_logging


class Progress:
    """Hears of each step, and shows nothing. `hubexport.cli.progress_display` has the ones that people see."""

    def step(self, message: str) -> None:
        """A new step begins; `message` says which, like `reading model.ckpt`."""

    def advance(self, done: int, total: int | None) -> None:
        """The current step has come to `done` bytes of `total`, or of an unknown number."""

    def count(self, done: int, total: int) -> None:
        """The current step has done `done` things of `total`."""

    def note(self, message: str) -> None:
        """Something about the work that users may want to know afterwards, too."""

    def warn(self, message: str) -> None:
        """Something that the user must know, though the work goes on."""

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        """Surrounds the import of TensorFlow, which takes seconds and talks."""
        return nullcontext()


class Warnings(Progress):
    """Passes on what users must know, and no steps: those of a part of something larger.

    Args:
        heard_by: the progress of the whole.
    """

    def __init__(self, heard_by: Progress) -> None:
        self._heard_by = heard_by

    def warn(self, message: str) -> None:
        self._heard_by.warn(message)

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        return self._heard_by.tensorflow_starting()


@contextlib.contextmanager
def tensorflow_hushed() -> Iterator[None]:
    """Keeps what TensorFlow says when it starts and later off the screen, unless somebody wants to hear it.

    The environment variable hushes what its C++ parts log later. From 2.16 on a few start-up messages heed it no more,
    so that the file descriptor has to go elsewhere meanwhile; an exception is raised all the same.
    """
    if absl_logging.get_verbosity() > absl_logging.INFO or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
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
    # What its Python parts say, of deprecations and of files that they load.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    absl_logging.set_verbosity(absl_logging.ERROR)
