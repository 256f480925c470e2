"""A recognized file's values under TF-Slim's names and in TF-Slim's shapes."""

from collections.abc import Iterator
import dataclasses

from hubexport.arrays import Array, streamed
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, Recognition
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.weights_choice import Weights


class SlimValues(StoredValues):
    """The model variables, and their averages, of a recognized file.

    A kernel whose axes the layout stores in another order is whole in memory while it is read, twice at most: each
    chunk has elements from all over the stored kernel. Only Hugging Face's layout has such kernels, and the largest
    takes 7 MB.
    """

    def __init__(self, stored: StoredValues, recognition: Recognition) -> None:
        self._stored = stored
        self._layouts = {
            f"{layout.variable.name}{suffix}": dataclasses.replace(layout, name=f"{layout.name}{suffix}")
            for layout in recognition.variable_layouts
            for suffix in ("", AVERAGED_SUFFIX)
            if stored.shapes.get(f"{layout.name}{suffix}") == layout.shape
        }
        self.shapes = {name: layout.variable.shape for name, layout in self._layouts.items()}

    def dtype(self, name: str) -> str:
        return self._stored.dtype(self._layouts[name].name)

    def chunks(self, name: str) -> Iterator[Array]:
        layout = self._layouts[name]
        return streamed(self.read(name)).chunks() if layout.reorders else self._stored.chunks(layout.name)

    def read(self, name: str) -> Array:
        layout = self._layouts[name]
        return layout.to_slim(self._stored.read(layout.name))

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        """Reads the bytes of one value; None if the file has them in another order."""
        layout = self._layouts[name]
        return None if layout.reorders else self._stored.stored_chunks(layout.name)


def has_averages(stored: StoredValues) -> bool:
    """Tells whether any variable has a moving average."""
    return any(name.endswith(AVERAGED_SUFFIX) for name in stored.shapes)


def stored_name(stored: StoredValues, variable_name: str, weights: Weights) -> str:
    """Returns the name that stores the chosen value of a variable: its average if that is stored and wanted."""
    averaged = f"{variable_name}{AVERAGED_SUFFIX}"
    return averaged if weights != "raw" and averaged in stored.shapes else variable_name
