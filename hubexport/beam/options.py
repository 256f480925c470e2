"""What a user says of Apache Beam; known without importing it, which takes seconds."""

import dataclasses


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
