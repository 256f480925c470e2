"""Writes whole Keras 3 models, `.keras` files: a zip archive of the layers' description and their values in HDF5.

The description uses Keras' own layers alone, so that `keras.models.load_model` needs no custom code, whatever Keras'
backend is. It leaves out what only training from scratch needs, like initializers, and what early releases do not know.

A layer has TF-Slim's name with `-` instead of `/`, which Keras reserves. A dot would not do: PyTorch refuses it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any
import zipfile

from hubexport.arrays import Value
from hubexport.formats.op_nodes import MOMENTUM_FROM_VERSION_3
from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, TensorShape, Variable
from hubexport.networks.shapes import same_padding

# What Keras calls the output of a model with further ones, as our TF2 modules do.
DEFAULT_OUTPUT = "default"
# The first Keras that reads this description.
_KERAS_VERSION = "3.4.0"
_INPUTS = "inputs"  # The argument of our TF2 modules.
_DTYPE = "float32"
_CHANNELS_LAST = {"data_format": "channels_last"}
_LINEAR = {"activation": "linear"}
# The first moment that a zip archive can state: the bytes must not depend on the day.
_TIME = (1980, 1, 1, 0, 0, 0)
_DATE_SAVED = "1980-01-01@00:00:00"
_CHUNK_BYTES = 1 << 20
# Keras stores the values of layers by class. Other layers have none.
_GROUPS = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "BatchNormalization": "batch_normalization",
    "Dense": "dense",
}
# Keras gives these one list of tensors.
_TAKE_LISTS = ("Add", "Concatenate", "Multiply")


@dataclasses.dataclass(frozen=True)
class Step:
    """One of the Keras layers that compute an op. Each takes what the step before it gives, the first the op's inputs.

    Attributes:
        kind: the layer's class.
        config: its arguments.
        variables: its variables, in Keras' order.
        name: what Keras calls it. The last step has its op's name, the others are numbered by default.
        shape: of its output; the default is the shape of the op's.
    """

    kind: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variables: tuple[Variable, ...] = ()
    name: str | None = None
    shape: TensorShape | None = None


@dataclasses.dataclass(frozen=True)
class KerasLayer:
    """A layer of a Keras model.

    Attributes:
        name: Keras' name of the layer.
        kind: its class.
        config: its arguments.
        inputs: the names of the layers whose outputs it takes.
        shape: of its output, without the batch.
        variables: its variables, in Keras' order.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    shape: TensorShape
    variables: tuple[Variable, ...]


def keras_name(op_name: str) -> str:
    """Returns what Keras calls an op's layer."""
    return op_name.replace("/", "-")


def keras_layers(network: Network, endpoints: Sequence[str] = ()) -> tuple[KerasLayer, ...]:
    """Returns the layers of a Keras model that lead to its outputs, in the order in which Keras has them.

    Args:
        network: what the model computes.
        endpoints: keys of the endpoints that are outputs, too.
    """
    layers: dict[str, KerasLayer] = {}
    for op in network.ops:
        inputs = tuple(keras_name(name) for name in op.inputs)
        steps = RULES[type(op)](network, op)
        for number, step in enumerate(steps, start=1):
            own_name = keras_name(op.name) if number == len(steps) else f"{keras_name(op.name)}-{number}"
            name = step.name or own_name
            shape = step.shape or network.shapes[op.name]
            layers[name] = KerasLayer(name, step.kind, step.config, inputs, shape, step.variables)
            inputs = (name,)
    outputs = [keras_name(name) for _, name in sorted(_outputs(network, endpoints).items())]
    return tuple(layers[name] for name in _in_keras_order(layers, outputs))


def model_config(
    name: str, network: Network, layers: Sequence[KerasLayer], endpoints: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the description of a Keras model, the content of `config.json`.

    Args:
        name: of the model.
        network: what the model computes.
        layers: those of `keras_layers`.
        endpoints: keys of the endpoints that are outputs, too. With any, the output is a dictionary, in which the
            logits or the features are under `DEFAULT_OUTPUT`.
    """
    by_name = {layer.name: layer for layer in layers}
    outputs = {key: [keras_name(op), 0, 0] for key, op in sorted(_outputs(network, endpoints).items())}
    config = {
        "name": name,
        "trainable": True,
        "layers": [_layer_config(layer, [by_name[input_] for input_ in layer.inputs]) for layer in layers],
        "input_layers": [_INPUTS, 0, 0],
        "output_layers": outputs if endpoints else outputs[DEFAULT_OUTPUT],
    }
    return _object("keras.src.models.functional", "Functional", config) | {"registered_name": "Functional"}


def stored_variables(layers: Sequence[KerasLayer]) -> dict[str, Variable]:
    """Returns the variables of a model's layers by their path in its HDF5 file, like `layers/conv2d_1/vars/0`."""
    counts: Counter[str] = Counter()
    stored = {}
    for layer in layers:
        if not layer.variables:
            continue
        group = _GROUPS[layer.kind]
        number = f"_{counts[group]}" if counts[group] else ""
        counts[group] += 1
        for index, variable in enumerate(layer.variables):
            stored[f"layers/{group}{number}/vars/{index}"] = variable
    return stored


def write_keras_model(
    path: Path,
    name: str,
    network: Network,
    values: Mapping[str, Value],
    *,
    class_names: Sequence[str] | None = None,
    endpoints: Sequence[str] = (),
) -> None:
    """Writes a new `.keras` file. The values are whole in memory, twice.

    Args:
        path: the file.
        name: of the model.
        network: what the model computes from images in [0, 1]: the logits, or the features if there are none.
        values: float32, for each of the network's variables, by TF-Slim's name.
        class_names: the names of the classes, in order, which `metadata.json` keeps; None if they are unknown.
        endpoints: keys of the endpoints that are outputs, too.
    Raises:
        OSError: the file cannot be written.
    """
    from hubexport.checkpoints.hdf5 import write_keras_weights_h5  # h5py is slow to import.

    layers = keras_layers(network, endpoints)
    metadata: dict[str, Any] = {"keras_version": _KERAS_VERSION, "date_saved": _DATE_SAVED}
    if class_names is not None:
        metadata["class_names"] = list(class_names)
    weights = path.with_name(f"{path.name}.weights.h5")
    write_keras_weights_h5(weights, {place: values[one.name] for place, one in stored_variables(layers).items()})
    try:
        with zipfile.ZipFile(path, "x") as archive:
            for member, content in (
                ("metadata.json", metadata),
                ("config.json", model_config(name, network, layers, endpoints)),
            ):
                archive.writestr(_member(member), json.dumps(content))
            with weights.open("rb") as source, archive.open(_member("model.weights.h5"), "w", force_zip64=True) as copy:
                while chunk := source.read(_CHUNK_BYTES):
                    copy.write(chunk)
    finally:
        weights.unlink()


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _TIME)


def _outputs(network: Network, endpoints: Sequence[str]) -> dict[str, str]:
    """Returns the op of each output of a model, by key."""
    return {DEFAULT_OUTPUT: network.logits or network.features, **{key: network.endpoints[key] for key in endpoints}}


def _in_keras_order(layers: Mapping[str, KerasLayer], outputs: Sequence[str]) -> list[str]:
    """Returns the names of the layers that lead to the outputs, as Keras orders those of a model.

    Keras stores values by the number of a layer among those of its class. Layers farther from the outputs come first;
    those equally far are in the order in which a search from the outputs, input by input, comes upon them.
    """
    found: dict[str, int] = {}
    finished: dict[str, None] = {}  # A set in the order in which the search left the layers.
    for output in outputs:
        waiting = [(output, False)]
        while waiting:
            name, is_left = waiting.pop()
            if is_left:
                finished[name] = None
            elif name not in found:
                found[name] = len(found)
                waiting.append((name, True))
                waiting.extend((input_, False) for input_ in reversed(layers[name].inputs))
    depths = dict.fromkeys(finished, 0)
    for name in reversed(finished):
        for input_ in layers[name].inputs:
            depths[input_] = max(depths[input_], depths[name] + 1)
    return sorted(finished, key=lambda name: (-depths[name], found[name]))


def _object(module: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Describes an object of Keras."""
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def _layer_config(layer: KerasLayer, inputs: Sequence[KerasLayer]) -> dict[str, Any]:
    tensors = [
        {
            "class_name": "__keras_tensor__",
            "config": {"shape": _with_batch(one.shape), "dtype": _DTYPE, "keras_history": [one.name, 0, 0]},
        }
        for one in inputs
    ]
    call: dict[str, Any] = {"args": [tensors] if layer.kind in _TAKE_LISTS else tensors, "kwargs": {}}
    config = {"name": layer.name, "dtype": _DTYPE, **layer.config}
    return _object("keras.layers", layer.kind, config) | {"name": layer.name, "inbound_nodes": [call] if inputs else []}


def _with_batch(shape: TensorShape) -> list[int | None]:
    return [None, *shape]


def _weight_decay(argument: str, variable: Variable | None) -> dict[str, Any]:
    """Returns the argument of a layer that gives a variable its loss. Keras' factor is that of the whole sum."""
    if variable is None or not variable.weight_decay:
        return {}
    return {argument: _object("keras.regularizers", "L2", {"l2": variable.weight_decay / 2})}


def _windows(window: tuple[int, ...], op: ops.Conv | ops.DepthwiseConv | ops.Pool, argument: str) -> dict[str, Any]:
    return {argument: list(window), "strides": list(op.stride), "padding": op.padding.lower(), **_CHANNELS_LAST}


def _input(network: Network, op: ops.Input) -> list[Step]:
    offset = network.input_offset
    negative = [-one for one in offset] if isinstance(offset, tuple) else -offset
    return [
        Step("InputLayer", {"batch_shape": _with_batch(op.shape)}, name=_INPUTS),
        Step("Rescaling", {"scale": network.input_scale, "offset": negative}),
    ]


def _convolution(op: ops.Conv | ops.DepthwiseConv) -> dict[str, Any]:
    return {**_windows(op.kernel.shape[:2], op, "kernel_size"), "dilation_rate": [1, 1], **_LINEAR}


def _conv(network: Network, op: ops.Conv) -> list[Step]:
    config = {
        "filters": op.kernel.shape[-1],
        **_convolution(op),
        "groups": 1,
        "use_bias": op.bias is not None,
        **_weight_decay("kernel_regularizer", op.kernel),
        **_weight_decay("bias_regularizer", op.bias),
    }
    return [Step("Conv2D", config, op.variables)]


def _depthwise_conv(network: Network, op: ops.DepthwiseConv) -> list[Step]:
    config = {
        "depth_multiplier": op.kernel.shape[-1],
        **_convolution(op),
        "use_bias": op.bias is not None,
        **_weight_decay("depthwise_regularizer", op.kernel),
        **_weight_decay("bias_regularizer", op.bias),
    }
    return [Step("DepthwiseConv2D", config, op.variables)]


def _batch_norm(network: Network, op: ops.BatchNorm) -> list[Step]:
    config = {
        "axis": -1,
        "momentum": MOMENTUM_FROM_VERSION_3,
        "epsilon": op.epsilon,
        "center": True,
        "scale": op.gamma is not None,
    }
    scale = () if op.gamma is None else (op.gamma,)
    return [Step("BatchNormalization", config, (*scale, op.beta, op.moving_mean, op.moving_variance))]


def _activation(network: Network, op: ops.Activation) -> list[Step]:
    relu = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
    relu6 = relu | {"max_value": 6.0}
    match op.kind:
        case "relu":
            return [Step("ReLU", relu)]
        case "relu6":
            return [Step("ReLU", relu6)]
        case "hard_sigmoid":  # Keras' own has another slope, an exact sixth.
            slope = Step("Rescaling", {"scale": ops.HARD_SIGMOID_SLOPE, "offset": 0.0})
            return [Step("Rescaling", {"scale": 1.0, "offset": 3.0}), Step("ReLU", relu6), slope]
        case "hard_swish":
            return [Step("Activation", {"activation": "hard_silu"})]


def _pool(network: Network, op: ops.Pool) -> list[Step]:
    if op.kind == "max":
        return [Step("MaxPooling2D", _windows(op.window, op, "pool_size"))]
    image = network.shapes[op.inputs[0]]
    paddings = [_same_padding(*lengths) for lengths in zip(image[:2], op.window, op.stride, strict=True)]
    if op.padding == "VALID" or not any(padding % 2 for padding in paddings):
        return [Step("AveragePooling2D", _windows(op.window, op, "pool_size"))]
    # Where SAME pads more on one side, Keras on PyTorch counts padding as pixels. With a stride of 1 it never does, so
    # that a window is averaged around each pixel, and the others are dropped.
    first = tuple(length // 2 - padding // 2 for length, padding in zip(op.window, paddings, strict=True))
    height, width = (None if size is None else size - skipped for size, skipped in zip(image[:2], first, strict=True))
    return [
        Step(
            "AveragePooling2D",
            _windows(op.window, dataclasses.replace(op, stride=(1, 1)), "pool_size"),
            shape=image,
        ),
        Step("Cropping2D", _cropping(first), shape=(height, width, image[-1])),
        Step("MaxPooling2D", _windows((1, 1), dataclasses.replace(op, padding="VALID"), "pool_size")),
    ]


def _same_padding(size: int | None, window: int, stride: int) -> int:
    """Returns the rows or columns that SAME pads on both sides together; 0 for an even window or an open size."""
    if size is None or window % 2 == 0:
        return 0
    return sum(same_padding(size, window, stride))


def _mean(network: Network, op: ops.Mean) -> list[Step]:
    return [Step("GlobalAveragePooling2D", {"keepdims": True, **_CHANNELS_LAST})]


def _pad(network: Network, op: ops.Pad) -> list[Step]:
    return [Step("ZeroPadding2D", {"padding": [*zip(op.before, op.after, strict=True)], **_CHANNELS_LAST})]


def _slice(network: Network, op: ops.Slice) -> list[Step]:
    return [Step("Cropping2D", _cropping(op.begin))]


def _cropping(begin: tuple[int, ...]) -> dict[str, Any]:
    return {"cropping": [(first, 0) for first in begin], **_CHANNELS_LAST}


def _concat(network: Network, op: ops.Concat) -> list[Step]:
    return [Step("Concatenate", {"axis": -1})]


def _add(network: Network, op: ops.Add) -> list[Step]:
    return [Step("Add")]


def _multiply(network: Network, op: ops.Multiply) -> list[Step]:
    return [Step("Multiply")]


def _scale(network: Network, op: ops.Scale) -> list[Step]:
    return [Step("Rescaling", {"scale": op.factor, "offset": 0.0})]


def _matmul(network: Network, op: ops.MatMul) -> list[Step]:
    config = {
        "units": op.kernel.shape[-1],
        **_LINEAR,
        "use_bias": True,
        **_weight_decay("kernel_regularizer", op.kernel),
        **_weight_decay("bias_regularizer", op.bias),
    }
    return [Step("Dense", config, op.variables)]


def _squeeze(network: Network, op: ops.Squeeze) -> list[Step]:
    return [Step("Flatten", _CHANNELS_LAST)]


def _dropout(network: Network, op: ops.Dropout) -> list[Step]:
    return [Step("Dropout", {"rate": _rate(op.keep_prob)})]


def _drop_path(network: Network, op: ops.DropPath) -> list[Step]:
    return [Step("Dropout", {"rate": _rate(op.keep_prob), "noise_shape": [None, 1, 1, 1]})]


def _rate(keep_prob: float) -> float:
    return round(1 - keep_prob, 12)  # 0.2, not 0.19999999999999996.


def _softmax(network: Network, op: ops.Softmax) -> list[Step]:
    return [Step("Softmax", {"axis": -1})]


def _identity(network: Network, op: ops.Identity) -> list[Step]:
    return [Step("Activation", _LINEAR)]


RULES: dict[type[Op], Callable[..., list[Step]]] = {
    ops.Input: _input,
    ops.Conv: _conv,
    ops.DepthwiseConv: _depthwise_conv,
    ops.BatchNorm: _batch_norm,
    ops.Activation: _activation,
    ops.Pool: _pool,
    ops.Mean: _mean,
    ops.Pad: _pad,
    ops.Slice: _slice,
    ops.Concat: _concat,
    ops.Add: _add,
    ops.Multiply: _multiply,
    ops.Scale: _scale,
    ops.MatMul: _matmul,
    ops.Squeeze: _squeeze,
    ops.Dropout: _dropout,
    ops.DropPath: _drop_path,
    ops.Softmax: _softmax,
    ops.Identity: _identity,
}
