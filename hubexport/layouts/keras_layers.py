"""Reads Keras' description of a model: the calls of its layers, in order, with models inside the model taken apart.

Transfer learning calls a network like one layer, so that its layers are in a model within the model, or deeper. Here
they are calls like all others. Keras 2 and Keras 3 describe the same graph in different JSON.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import re
from typing import Any

_GRAPHS = ("Functional", "Model")
_SEQUENCE = "Sequential"
INPUT = "InputLayer"
_LISTS = ("__tuple__", "TensorShape")
# Keras 2 puts it in place of a tensor where a constant comes before the tensors of a call.
_CONSTANT = "_CONSTANT_VALUE"
# No model that trains has more layers or deeper models, and reading them must end.
_MAX_CALLS = 20_000
_MAX_DEPTH = 32

# Whose layers are those of Keras. Where a description tells modules, classes of other ones are a program's own.
_MODULES = ("keras", "tf_keras", "tensorflow", "tensorflow_hub")
# Classes of Keras and TensorFlow Hub of which descriptions do not tell the module.
_WITHOUT_MODULE = (
    "Functional",
    "Model",
    "Sequential",
    "TFOpLambda",
    "SlicingOpLambda",
    "CustomScaleLayer",
    "KerasLayer",
)

# A tensor in a description: the layer's name, the number of the call of it, and the number of the call's output.
_Reference = tuple[str, int, int]


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """A call of a layer.

    Attributes:
        path: the names from the outermost model's layer down to this layer, like `("mobilenetv2_1.00_224", "Conv1")`.
        numbered: the same, as Keras' `.weights.h5` files number layers, like `("functional", "conv2d_3")`.
        kind: the layer's class, like `Conv2D`.
        config: its settings.
        inputs: the calls that give its inputs, as positions in the list of all calls.
        constants: the numbers that it is called with besides the tensors; None if they cannot be read.
        trains: whether it is called with `training=True`, itself or a model that it is in, so that it behaves as in
            training at any time.
    """

    path: tuple[str, ...]
    numbered: tuple[str, ...]
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[int, ...]
    constants: tuple[float, ...] | None = ()
    trains: bool = False

    def __str__(self) -> str:
        return "/".join(self.path)


def layer_calls(description: str) -> list[LayerCall]:
    """Lists the calls of a model's layers, each after the calls that give its inputs.

    A model within the model that is called gives the calls of its layers; its input layers are calls of their own,
    which return the input that the outer model gives them.

    Args:
        description: Keras' JSON: the attribute `model_config` of an `.h5` file, `config.json` of a `.keras` file, the
            metadata of a SavedModel's root.
    Raises:
        ValueError: the description is not that of a graph of layers, or cannot be understood.
    """
    reader = _Reader()
    try:
        reader.add_model(json.loads(description, object_hook=_plain), (), (), None, trains=False)
    except (AttributeError, KeyError, IndexError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is not as Keras writes it: {error}") from error
    return reader.calls


def _plain(item: dict[str, Any]) -> Any:
    """Turns the tuples and shapes of SavedModels' metadata into lists, which they are in other files."""
    return item["items"] if item.get("class_name") in _LISTS and "items" in item else item


class _Reader:
    """Reads a model.

    Attributes:
        calls: the calls that were read.
    """

    def __init__(self) -> None:
        self.calls: list[LayerCall] = []

    def add_model(
        self, model: Any, path: tuple[str, ...], numbered: tuple[str, ...], inputs: Sequence[int] | None, trains: bool
    ) -> list[int]:
        """Adds the calls of a model's layers.

        Args:
            model: Keras' description of the model.
            path: the names that lead to it; empty for the outermost model.
            numbered: the same as Keras numbers them.
            inputs: the positions of its inputs; None for the outermost model.
            trains: whether it is called with `training=True`.
        Returns:
            The positions of the calls that give its outputs.
        """
        if len(path) > _MAX_DEPTH:
            raise ValueError(f"its models are nested more than {_MAX_DEPTH} deep")
        if model["class_name"] == _SEQUENCE:
            return self._add_sequence(model["config"], path, numbered, inputs, trains)
        if model["class_name"] not in _GRAPHS:
            raise ValueError(f"{model['class_name']} is not a graph of layers")
        return _Graph(self, model["config"], path, numbered, inputs, trains).add()

    def _add_sequence(
        self, config: Any, path: tuple[str, ...], numbered: tuple[str, ...], inputs: Sequence[int] | None, trains: bool
    ) -> list[int]:
        layers = config["layers"] if isinstance(config, dict) else config  # Keras before 2.2.3 writes the list alone.
        sources: tuple[int, ...] = () if inputs is None else (inputs[0],)
        if inputs is None and layers[0]["class_name"] != INPUT:
            # A model that was built by its first call.
            shape = {"batch_shape": config.get("build_input_shape")} if isinstance(config, dict) else {}
            first = LayerCall((*path, "input"), (*numbered, "input"), INPUT, {**shape, **layers[0]["config"]}, ())
            sources = (self.add(first),)
        for layer, number in zip(layers, _numbered_names(layers), strict=True):
            sources = (self.add_layer(layer, path, (*numbered, number), sources, (), trains)[0],)
        return [*sources]

    def add_layer(
        self,
        layer: Any,
        path: tuple[str, ...],
        numbered: tuple[str, ...],
        inputs: tuple[int, ...],
        constants: tuple[float, ...] | None,
        trains: bool,
    ) -> list[int]:
        """Adds a call of a layer, or those inside of it; returns the positions of the calls that give its outputs."""
        path = (*path, _name(layer))
        if is_model(layer):
            return self.add_model(layer, path, numbered, inputs, trains)
        return [self.add(LayerCall(path, numbered, _kind(layer), layer["config"], inputs, constants, trains))]

    def add(self, call: LayerCall) -> int:
        """Adds a call, and returns its position."""
        if len(self.calls) == _MAX_CALLS:
            raise ValueError(f"it has more than {_MAX_CALLS} calls of layers")
        self.calls.append(call)
        return len(self.calls) - 1


class _Graph:
    """A functional model that is being read. The arguments are those of `_Reader.add_model`."""

    def __init__(
        self,
        reader: _Reader,
        config: Any,
        path: tuple[str, ...],
        numbered: tuple[str, ...],
        inputs: Sequence[int] | None,
        trains: bool,
    ) -> None:
        self._reader = reader
        self._path = path
        self._trains = trains
        self._layers = {_name(layer): layer for layer in config["layers"]}
        numbers = _numbered_names(config["layers"])
        self._numbered = {name: (*numbered, number) for name, number in zip(self._layers, numbers, strict=True)}
        self._outputs = list(_references(config["output_layers"]))
        names = [name for name, *_ in _references(config["input_layers"])]
        self._given = dict(zip(names, inputs, strict=True)) if inputs is not None else {}
        self._found: dict[tuple[str, int], list[int]] = {}
        # Keras numbers the calls of a layer, and leaves those out that are no part of the model: Keras 2 those by which
        # a model within the model was made.
        arguments = [*(layer["inbound_nodes"] for layer in config["layers"]), config["output_layers"]]
        used = {(name, call) for name, call, _ in _references(arguments)}
        self._calls = {name: sorted(call for other, call in used if other == name) for name in self._layers}

    def add(self) -> list[int]:
        """Adds all calls; returns the positions of those that give the model's outputs."""
        for name, layer in self._layers.items():
            for number in range(max(1, len(layer["inbound_nodes"]))):
                self._add_call(name, number)
        return [self._position(*output) for output in self._outputs]

    def _position(self, name: str, call: int, output: int) -> int:
        calls = self._calls[name]
        listed = max(1, len(self._layers[name]["inbound_nodes"]))
        if len(calls) != listed and is_model(self._layers[name]):
            raise ValueError(f"{name} is called {listed} times, and nothing tells which of its results are used")
        found = self._add_call(name, calls.index(call) if len(calls) == listed else call)
        if output < len(found):
            return found[output]
        # A layer with several outputs is none that a network of ours has.
        path = (*self._path, name)
        return self._reader.add(LayerCall(path, self._numbered[name], f"output {output}", {}, (found[0],)))

    def _add_call(self, name: str, number: int) -> list[int]:
        """Adds the call of a layer with a number in the order of its calls."""
        if (name, number) not in self._found:
            layer = self._layers[name]
            calls = layer["inbound_nodes"]
            argument = calls[number] if calls else []
            inputs = tuple(self._position(*source) for source in _references(argument))
            if name in self._given:
                inputs = (self._given[name],)
            self._found[name, number] = self._reader.add_layer(
                layer,
                self._path,
                self._numbered[name],
                inputs,
                _constants(argument),
                self._trains or _trains(argument),
            )
        return self._found[name, number]


def is_model(layer: Mapping[str, Any]) -> bool:
    """Tells whether a layer is a model within the model."""
    return layer["class_name"] in (*_GRAPHS, _SEQUENCE)


def _kind(layer: Mapping[str, Any]) -> str:
    """Returns a layer's class; one that is not Keras' gets a name that no class of Keras has."""
    kind = str(layer["class_name"])
    is_keras = str(layer.get("module")).partition(".")[0] in _MODULES
    return kind if "module" not in layer or is_keras or kind in _WITHOUT_MODULE else f"{kind} of a program"


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer["name"] if "name" in layer else layer["config"]["name"])


def _references(argument: Any) -> Iterator[_Reference]:
    """Yields the calls whose outputs are in the arguments of a call, as Keras 2 or Keras 3 writes them."""
    if isinstance(argument, dict):
        if argument.get("class_name") == "__keras_tensor__":
            name, call, output = argument["config"]["keras_history"]
            yield name, call, output
        else:
            for value in argument.values():
                yield from _references(value)
    elif isinstance(argument, list):
        if len(argument) > 2 and isinstance(argument[0], str) and isinstance(argument[1], int):
            if argument[0] != _CONSTANT:
                yield argument[0], argument[1], argument[2]
            argument = argument[3:]
        for value in argument:
            yield from _references(value)


def _constants(argument: Any) -> tuple[float, ...] | None:
    """Returns the numbers in the arguments of a call; None if one comes before a tensor."""
    if isinstance(argument, dict) and "args" in argument:
        tensor, *others = argument["args"] or [None]
        if not isinstance(tensor, (dict, list)):
            return None
        return tuple(value for value in others if _is_number(value))
    # Keras 2: [[name, call, output, {"y": 127.5}]], or the inner list alone.
    while isinstance(argument, list) and len(argument) == 1:
        argument = argument[0]
    if not isinstance(argument, list) or len(argument) < 4 or not isinstance(argument[3], dict):
        return ()
    if argument[0] == _CONSTANT:
        return None
    return tuple(value for value in argument[3].values() if _is_number(value))


def _trains(argument: Any) -> bool:
    """Tells whether the arguments of a call have `training=True`."""
    if isinstance(argument, dict):
        return argument.get("training") is True or any(map(_trains, argument.values()))
    return isinstance(argument, list) and any(map(_trains, argument))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbered_names(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the name of each layer in Keras' `.weights.h5` files: its class in snake case, and a number."""
    counts: Counter[str] = Counter()
    names = []
    for layer in layers:
        kind = layer["class_name"].rpartition(">")[2]
        kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        names.append(f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
    return names
