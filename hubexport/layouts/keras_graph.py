"""Compares Keras' description of a model with a network: do the model's layers compute what the network's do?

Weights alone cannot tell: another activation, other strides or a layer without weights change no name and no shape.
Here model and network are turned into steps ("the convolution Conv1 of the images", "ReLU6 of that" …), and a number
stands for each step together with its inputs. The model computes what the network computes if it has all its steps.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import re
from typing import Any

from hubexport.layouts.rules import VariableLayout
from hubexport.networks import ops
from hubexport.networks.network import Network

_GRAPHS = ("Functional", "Model")
# Layers that return their input outside training.
_RANDOM = "Flip|Rotation|Translation|Zoom|Contrast|Brightness|Height|Width|Hue|Saturation|Sharpness|Shear|Erasing"
_IDLE = re.compile(rf"InputLayer|\w*Dropout\w*|GaussianNoise|ActivityRegularization|Random({_RANDOM})")
# Layers that do so for features of one pixel.
_RESHAPING = ("Flatten", "Reshape")
_ONE_PIXEL = (1, 1)
# For models of any image size, Keras pads as for even sizes.
_EVEN_SIZE = (2, 2)
_NO_PADDING = ((0, 0), (0, 0))
# The axis of a batch norm over channels, as Keras 2 and 3 write it.
_CHANNELS = (3, -1, [3], [-1])
# Keras may have rounded an epsilon to float32.
_EPSILON_DIGITS = 9

_Padding = tuple[tuple[int, int], ...]
# Numbers the steps; equal steps with equal inputs get the same number.
_Steps = defaultdict[tuple[Any, ...], int]
# A call of a layer: the layer's name, and the number of the call.
_Node = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class ModelDifferences:
    """How a model differs from a network.

    Attributes:
        mismatch: the network's first step up to its features that the model lacks; None if it has all of them.
        before: the model's layers between the images and the network.
        further: the model's other layers that are not the network's.
    """

    mismatch: str | None
    before: tuple[str, ...]
    further: tuple[str, ...]


def compare_model(
    description: str, network: Network, layouts: Sequence[VariableLayout], *, numbered: bool
) -> ModelDifferences:
    """Compares a model with a network.

    Args:
        description: Keras' JSON: the attribute `model_config` of an `.h5` file, `config.json` of a `.keras` file.
        network: the network, without classifier if the model has none.
        layouts: the names of the network's variables in the file.
        numbered: whether these names number the layers, like `layers/conv2d_1`.
    Raises:
        ValueError: the description is not that of a graph of layers, or cannot be understood.
    """
    layer_of = {layout.variable.name: layout.name.rpartition("/")[0].removesuffix("/vars") for layout in layouts}
    steps = _Steps(itertools.count().__next__)
    wanted, needed = _network_steps(network, layer_of, steps)
    try:
        graph = _LayerGraph(json.loads(description), numbered, steps, layer_of[network.variables[0].name])
        tensors = graph.tensors()
        busy = [name for name, layer in graph.layers.items() if not _is_idle(layer)]
    except (AttributeError, KeyError, IndexError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    model_steps = {tensor.step for tensor in tensors.values()}
    unknown = {name for (name, _), tensor in tensors.items() if tensor.step not in wanted and tensor.padding is None}
    return ModelDifferences(
        mismatch=next((shown_as for step, shown_as in needed.items() if step not in model_steps), None),
        before=tuple(name for name in busy if name in graph.before),
        further=tuple(name for name in busy if name in unknown - graph.before),
    )


def _network_steps(network: Network, layer_of: Mapping[str, str], steps: _Steps) -> tuple[set[int], dict[int, str]]:
    """Returns the network's steps, and the steps that its pooled features need with their names for messages."""
    step_of: dict[str, int] = {}
    needed: dict[int, str] = {}
    name = ""
    for op in network.ops:
        inputs = [step_of[input_name] for input_name in op.inputs]
        step = inputs[0] if inputs else steps["images",]
        if op.variables:
            name = layer_of[op.variables[0].name]
        match op:
            case ops.Conv() if op is network.classifier:
                step = steps["dense", name, step]
            case ops.Conv() | ops.DepthwiseConv():
                depthwise = isinstance(op, ops.DepthwiseConv)
                step = steps["convolution", depthwise, name, op.kernel.shape[0], op.stride[0], step]
                needed[step] = name
            case ops.BatchNorm():
                step = steps["batch norm", name, round(op.epsilon, _EPSILON_DIGITS), step]
                needed[step] = name
            case ops.Activation():
                step = steps[op.kind, step]
                needed[step] = f"{op.kind} behind {name}"
            case ops.Add():
                step = steps[("add", *sorted(inputs))]
                needed[step] = f"the sum {op.name}"
            case ops.Pool() | ops.Mean():
                step = steps["average pool", step]
            case ops.Softmax():
                step = steps["softmax", step]
        step_of[op.name] = step
    return set(step_of.values()) | set(needed), needed


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """The output of a call of a layer of the model.

    Attributes:
        step: the number of the step that computes the tensor.
        size: its height and width without padding; (1, 1) for features, None if it is not known.
        padding: the zeros around it, by axis and side; None if there are none.
        unpadded: the step that computes the tensor without its padding; None if it has none.
    """

    step: int
    size: tuple[int, int] | None = None
    padding: _Padding | None = None
    unpadded: int | None = None


class _LayerGraph:
    """A model's graph of layers.

    Args:
        described: Keras' description of the model.
        numbered: see `compare_model`.
        steps: the numbers of steps, shared with the network.
        first: the network's first layer, which takes the images whatever comes before it in the model.
    Attributes:
        layers: Keras' descriptions of the layers, by name.
        before: the layers before the first one; complete once `tensors` has returned.
    """

    def __init__(self, described: Any, numbered: bool, steps: _Steps, first: str) -> None:
        if described["class_name"] not in _GRAPHS:
            raise ValueError(f"{described['class_name']} is not a graph of layers")
        self.layers: dict[str, Any] = {str(layer["name"]): layer for layer in described["config"]["layers"]}
        self._names = _numbered_names(self.layers) if numbered else {name: name for name in self.layers}
        self._steps = steps
        self._first = first
        self._tensors: dict[_Node, _Tensor] = {}
        self.before: set[str] = set()

    def tensors(self) -> dict[_Node, _Tensor]:
        """Returns the output of each call of each layer."""
        for name, layer in self.layers.items():
            for call in range(max(1, len(layer["inbound_nodes"]))):
                self._tensor((name, call))
        return self._tensors

    def _tensor(self, node: _Node) -> _Tensor:
        if node not in self._tensors:
            inputs = [self._tensor(source) for source in self._inputs(node)]
            self._tensors[node] = self._output(node, inputs) or _Tensor(self._steps["another layer", node])
        return self._tensors[node]

    def _inputs(self, node: _Node) -> list[_Node]:
        name, call = node
        calls, config = self.layers[name]["inbound_nodes"], self.layers[name]["config"]
        if len(calls) > 1 and "layers" in config:
            raise ValueError(f"{name} is called several times")
        # For a model within the model, Keras starts counting calls at one that it does not list.
        return list(_references(calls[0] if len(calls) == 1 else calls[call])) if calls else []

    def _output(self, node: _Node, inputs: list[_Tensor]) -> _Tensor | None:
        """Returns a layer's output; None if no network of ours has such a layer."""
        layer = self.layers[node[0]]
        kind, config, steps = layer["class_name"], layer["config"], self._steps
        if kind == "InputLayer":
            return _Tensor(steps["images",], _image_size(config))
        if kind == "Add" and all(source.padding is None for source in inputs):
            return _Tensor(steps[("add", *sorted(source.step for source in inputs))], inputs[0].size)
        if len(inputs) != 1:
            return None
        [source] = inputs
        if kind in ("Conv2D", "DepthwiseConv2D"):
            return self._convolution_output(node, source)
        if source.padding is not None:
            return None
        if kind == "ZeroPadding2D":
            padding = tuple((before, after) for before, after in config["padding"])
            return _Tensor(steps["padding", padding, source.step], source.size, padding, source.step)
        if _is_idle(layer) or (kind in _RESHAPING and source.size == _ONE_PIXEL):
            return source
        if kind == "BatchNormalization" and config["axis"] in _CHANNELS and config["scale"] and config["center"]:
            epsilon = round(config["epsilon"], _EPSILON_DIGITS)
            return _Tensor(steps["batch norm", self._names[node[0]], epsilon, source.step], source.size)
        pools_all = (
            kind == "AveragePooling2D" and config["padding"] == "valid" and tuple(config["pool_size"]) == source.size
        )
        if kind == "GlobalAveragePooling2D" or pools_all:
            return _Tensor(steps["average pool", source.step], _ONE_PIXEL)
        step = source.step
        if kind == "Dense" and source.size == _ONE_PIXEL and config["use_bias"]:
            step = steps["dense", self._names[node[0]], step]
        elif kind not in ("Activation", "ReLU", "Softmax"):
            return None
        activation = _activation(kind, config)
        return _Tensor(step if activation == "linear" else steps[activation, step], source.size)

    def _convolution_output(self, node: _Node, source: _Tensor) -> _Tensor | None:
        layer = self.layers[node[0]]
        config = layer["config"]
        [kernel_size] = set(config["kernel_size"])
        [stride] = set(config["strides"])
        if not _is_plain(config) or not _pads_like_same(config["padding"], kernel_size, stride, source):
            return None
        name = self._names[node[0]]
        inside = source.step if source.unpadded is None else source.unpadded
        if name == self._first:
            self._note_before(self._inputs(node), padded=source.padding is not None)
            inside = self._steps["images",]
        step = self._steps["convolution", layer["class_name"] == "DepthwiseConv2D", name, kernel_size, stride, inside]
        return _Tensor(step, source.size and (-(-source.size[0] // stride), -(-source.size[1] // stride)))

    def _note_before(self, nodes: list[_Node], padded: bool) -> None:
        # The padding of the first layer's input is the network's own.
        waiting = [source for node in nodes for source in self._inputs(node)] if padded else nodes[:]
        while waiting:
            node = waiting.pop()
            if node[0] not in self.before:
                waiting += self._inputs(node)
                self.before.add(node[0])


def _is_idle(layer: Mapping[str, Any]) -> bool:
    if layer["class_name"] == "Sequential":
        return all(map(_is_idle, layer["config"]["layers"]))
    return _IDLE.fullmatch(layer["class_name"]) is not None


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Tells whether a convolution has no settings that TF-Slim's lack; batch norm and activation are other layers."""
    return (
        not config["use_bias"]
        and _activation("Activation", config) == "linear"
        and set(config["dilation_rate"]) == {1}
        and config.get("groups", 1) == 1
        and config["data_format"] == "channels_last"
    )


def _pads_like_same(padding: str, kernel_size: int, stride: int, source: _Tensor) -> bool:
    """Tells whether a convolution's input is padded as TensorFlow's SAME would pad it."""
    if padding == "same":
        return source.padding is None
    totals = (max((-(-size // stride) - 1) * stride + kernel_size - size, 0) for size in source.size or _EVEN_SIZE)
    return (source.padding or _NO_PADDING) == tuple((total // 2, total - total // 2) for total in totals)


def _activation(kind: str, config: Mapping[str, Any]) -> str:
    """Returns the name of a layer's activation; unknown ones get a name that no network of ours uses."""
    if kind == "Softmax":
        return "softmax" if config["axis"] in (-1, [-1]) else "softmax of other axes"
    if kind == "ReLU":
        settings = (config["max_value"], config["negative_slope"], config["threshold"])
        return "relu6" if settings == (6, 0, 0) else f"ReLU{settings}"
    activation = config["activation"]
    return str(activation.get("config") if isinstance(activation, dict) else activation)


def _image_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = config.get("batch_input_shape") or config.get("batch_shape") or ()
    sizes = tuple(shape[1:3])
    return sizes if len(sizes) == 2 and all(isinstance(size, int) for size in sizes) else None


def _references(argument: Any) -> Iterator[_Node]:
    """Yields the calls whose outputs are in the arguments of a call, as Keras 2 or Keras 3 writes them."""
    if isinstance(argument, dict):
        if argument.get("class_name") == "__keras_tensor__":
            name, call, _ = argument["config"]["keras_history"]
            yield name, call
        else:
            for value in argument.values():
                yield from _references(value)
    elif isinstance(argument, list):
        if len(argument) > 2 and isinstance(argument[0], str) and isinstance(argument[1], int):
            yield argument[0], argument[1]
            argument = argument[3:]
        for value in argument:
            yield from _references(value)


def _numbered_names(layers: Mapping[str, Any]) -> dict[str, str]:
    """Returns the name of each layer in Keras' `.weights.h5` files: its class in snake case, and a number."""
    counts: Counter[str] = Counter()
    names = {}
    for name, layer in layers.items():
        kind = layer["class_name"].rpartition(">")[2]
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        names[name] = f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}"
        counts[kind] += 1
    return names
