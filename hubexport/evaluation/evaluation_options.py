"""How to evaluate a module; imports nothing heavy, so that the command line can show the choices at once."""

import dataclasses

from hubexport.errors import check_choice, check_positive
from hubexport.modules.interface_hints import InterfaceHints

CENTRAL_CROP, WHOLE = "central_crop", "whole"
PREPROCESSING_NAMES = (CENTRAL_CROP, WHOLE)


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How to prepare images and run the module.

    Attributes:
        preprocessing: one of `PREPROCESSING_NAMES`.
        batch_size: the number of images that the module computes at once.
        threads: the number of threads that read and prepare images. None means one per core.
        hints: how to run a module that does not say it itself.
    Raises:
        UsageError: an option has a value that it cannot have.
    """

    preprocessing: str = CENTRAL_CROP
    batch_size: int = 64
    threads: int | None = None
    hints: InterfaceHints = InterfaceHints()

    def __post_init__(self) -> None:
        check_positive(batch_size=self.batch_size)
        check_choice("preprocessing", self.preprocessing, PREPROCESSING_NAMES)
        self.hints.check()
