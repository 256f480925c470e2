"""Recognizes from names and shapes alone which network's values a file holds, and in which layout."""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
import re

from hubexport.checkpoints.scopes import Scope, scopes_with
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.layouts.registry import (
    HUGGING_FACE_LAYOUTS,
    KERAS_H5,
    KERAS_VARIABLES,
    KERAS_WEIGHTS_H5,
    KNOWN_LAYOUTS,
    SLIM,
    slim_layout,
)
from hubexport.layouts.rules import VariableLayout
from hubexport.networks.family import Family, Parameters
from hubexport.networks.network import Network
from hubexport.networks.ops import Shape
from hubexport.networks.registry import FAMILIES

# tf.train.ExponentialMovingAverage appends it to the name of the variable that it averages.
AVERAGED_SUFFIX = "/ExponentialMovingAverage"

# In Keras' files: what the names of layers' values begin with, and the names of layers that may be classifiers.
_LAYER_VALUES = {KERAS_H5: "(?!optimizer_weights/)", KERAS_WEIGHTS_H5: "layers/", KERAS_VARIABLES: ".*/"}
_CLASSIFIER_LAYERS = {KERAS_H5: ".+", KERAS_WEIGHTS_H5: r"(layers/.+/)?layers/dense(_\d+)?/vars", KERAS_VARIABLES: ".+"}

# The layouts in which other names may come before a network's.
SCOPED_LAYOUTS = (SLIM, KERAS_H5, KERAS_WEIGHTS_H5, KERAS_VARIABLES)

# No variable's shape depends on the size of the images.
_ANY_IMAGE_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Recognition:
    """The network and the layout of a file's values.

    Attributes:
        layout: the layout's name, a key of `hubexport.layouts.registry.KNOWN_LAYOUTS`.
        family: the network's family.
        parameters: parameters of the family that fit; several can, where channels are rounded to the same numbers.
        num_classes: None without TF-Slim's classifier, which is one dense layer on the pooled features.
        classifier: the names of the classifier's weights and biases in the file; empty without classifier.
        is_matrix: whether the classifier's weights are a matrix in the file, whatever they are in the layout.
        further: the names of trained values that are not the network's and keep it from having a classifier.
        alike: other families whose networks have the same variables, where nothing in the file tells which it is.
        others: other networks whose variables, up to the features, are all in the file as well.
        names: the file's name of each variable up to the features, by its name in TF-Slim, where a model describes
            itself; None where the layout tells. Shapes are those of TF-Slim then.
    """

    layout: str
    family: Family
    parameters: Parameters
    num_classes: int | None = None
    classifier: tuple[str, ...] = ()
    is_matrix: bool = False
    further: tuple[str, ...] = ()
    alike: tuple[Family, ...] = ()
    others: tuple["Recognition", ...] = ()
    names: Mapping[str, str] | None = None

    def network(self, image_size: int = _ANY_IMAGE_SIZE, version: int | None = None) -> Network:
        """Lays the network out for images of `image_size` pixels, or of any size if the module's version takes them."""
        return self.family.network(self.parameters, image_size, self.num_classes, version)

    @property
    def possible(self) -> "list[Recognition]":
        """Each network that the file may hold, by itself."""
        return [
            dataclasses.replace(one, family=family, alike=(), others=())
            for one in (self, *self.others)
            for family in (one.family, *one.alike)
        ]

    @property
    def likely_families(self) -> list[Family]:
        """The families that the values may be of, first those whose published checkpoints have as many classes."""
        families = (self.family, *self.alike)
        return sorted(families, key=lambda family: (family.published_classes != self.num_classes, family.name))

    @property
    def variable_layouts(self) -> tuple[VariableLayout, ...]:
        """The names and shapes of the network's variables in the file."""
        network, names = self.network(), self.names
        if names is None:
            layouts = KNOWN_LAYOUTS[self.layout].of(network)
        else:
            plain = slim_layout(network)
            layouts = tuple(dataclasses.replace(one, name=names.get(one.name, one.name)) for one in plain)
        if not self.classifier:
            return layouts
        *features, weights, biases = layouts
        axes = tuple(range(len(weights.variable.shape)))[-2:] if self.is_matrix else weights.axes
        return (
            *features,
            dataclasses.replace(weights, name=self.classifier[0], axes=axes),
            dataclasses.replace(biases, name=self.classifier[1]),
        )


def plain_shapes(stored: StoredValues) -> dict[str, Shape]:
    """Returns the shapes of all values, with averages under the names of their variables."""
    return {name.removesuffix(AVERAGED_SUFFIX): shape for name, shape in stored.shapes.items()}


def recognize(stored: StoredValues, first: Sequence[tuple[Family, Parameters]] = ()) -> Recognition | None:
    """Finds a network whose variables, up to the features, are all stored in the right shapes; None if none fits.

    Of several with the same variables, it is the one that explains most of what is stored beside the network, like a
    mean of RGB. Of several with variables of their own, it is the first of `first`, or else of the registry.

    Args:
        stored: the values.
        first: families that win where nothing tells several apart, with parameters to try before the published ones.
    """
    shapes = plain_shapes(stored)
    for layout_name in KNOWN_LAYOUTS:
        by_variables = [
            [fit for family in families if (fit := _fitting(layout_name, family, first, shapes))]
            for families in _told(layout_name, shapes)
        ]
        if found := [fitting for fitting in by_variables if fitting]:
            return _chosen(found, first, stored, shapes)
    return None


def _chosen(
    found: Sequence[Sequence[Recognition]],
    first: Sequence[tuple[Family, Parameters]],
    stored: StoredValues,
    shapes: Mapping[str, Shape],
) -> Recognition | None:
    """Chooses one of the networks in a file; those with the same variables are together in `found`."""
    wanted = (fitting for family, _ in first for fitting in found if any(fit.family is family for fit in fitting))
    chosen = next(wanted, found[0])
    best, *others = (
        _with_classifier(_most_likely(fitting, first, shapes), stored, shapes)
        for fitting in (chosen, *(fitting for fitting in found if fitting is not chosen))
    )
    return best and dataclasses.replace(best, others=tuple(other for other in others if other))


def _fitting(
    layout_name: str, family: Family, first: Sequence[tuple[Family, Parameters]], shapes: Mapping[str, Shape]
) -> Recognition | None:
    for candidate in candidates(layout_name, family, first):
        if all(shapes.get(layout.name) == layout.shape for layout in candidate.variable_layouts):
            return candidate
    return None


def candidates(
    layout_name: str, family: Family, first: Sequence[tuple[Family, Parameters]] = ()
) -> Iterator[Recognition]:
    """Yields the networks of a family that a file may hold: those of `first`, then the published ones."""
    for parameters in (*(own for other, own in first if other is family), *family.published_parameters):
        yield Recognition(layout_name, family, parameters)


def recognize_in_scopes(
    stored: StoredValues, first: Sequence[tuple[Family, Parameters]] = ()
) -> dict[Scope, Recognition]:
    """Finds the scopes that hold all variables of a network, up to the features, under TF-Slim's names or Keras'.

    Another root scope may stand in place of TF-Slim's, or none. Then nothing but its variables tells a network: a scope
    has the largest one that fits, since a smaller one may be a part of it. Keras' names have no root scope; a model
    within the model is a scope.

    Args:
        stored: the values.
        first: see `recognize`.
    Returns:
        The features of the network in each scope.
    """
    shapes = plain_shapes(stored)
    found: dict[str, tuple[tuple[int, bool, bool], Scope, Recognition]] = {}
    for layout_name, family in itertools.product(SCOPED_LAYOUTS, FAMILIES.values()):
        if not (scopes := possible_scopes(layout_name, family, shapes)):
            continue
        for candidate in candidates(layout_name, family, first):
            layouts = candidate.variable_layouts
            for scope in scopes:
                if all(shapes.get(scope.in_file(layout.name)) == layout.shape for layout in layouts):
                    wanted = any(family is other for other, _ in first)
                    rank = len(layouts), f"/{scope.prefix}".endswith(f"/{scope.root}"), wanted
                    if scope.prefix not in found or rank > found[scope.prefix][0]:
                        found[scope.prefix] = rank, scope, candidate
    return {scope: recognition for _, scope, recognition in found.values()}


def possible_scopes(layout_name: str, family: Family, names: Iterable[str]) -> list[Scope]:
    """Returns the scopes that hold the telling variable of a family, the layout's own root scope included."""
    if layout_name not in SCOPED_LAYOUTS or not KNOWN_LAYOUTS[layout_name].has(family.name):
        return []
    telling = _telling_name(layout_name, family.name)
    # Most families end here, and need no network.
    tail = telling.partition("/")[2] if layout_name == SLIM else telling
    likely = [name for name in names if name.endswith(tail)]
    root = _root_scope(family.name) if likely and layout_name == SLIM else ""
    return [*scopes_with(telling, root, likely)]


@functools.cache
def _root_scope(family_name: str) -> str:
    """Returns what all variables of a family begin with in TF-Slim; empty if they have nothing in common."""
    roots = {variable.name.partition("/")[0] for variable in any_network(FAMILIES[family_name]).variables}
    return f"{roots.pop()}/" if len(roots) == 1 else ""


def _most_likely(
    fitting: Sequence[Recognition], first: Sequence[tuple[Family, Parameters]], shapes: Iterable[str]
) -> Recognition:
    if len(fitting) == 1:
        return fitting[0]
    explained = [sum(fit.family.unused(name) is not None for name in shapes) for fit in fitting]
    likely = [fit for fit, count in zip(fitting, explained, strict=True) if count == max(explained)]
    preferred = (fit for family, _ in first for fit in likely if fit.family is family)
    best = next(preferred, likely[0])
    return dataclasses.replace(best, alike=tuple(fit.family for fit in likely if fit is not best))


def is_hugging_face(stored: StoredValues) -> bool:
    """Tells whether values have the names of a Hugging Face model's."""
    return any(_told(layout_name, stored.shapes) for layout_name in HUGGING_FACE_LAYOUTS)


def _told(layout_name: str, names: Container[str]) -> Collection[Sequence[Family]]:
    """Returns the families of each telling variable that is stored by its name in a layout."""
    told: dict[str, list[Family]] = defaultdict(list)
    for family in FAMILIES.values():
        if KNOWN_LAYOUTS[layout_name].has(family.name) and (name := _telling_name(layout_name, family.name)) in names:
            told[name].append(family)
    return told.values()


@functools.cache
def _telling_name(layout_name: str, family_name: str) -> str:
    family = FAMILIES[family_name]
    if layout_name == SLIM:  # Most files have this layout. It needs no network.
        return family.telling_variable
    layouts = KNOWN_LAYOUTS[layout_name].of(any_network(family))
    [name] = (layout.name for layout in layouts if layout.variable.name == family.telling_variable)
    return name


def any_network(family: Family) -> Network:
    """Lays out a network of a family, for its names: its shapes are those of one depth multiplier."""
    return family.network(family.published_parameters[-1], _ANY_IMAGE_SIZE, 1)


def _with_classifier(features: Recognition, stored: StoredValues, shapes: Mapping[str, Shape]) -> Recognition | None:
    """Adds the classifier to a recognition of the features, if nothing but a classifier is stored beside them.

    Returns None if the further values show that the features are of another network.
    """
    feature_names = {layout.name for layout in features.variable_layouts}
    weights, biases = (layout.name for layout in dataclasses.replace(features, num_classes=1).variable_layouts[-2:])
    layer = _layer(weights)
    further = {
        name
        for name in _trained_values(stored, _beside_features(features.layout, layer))
        if name not in feature_names and not features.family.unused(name)
    }
    # A convolution that has biases beside its batch norm, for example, is of another network.
    if {_layer(name) for name in feature_names} & {_layer(name) for name in further}:
        return None
    allowed_layers = _CLASSIFIER_LAYERS.get(features.layout, re.escape(layer))
    for further_layer in {_layer(name) for name in further}:
        classifier = (weights.replace(layer, further_layer), biases.replace(layer, further_layer))
        if set(classifier) == further and re.fullmatch(allowed_layers, further_layer):
            bias_shape = shapes[classifier[1]]
            if len(bias_shape) == 1 and bias_shape[0] > 0:
                whole = dataclasses.replace(features, num_classes=bias_shape[0], classifier=classifier)
                if all(shapes[layout.name] == layout.shape for layout in whole.variable_layouts[-2:]):
                    return whole
    if features.layout == SLIM and not further:
        return _with_dense_layer(features, stored, shapes)
    return dataclasses.replace(features, further=tuple(sorted(further)))


def _with_dense_layer(features: Recognition, stored: StoredValues, shapes: Mapping[str, Shape]) -> Recognition:
    """Adds a program's own classifier behind TF-Slim's features: a dense layer that is trained beside them, alone.

    Scalars are states of an optimizer. If other values are trained as well, the dense layer may not be the only one
    behind the features.
    """
    feature_names = {layout.name for layout in features.variable_layouts}
    # Optimizers have slots for trained variables alone: what has moving statistics as well is another network.
    statistics = [layout.name for layout in features.variable_layouts if not layout.variable.trainable][:1]
    networks = tuple(
        name.removesuffix(statistic) for statistic in statistics for name in shapes if name.endswith(f"/{statistic}")
    )
    beside = [
        name
        for name in _trained_values(stored, "")
        if shapes[name]
        and name not in feature_names
        and not features.family.unused(name)
        and (name.startswith(networks) or not _names_another(name, shapes))
    ]
    *_, num_features, _ = dataclasses.replace(features, num_classes=1).variable_layouts[-2].shape
    matrices = [name for name in beside if shapes[name][:-1] == (num_features,)]
    if len(matrices) == 1 and len(beside) == 2:
        [weights], [biases] = matrices, set(beside) - {*matrices}
        if shapes[biases] == shapes[weights][1:] and shapes[biases][0] > 0:
            classes = shapes[biases][0]
            return dataclasses.replace(features, num_classes=classes, classifier=(weights, biases), is_matrix=True)
    return dataclasses.replace(features, further=tuple(sorted(beside)) if matrices else ())


def _names_another(name: str, names: Container[str]) -> bool:
    """Tells whether another value's name is part of a name, as in `Adam/m/dense/kernel`, a slot of TensorFlow 2."""
    parts = name.removesuffix(":0").split("/")  # As HDF5 files call slots.
    lengths = range(2, len(parts))
    return any(
        "/".join(parts[at : at + length]) in names for length in lengths for at in range(len(parts) - length + 1)
    )


def _beside_features(layout_name: str, classifier_layer: str) -> str:
    """Returns a pattern for the names of values that may keep a network from having a classifier."""
    # A program may train other values beside TF-Slim's network, as long as they are not in the classifier's scope.
    default = f"{re.escape(_layer(classifier_layer))}/" if layout_name == SLIM else ""
    return _LAYER_VALUES.get(layout_name, default)


def _trained_values(stored: StoredValues, beginning: str) -> Iterator[str]:
    """Yields the names of trained values, except copies and those below another value's name, like optimizer slots.

    Args:
        stored: all values.
        beginning: a pattern for how the names begin.
    """
    dtypes = {name.removesuffix(AVERAGED_SUFFIX): stored.dtype(name) for name in stored.shapes}
    pattern = re.compile(beginning)
    for name, dtype in dtypes.items():
        is_slot = name.rpartition("/")[0] in dtypes
        is_trained = dtype.rstrip("0123456789") not in ("int", "uint", "bool", "string")
        if is_trained and not is_slot and name not in stored.copies and pattern.match(name):
            yield name


def _layer(name: str) -> str:
    """Returns what comes before a variable's own name."""
    return name.rpartition("/" if "/" in name else ".")[0]
