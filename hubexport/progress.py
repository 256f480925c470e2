"""How long work tells where it is; the command line shows it, libraries are silent by default."""

from collections.abc import Iterator
import contextlib
from contextlib import AbstractContextManager, nullcontext
import os
import sys

from absl import logging


class Progress:
    """Hears of each step, and shows nothing. `hubexport.cli.progress` has the ones that people see."""

    def step(self, message: str) -> None:
        """A new step begins; `message` says which, like `reading model.ckpt`."""

    def advance(self, done: int, total: int | None) -> None:
        """The current step has come to `done` bytes of `total`, or of an unknown number."""

    def warn(self, message: str) -> None:
        """Something that the user must know, though the work goes on."""

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        """Surrounds the import of TensorFlow, which takes seconds and talks."""
        return nullcontext()


@contextlib.contextmanager
def tensorflow_hushed() -> Iterator[None]:
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
