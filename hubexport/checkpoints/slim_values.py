"""A recognized file's values under TF-Slim's names and in TF-Slim's shapes."""

import dataclasses

from hubexport.arrays import Array
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, Recognition
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.weights_choice import Weights


class SlimValues(StoredValues):
    """The model variables, and their averages, of a file in another layout."""

    def __init__(self, stored: StoredValues, recognition: Recognition) -> None:
        self._stored = stored
        self._layouts = {layout.variable.name: layout for layout in recognition.variable_layouts}
        for layout in recognition.variable_layouts:
            if stored.shapes.get(name := f"{layout.name}{AVERAGED_SUFFIX}") == layout.shape:
                self._layouts[f"{layout.variable.name}{AVERAGED_SUFFIX}"] = dataclasses.replace(layout, name=name)
        self.shapes = {name: layout.variable.shape for name, layout in self._layouts.items()}

    def dtype(self, name: str) -> str:
        return self._stored.dtype(self._layouts[name].name)

    def read(self, name: str) -> Array:
        layout = self._layouts[name]
        return layout.to_slim(self._stored.read(layout.name))

    def stored_bytes(self, name: str) -> bytes | None:
        """Returns None: the stored bytes are in another layout's order."""
        return None


def has_averages(stored: StoredValues) -> bool:
    """Tells whether any variable has a moving average."""
    return any(name.endswith(AVERAGED_SUFFIX) for name in stored.shapes)


def stored_name(stored: StoredValues, variable_name: str, weights: Weights) -> str:
    """Returns the name that stores the chosen value of a variable: its average if that is stored and wanted."""
    averaged = f"{variable_name}{AVERAGED_SUFFIX}"
    return averaged if weights != "raw" and averaged in stored.shapes else variable_name
