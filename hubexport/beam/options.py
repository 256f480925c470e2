"""What a user says of Apache Beam; known without importing it, which takes seconds."""

import dataclasses
import importlib.util

from hubexport.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Beam:
    """Who does the work instead of this process.

    Attributes:
        runner: the name of one of Apache Beam's runners.
        options: of Beam or of the runner, without dashes, like `parallelism=8`.
    """

    runner: str
    options: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """The options as Beam reads them."""
        return [f"--{option.removeprefix('--')}" for option in self.options]


def check_beam() -> None:
    """Sees whether Apache Beam is installed.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise UsageError(
            "--runner needs Apache Beam",
            why="apache_beam is not installed",
            fix="pip install hubexport[beam], here and where the workers are, or leave --runner out",
        )
