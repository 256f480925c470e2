"""Compares a module's signatures and its `__call__` with those that its kind and version promise.

The promises are the TF-Hub common signatures for images, and the Reusable SavedModel interface. They are spelled out
here, not taken from the code that writes modules.
"""

from collections.abc import Iterator, Mapping, Sequence

from hubexport.modules.graph_version_report import GraphVersionReport, TensorReport
from hubexport.modules.identity import ModuleIdentity
from hubexport.networks.network import Network
from hubexport.networks.ops import TensorShape

_FIRST_WITH_MOMENTUM = 3
_FIRST_WITH_SERVING = 5
_CALL_ARGUMENTS = ("inputs", "training=False", "return_endpoints=False", "batch_norm_momentum=0.99")
_SERVING_OUTPUTS = {"classification": "logits", "feature_vector": "feature_vector"}
# Stands for the shape of a scalar. All other shapes have a batch axis in front.
_SCALAR: TensorShape = (-1,)

# Float32 tensors by name. Their shapes leave out the batch.
_Tensors = Mapping[str, TensorShape]


def promised_signatures(module: ModuleIdentity) -> dict[str, tuple[_Tensors, _Tensors]]:
    """Returns the inputs and outputs of each signature that a module should have, by the signature's name."""
    network, kind, version = module.network, module.spec.kind, module.spec.version
    images = {"images": network.image_shape}
    if not module.is_tf1:
        outputs = {_SERVING_OUTPUTS[kind]: network.shapes[network.logits or network.features]}
        return {"serving_default": (images, outputs)} if version >= _FIRST_WITH_SERVING else {}
    endpoints = _endpoint_shapes(network)
    results = {"image_feature_vector": network.features}
    if network.logits:
        results["image_classification"] = network.logits
    promised: dict[str, tuple[_Tensors, _Tensors]] = {
        name: (images, {"default": network.shapes[layer], **endpoints}) for name, layer in results.items()
    }
    promised["default"] = promised[f"image_{kind}"]
    if version >= _FIRST_WITH_MOMENTUM:
        with_momentum = {**images, "batch_norm_momentum": _SCALAR}
        promised |= {f"{name}_with_bn_hparams": (with_momentum, promised[name][1]) for name in results}
    return promised


def signature_problems(
    graph_version: GraphVersionReport, promised: Mapping[str, tuple[_Tensors, _Tensors]]
) -> Iterator[str]:
    """Yields how the signatures of a graph version differ from the promised ones, one line per difference."""
    signatures = {signature.name: signature for signature in graph_version.signatures}
    yield from (f"signature {name} is missing" for name in promised if name not in signatures)
    yield from (f"signature {name} is unexpected" for name in signatures if name not in promised)
    for name, (inputs, outputs) in promised.items():
        if name in signatures:
            yield from _tensor_problems(f"{name}, input", signatures[name].inputs, inputs)
            yield from _tensor_problems(f"{name}, output", signatures[name].outputs, outputs)


def call_problems(graph_version: GraphVersionReport, network: Network) -> Iterator[str]:
    """Yields how the `__call__` of a TF2 SavedModel differs from the promised one, one line per difference."""
    call = graph_version.call
    if call is None:
        yield "the object cannot be called"
        return
    if call.arguments != _CALL_ARGUMENTS:
        yield f"it is __call__({', '.join(call.arguments)}), not __call__({', '.join(_CALL_ARGUMENTS)})"
    inputs = {"inputs": network.image_shape, "batch_norm_momentum": _SCALAR}
    outputs = {"output": network.shapes[network.logits or network.features]}
    yield from _tensor_problems("__call__, input", call.inputs, inputs)
    yield from _tensor_problems("__call__, output", call.outputs, outputs)
    yield from _tensor_problems("__call__, endpoint", graph_version.endpoints, _endpoint_shapes(network))


def _endpoint_shapes(network: Network) -> _Tensors:
    return {name: network.shapes[layer] for name, layer in network.endpoints.items()}


def _tensor_problems(what: str, tensors: Sequence[TensorReport], promised: _Tensors) -> Iterator[str]:
    found = {tensor.name: tensor for tensor in tensors}
    yield from (f"{what} {name} is missing" for name in promised if name not in found)
    yield from (f"{what} {name} is unexpected" for name in found if name not in promised)
    for name, shape in promised.items():
        with_batch = () if shape == _SCALAR else (None, *shape)
        if name in found and (found[name].dtype, found[name].shape) != ("float32", with_batch):
            tensor = found[name]
            yield f"{what} {name} is {tensor.dtype} {shape_text(tensor.shape)}, not float32 {shape_text(with_batch)}"


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """Returns a shape as messages show it, like `[?, 224, 224, 3]`. None stands for an unknown length or rank."""
    return "of any rank" if shape is None else f"[{', '.join('?' if n is None else str(n) for n in shape)}]"
