"""How to evaluate a module; imports nothing heavy, so that the command line can show the choices at once."""

import dataclasses

from hubexport.engines import ENGINES, Engine
from hubexport.errors import check_choice, check_positive

CENTRAL_CROP, WHOLE = "central_crop", "whole"
PREPROCESSING_NAMES = (CENTRAL_CROP, WHOLE)


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How to prepare images and run the module.

    Attributes:
        preprocessing: one of `PREPROCESSING_NAMES`.
        batch_size: the number of images that the module computes at once.
        engine: what runs the module; None for the default of `hubexport.engines`.
        threads: the number of threads that read and prepare images. None means one per core.
    Raises:
        UsageError: an option has a value that it cannot have.
    """

    preprocessing: str = CENTRAL_CROP
    batch_size: int = 64
    threads: int | None = None
    engine: Engine | None = None

    def __post_init__(self) -> None:
        check_positive(batch_size=self.batch_size)
        if self.engine is not None:
            check_choice("engine", self.engine, ENGINES)
        check_choice("preprocessing", self.preprocessing, PREPROCESSING_NAMES)
