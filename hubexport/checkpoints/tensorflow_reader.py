"""Checkpoints that only TensorFlow's own reader understands: V1 files, and values stored in slices."""

from collections.abc import Iterator
import contextlib
from pathlib import Path

import tensorflow as tf

from hubexport.arrays import Array
from hubexport.checkpoints.bundle import BundleError
from hubexport.networks.layers import Shape


class TensorFlowReader:
    """The values of any checkpoint by name, like `hubexport.checkpoints.bundle.BundleReader`.

    Raises:
        BundleError: TensorFlow cannot read it.
    """

    def __init__(self, prefix: Path) -> None:
        with _damage_reported():
            self._reader = tf.train.load_checkpoint(str(prefix))
        self._dtypes = self._reader.get_variable_to_dtype_map()
        self.shapes: dict[str, Shape] = {
            name: tuple(shape) for name, shape in self._reader.get_variable_to_shape_map().items()
        }

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""
        return str(self._dtypes[name].name)

    def read(self, name: str) -> Array:
        """Reads one value.

        Raises:
            BundleError: it is damaged.
        """
        with _damage_reported():
            value: Array = self._reader.get_tensor(name)
        return value


@contextlib.contextmanager
def _damage_reported() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # TensorFlow's status codes arrive as IndexError, ValueError, RuntimeError and more.
        raise BundleError(str(error).partition("\n")[0]) from error
