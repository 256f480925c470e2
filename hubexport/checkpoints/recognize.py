"""Tells from names and shapes alone which network's values a file holds, and gives them TF-Slim's names and shapes."""

from collections.abc import Mapping, Sequence
import dataclasses

from hubexport.arrays import Array
from hubexport.checkpoints.stored import StoredValues
from hubexport.mappings.mapping import Entry
from hubexport.mappings.registry import LAYOUTS, SLIM
from hubexport.networks.layers import Network, Shape
from hubexport.networks.registry import NETWORKS, PUBLISHED_DEPTH_MULTIPLIERS

# What tf.train.ExponentialMovingAverage appends to the name of the variable that it averages.
AVERAGED_SUFFIX = "/ExponentialMovingAverage"

# No variable's shape depends on the size of the images.
_ANY_IMAGE_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What a file's values are of.

    Attributes:
        layout: whose names and shapes they have, one of `hubexport.mappings.registry.LAYOUTS`.
        network_name: in `hubexport.networks.registry`.
        depth_multiplier: one that fits; several can, where channels are rounded to the same numbers.
        num_classes: None if there is no classifier.
    """

    layout: str
    network_name: str
    depth_multiplier: float
    num_classes: int | None

    def network(self, image_size: int = _ANY_IMAGE_SIZE) -> Network:
        """Lays the network out for images of `image_size` pixels."""
        return NETWORKS[self.network_name](self.depth_multiplier, image_size, self.num_classes)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The network's variables as the file has them."""
        return LAYOUTS[self.layout](self.network())


def plain_shapes(stored: StoredValues) -> dict[str, Shape]:
    """Returns the shapes of all values, those of averaged copies under the names of their variables."""
    return {name.removesuffix(AVERAGED_SUFFIX): shape for name, shape in stored.shapes.items()}


def recognize(
    shapes: Mapping[str, Shape], multipliers: Sequence[float] = PUBLISHED_DEPTH_MULTIPLIERS
) -> Recognition | None:
    """Finds a network all of whose variables are there in the right shapes; None if there is none.

    Args:
        shapes: by name.
        multipliers: the depth multipliers to try, in this order.
    """
    for layout, mapping in LAYOUTS.items():
        for network_name, network in NETWORKS.items():
            *_, bias = mapping(network(1.0, _ANY_IMAGE_SIZE, 1))
            num_classes = (*shapes.get(bias.name, ()), None)[0]
            for multiplier in multipliers:
                found = Recognition(layout, network_name, multiplier, num_classes)
                if all(shapes.get(entry.name) == entry.shape for entry in found.entries):
                    return found
    return None


def most_likely_layout(shapes: Mapping[str, Shape]) -> tuple[str, int, int]:
    """Returns the layout most of whose names are there, how many are, and how many it has."""
    known = []
    for layout, mapping in LAYOUTS.items():
        for network in NETWORKS.values():
            entries = mapping(network(1.0, _ANY_IMAGE_SIZE, 1))
            known.append((sum(entry.name in shapes for entry in entries), layout, len(entries)))
    count, layout, total = max(known, key=lambda one: one[0])
    return layout, count, total


class SlimValues:
    """A recognized file's values of model variables and their averages, in TF-Slim's names and shapes."""

    def __init__(self, stored: StoredValues, recognition: Recognition) -> None:
        self._stored = stored
        self._entries = {entry.variable.name: entry for entry in recognition.entries}
        for entry in recognition.entries:
            if stored.shapes.get(name := f"{entry.name}{AVERAGED_SUFFIX}") == entry.shape:
                self._entries[f"{entry.variable.name}{AVERAGED_SUFFIX}"] = dataclasses.replace(entry, name=name)
        self.shapes: dict[str, Shape] = {name: entry.variable.shape for name, entry in self._entries.items()}

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype."""
        return self._stored.dtype(self._entries[name].name)

    def read(self, name: str) -> Array:
        """Reads one value."""
        entry = self._entries[name]
        return entry.to_slim(self._stored.read(entry.name))

    def stored_bytes(self, name: str) -> bytes | None:
        """Tells nothing: the bytes are those of another layout's shape."""
        return None


def in_slim_terms(stored: StoredValues, recognition: Recognition | None) -> StoredValues:
    """Returns the values under TF-Slim's names: as they are if they have those, or are not recognized."""
    if recognition is None or recognition.layout == SLIM:
        return stored
    return SlimValues(stored, recognition)
