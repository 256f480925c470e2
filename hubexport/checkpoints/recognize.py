"""Tells from names and shapes alone which network's values a file holds, and gives them TF-Slim's names and shapes."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import re

from hubexport.arrays import Array
from hubexport.checkpoints.stored_values import Renamed, StoredValues
from hubexport.layouts.registry import KERAS_H5, KERAS_WEIGHTS_H5, LAYOUTS, SLIM
from hubexport.layouts.rules import VariableLayout
from hubexport.networks.layers import Network, Shape
from hubexport.networks.registry import NETWORKS, PUBLISHED_DEPTH_MULTIPLIERS

# What tf.train.ExponentialMovingAverage appends to the name of the variable that it averages.
AVERAGED_SUFFIX = "/ExponentialMovingAverage"

# Where Keras' files have the values of layers, and what a dense layer may be called there.
_LAYERS = {KERAS_H5: "(?!optimizer_weights/)", KERAS_WEIGHTS_H5: "layers/"}
_HEADS = {KERAS_H5: "[^/]+", KERAS_WEIGHTS_H5: r"layers/dense(_\d+)?/vars"}

# No variable's shape depends on the size of the images.
_ANY_IMAGE_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What a file's values are of.

    Attributes:
        layout: whose names and shapes they have, one of `hubexport.layouts.registry.LAYOUTS`.
        network_name: in `hubexport.networks.registry`.
        depth_multiplier: one that fits; several can, where channels are rounded to the same numbers.
        num_classes: None if there is no classifier that is TF-Slim's: one dense layer behind the pooled features.
        classifier: what the file calls the classifier's weights and biases, if there is one.
        further: the trained values that are not the network's, if there is no classifier because of them.
    """

    layout: str
    network_name: str
    depth_multiplier: float
    num_classes: int | None = None
    classifier: tuple[str, ...] = ()
    further: tuple[str, ...] = ()

    def network(self, image_size: int = _ANY_IMAGE_SIZE) -> Network:
        """Lays the network out for images of `image_size` pixels."""
        return NETWORKS[self.network_name](self.depth_multiplier, image_size, self.num_classes)

    @property
    def entries(self) -> tuple[VariableLayout, ...]:
        """The network's variables as the file has them."""
        entries = LAYOUTS[self.layout](self.network())
        count = len(entries) - len(self.classifier)
        named = (dataclasses.replace(entry, name=name) for entry, name in zip(entries[count:], self.classifier))
        return (*entries[:count], *named)


def plain_shapes(stored: StoredValues) -> dict[str, Shape]:
    """Returns the shapes of all values, those of averaged copies under the names of their variables."""
    return {name.removesuffix(AVERAGED_SUFFIX): shape for name, shape in stored.shapes.items()}


def recognize(stored: StoredValues, multipliers: Sequence[float] = PUBLISHED_DEPTH_MULTIPLIERS) -> Recognition | None:
    """Finds a network all of whose variables up to the features are there in the right shapes; None if there is none.

    Args:
        stored: the values.
        multipliers: the depth multipliers to try, in this order.
    """
    shapes = plain_shapes(stored)
    for layout in LAYOUTS:
        for network_name in NETWORKS:
            for multiplier in multipliers:
                found = Recognition(layout, network_name, multiplier)
                if all(shapes.get(entry.name) == entry.shape for entry in found.entries):
                    return _with_classifier(found, stored, shapes)
    return None


def _with_classifier(found: Recognition, stored: StoredValues, shapes: Mapping[str, Shape]) -> Recognition | None:
    """Returns what was found with its classifier, if that is all that there is beside the values of its features."""
    features = {entry.name for entry in found.entries}
    weights, biases = (entry.name for entry in dataclasses.replace(found, num_classes=1).entries[-2:])
    layer = _layer(weights)
    further = {name: shapes[name] for name in _further_values(found.layout, layer, stored) if name not in features}
    # A convolution that has biases beside its batch norm, for example, is of another network.
    if {_layer(name) for name in features} & {_layer(name) for name in further}:
        return None
    for head in {_layer(name) for name in further}:
        classifier = (weights.replace(layer, head), biases.replace(layer, head))
        if set(classifier) == set(further) and re.fullmatch(_HEADS.get(found.layout, re.escape(layer)), head):
            [num_classes, *_] = (*further[classifier[1]], 0)
            whole = dataclasses.replace(found, num_classes=num_classes, classifier=classifier)
            if num_classes and all(further[entry.name] == entry.shape for entry in whole.entries[-2:]):
                return whole
    return dataclasses.replace(found, further=tuple(sorted(further)))


def _further_values(layout: str, classifier: str, stored: StoredValues) -> Iterator[str]:
    """Yields the names of all values that training changes, but for such as belong to other values or the optimizer."""
    names = {name.removesuffix(AVERAGED_SUFFIX): stored.dtype(name) for name in stored.shapes}
    # What else a program of TF-Slim's trains is its own affair, as long as it is not in the classifier's scope.
    pattern = re.compile(_LAYERS.get(layout, f"{re.escape(_layer(classifier))}/" if layout == SLIM else ""))
    for name, dtype in names.items():
        is_slot = name.rpartition("/")[0] in names
        is_trained = dtype.rstrip("0123456789") not in ("int", "uint", "bool", "string")
        if is_trained and not is_slot and pattern.match(name):
            yield name


def _layer(name: str) -> str:
    """Returns what comes before a variable's own name."""
    return name.rpartition("/" if "/" in name else ".")[0]


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
    """Returns the values under TF-Slim's names: all that there are, if they have those or are not recognized."""
    if recognition is None:
        return stored
    if recognition.layout == SLIM:
        names = (name for name in stored.shapes if name.removesuffix(AVERAGED_SUFFIX) not in recognition.further)
        return Renamed(stored, {name: name for name in names})
    return SlimValues(stored, recognition)
