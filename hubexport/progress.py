"""How long work tells where it is; the command line shows it, libraries are silent by default."""

from contextlib import AbstractContextManager, nullcontext


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
