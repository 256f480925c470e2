"""The type of the arrays that hold a variable's values: float32, of any shape."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
