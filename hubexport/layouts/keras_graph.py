"""Finds a network in a model that Keras describes: which layers compute what the network's ops compute?

Weights alone cannot tell: another activation, other strides or a layer without weights change no name and no shape.
Here model and network are turned into nodes ("a 3x3 convolution of the images", "ReLU6 of that" …), and a number stands
for each step together with its inputs. The model computes the network's features if it has the step that gives them;
names do not matter. Going back from there finds the layer of each op.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import functools
import itertools
from typing import Any

from hubexport.layouts.keras_layers import LayerCall, layer_calls
from hubexport.layouts.keras_nodes import ModelNodes, is_idle
from hubexport.layouts.keras_preprocessing import Preprocessing, preprocessing
from hubexport.layouts.steps import MEAN, SOFTMAX, Kind, Node, Steps, network_nodes
from hubexport.networks import ops
from hubexport.networks.network import Network, describe_op

# The order of a layer's weights in Keras.
_WEIGHTS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
# Each start takes a pass over the model. Hostile descriptions may have thousands; no model has as many networks.
_MAX_STARTS = 16
# The layers that may be a network's first one, with the setting that says how many channels they make.
_STEMS = {"Conv2D": "filters", "DepthwiseConv2D": "depth_multiplier"}


@dataclasses.dataclass(frozen=True)
class Weight:
    """A weight of a layer.

    Attributes:
        call: a call of the layer.
        name: what Keras calls the weight, like `kernel`.
        number: its number among the layer's weights.
    """

    call: LayerCall
    name: str
    number: int


@dataclasses.dataclass(frozen=True)
class Found:
    """A network in a model, up to its features.

    Attributes:
        weights: the weight of each of the network's variables, by the variable's name.
        classifier: the weights and biases of the dense layer that alone comes behind the features; empty without one.
        preprocessing: what the model does with images before the network.
        further: the model's layers behind the network, unless they are the classifier.
    """

    weights: Mapping[str, Weight]
    classifier: tuple[Weight, ...]
    preprocessing: Preprocessing
    further: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where a model differs from a network.

    Attributes:
        reached: how many of the network's steps up to its features the model has, until the first that it lacks.
        likeness: the share of all of them that the model has as well, each by itself.
        first: the first one that it lacks.
    """

    reached: int
    likeness: float
    first: str


class ModelGraph:
    """A model as Keras describes it.

    Args:
        description: Keras' JSON, see `hubexport.layouts.keras_layers.layer_calls`.
    Attributes:
        layer_names: the names of its layers, without the models that they are in.
        has_hub_layer: whether one of its layers is a module of TensorFlow Hub.
    Raises:
        ValueError: the description is not that of a graph of layers, or cannot be understood.
    """

    def __init__(self, description: str) -> None:
        self._calls = layer_calls(description)
        self._steps = Steps()
        self._by_start: dict[int, ModelNodes] = {}
        self.layer_names = frozenset(call.path[-1] for call in self._calls)
        self.has_hub_layer = any(call.kind == "KerasLayer" for call in self._calls)
        try:
            # Whatever the first convolution is, this reads the settings of all layers.
            self._stems = {position: _stem(call) for position, call in enumerate(self._calls) if call.kind in _STEMS}
            for position in itertools.islice(self._stems, 1):
                self._nodes(position)
        except (AttributeError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise ValueError(f"a setting is not as Keras writes it: {error}") from error

    def find(self, network: Network) -> list[Found]:
        """Finds a network without classifier wherever the model computes its features, averaged or not.

        Calls of the same layers count once.
        """
        features = network_nodes(network, self._steps)[network.features]
        last = _before_pool(features)
        by_stem: dict[tuple[str, ...], Found] = {}
        for start in self._starts(network):
            nodes, path = self._nodes(start), self._calls[start].path
            if path not in by_stem and last.step in nodes.by_step:
                by_stem[path] = self._found(nodes, start, last, features.step)
        return [*by_stem.values()]

    def difference(self, network: Network) -> Difference:
        """Tells where the model differs from a network that `find` does not find."""
        wanted = network_nodes(network, self._steps)
        needed = _steps_before(_before_pool(wanted[network.features]))
        ordered = [node for node in dict.fromkeys(wanted.values()) if node.step in needed and node.inputs]
        first, reached = f"{describe_op(ordered[0].source)} of the images", 0
        for start in self._starts(network):
            by_step = self._nodes(start).by_step
            count, missing = next((count, node) for count, node in enumerate(ordered) if node.step not in by_step)
            if count > reached:
                behind = by_step[missing.inputs[0].step].source
                first, reached = f"{describe_op(missing.source)} behind {behind}", count
        kinds = Counter(node.kind for node in ordered)
        return Difference(reached, (kinds & self._kinds).total() / kinds.total(), first)

    @functools.cached_property
    def _kinds(self) -> Counter[Kind]:
        start = next(iter(self._stems), None)
        return Counter(node.kind for node in self._nodes(start).all) if start is not None else Counter()

    def image_size(self, network: Network) -> int | None:
        """Returns the height and width of the images that a network in the model takes; None if it is open."""
        for start in self._starts(network):
            size = self._nodes(start).image_size
            if size and size[0] == size[1]:
                return size[0]
        return None

    def _starts(self, network: Network) -> Iterator[int]:
        """Yields the calls that may be a network's first convolution."""
        first = next(op for op in network.ops if isinstance(op, (ops.Conv, ops.DepthwiseConv)))
        height, width, _, outputs = first.kernel.shape
        alike = (at for at, stem in self._stems.items() if stem == ((height, width), first.stride, outputs))
        return itertools.islice(alike, _MAX_STARTS)

    def _nodes(self, start: int) -> ModelNodes:
        if start not in self._by_start:
            self._by_start[start] = ModelNodes(self._calls, start, self._steps)
        return self._by_start[start]

    def _found(self, nodes: ModelNodes, start: int, last: Node, features: int) -> Found:
        weights: dict[str, Weight] = {}
        pairs: set[tuple[Node, Node]] = set()
        waiting = [(last, nodes.by_step[last.step])]
        while waiting:
            wanted, found = pair = waiting.pop()
            if pair not in pairs:
                pairs.add(pair)
                for variable, weight in zip(wanted.source.variables, _weights(found), strict=True):
                    weights[variable.name] = weight
                waiting += zip(wanted.inputs, found.inputs, strict=True)
        end = nodes.by_step[last.step].source
        inside = self._back_from(position for position, call in enumerate(self._calls) if call is end)
        behind = [
            (call, node)
            for position, (call, node) in enumerate(zip(self._calls, nodes.outputs, strict=True))
            if position not in inside and not is_idle(call)
            if node.step not in (last.step, features) and node.padding is None
        ]
        before = [self._calls[position] for position in sorted(self._before(start))]
        preprocessed = preprocessing([call for call in before if not is_idle(call)])
        dense = [node for node in nodes.all if node.inputs and _is_classifier(node, features, last.step)]
        classes = {one.step for one in dense} | {self._steps.number(SOFTMAX, [one.step]) for one in dense}
        if len(dense) == 1 and all(node.step in classes for _, node in behind):
            return Found(weights, _weights(dense[0]), preprocessed, ())
        return Found(weights, (), preprocessed, tuple(str(call) for call, _ in behind))

    def _before(self, start: int) -> set[int]:
        """Returns the positions of the calls before a network, given that of its first convolution."""
        inputs = self._calls[start].inputs
        # Zeros around the images are the network's own.
        padding = [position for position in inputs if self._calls[position].kind == "ZeroPadding2D"]
        return self._back_from(self._calls[padding[0]].inputs if padding else inputs)

    def _back_from(self, positions: Iterable[int]) -> set[int]:
        """Returns positions of calls, and those of all calls that lead to them."""
        found: set[int] = set()
        waiting = [*positions]
        while waiting:
            position = waiting.pop()
            if position not in found:
                found.add(position)
                waiting += self._calls[position].inputs
        return found


def _weights(node: Node) -> tuple[Weight, ...]:
    """Returns the weights of a node's layer, in the order of the op's variables."""
    in_keras = sorted(node.weights, key=_WEIGHTS.index)
    return tuple(Weight(node.source, name, in_keras.index(name)) for name in node.weights)


def _before_pool(features: Node) -> Node:
    """Returns the node of a network's features before they are averaged, which not all models do."""
    return features.inputs[0] if features.kind == MEAN else features


def _steps_before(features: Node) -> set[int]:
    steps: set[int] = set()
    waiting = [features]
    while waiting:
        node = waiting.pop()
        if node.step not in steps:
            steps.add(node.step)
            waiting += node.inputs
    return steps


def _stem(call: LayerCall) -> tuple[Any, ...]:
    config = call.config
    return tuple(config["kernel_size"]), tuple(config["strides"]), config[_STEMS[call.kind]]


def _is_classifier(node: Node, features: int, last: int) -> bool:
    """Tells whether a node is a dense layer on the features; where they have one pixel, they need not be averaged."""
    kind, source = node.source.kind, node.inputs[0].step
    is_dense = kind in ("Dense", "Conv2D") and node.weights == ("kernel", "bias")
    return is_dense and (source == features or (source == last and kind == "Dense"))
