"""The options of Apache Beam, apart from Beam itself, whose import takes seconds."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Beam:
    """Apache Beam does the work instead of this process.

    Attributes:
        runner: the name of one of Beam's runners, like `DirectRunner`.
        options: options of Beam or of the runner, with or without leading dashes, like `parallelism=8`.
    """

    runner: str
    options: tuple[str, ...] = ()
