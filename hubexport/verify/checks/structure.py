"""Checks of what stands in a module's files, without running it.

What is expected is spelled out here from the promises (the TF-Hub common signatures for images, the Reusable SavedModel
interface, what each TensorFlow takes), not taken from the code that writes modules.
"""

from collections.abc import Iterator, Mapping, Sequence

from hubexport.checkpoints.stored_values import DamageError, StoredValues
from hubexport.errors import printable
from hubexport.formats.manifest import MANIFEST, changed_files
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.modules.graph_version_report import GraphVersionReport, SignatureReport, TensorReport
from hubexport.modules.op_versions import known_tensorflows
from hubexport.networks.layers import Network, Shape
from hubexport.system.atomic_output import tree_files
from hubexport.variants import Kind
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong

GROUP = CheckGroup("structure")

# The oldest TensorFlow that is promised to load the format.
_OLDEST_FOR_TF1 = "1.7"
_OLDEST_FOR_TF2 = "2.4"
# TensorFlow 1.7 knows these ops, but not their gradients.
_WITHOUT_GRADIENT_IN_TF1 = ("AddV2",)
_WITH_MOMENTUM = 3
_WITH_SERVING = 5
_CALL_ARGUMENTS = ("inputs", "training=False", "return_endpoints=False", "batch_norm_momentum=0.99")
_SERVING_OUTPUTS = {"classification": "logits", "feature_vector": "feature_vector"}


@GROUP.check
def digests(evidence: VerificationContext) -> Finding:
    """The files are exactly those listed in hubexport.json, with the same SHA-256 digests."""
    manifest = evidence.subject.manifest
    if manifest is None:
        raise NotApplicable(f"there is no {MANIFEST}")
    directory = evidence.subject.directory
    changed = changed_files(directory, tree_files(directory), manifest.sha256)
    return nothing_wrong(changed, f"{len(manifest.sha256)} files match their listed digests", "files")


@GROUP.check
def facts(evidence: VerificationContext) -> Finding:
    """The handle, image size, features and classes in hubexport.json match the network."""
    subject, network = evidence.subject, evidence.network
    if subject.manifest is None:
        raise NotApplicable(f"there is no {MANIFEST}")
    height, width, _ = network.image_shape
    wanted = {
        "handle": subject.variant.handle(subject.spec),
        "input_height_px": height,
        "input_width_px": width,
        "num_features": network.num_features,
        "num_classes": network.num_classes,
    }
    said = {name: getattr(subject.manifest, name) for name in wanted}
    wrong = (f"{name} is {said[name]}, not {wanted[name]}" for name in wanted if said[name] != wanted[name])
    return nothing_wrong(wrong, f"it describes {subject.variant.name}, {subject.spec}")


@GROUP.check
def file_format(evidence: VerificationContext) -> Finding:
    """The files have the right format for the version: TF1 Hub up to version 3, TF2 SavedModel from version 4."""
    wanted = "TF1 Hub module" if evidence.subject.is_tf1 else "TF2 SavedModel"
    problems = [*evidence.report.problems]
    if evidence.report.format != wanted:
        problems.insert(
            0, f"this is a {evidence.report.format}, but version {evidence.subject.spec.version} is a {wanted}"
        )
    return nothing_wrong(problems, wanted)


@GROUP.check
def graph_versions(evidence: VerificationContext) -> Finding:
    """A TF1 Hub module has the graph versions [] and [train]; a TF2 SavedModel has one, tagged serve."""
    wanted = [(), ("train",)] if evidence.subject.is_tf1 else [("serve",)]
    found = [version.tags for version in evidence.report.graph_versions]
    wrong = [f"the tags are {_listed(found)}, not {_listed(wanted)}"] if sorted(found) != wanted else []
    return nothing_wrong(wrong, f"tags {_listed(wanted)}")


def _listed(tags: Sequence[Sequence[str]]) -> str:
    return " and ".join(f"[{', '.join(one)}]" for one in tags)


@GROUP.check
def signatures(evidence: VerificationContext) -> Finding:
    """Signatures and __call__ have the names, inputs, outputs, dtypes and shapes that kind and version promise."""
    subject, network = evidence.subject, evidence.network
    if subject.is_tf1:
        wanted = _tf1_signatures(subject.spec.kind, subject.spec.version, network)
    else:
        wanted = _tf2_signatures(subject.spec.kind, subject.spec.version, network)
    problems = [
        problem
        for version in evidence.report.graph_versions
        for problem in _wrong_signatures({one.name: one for one in version.signatures}, wanted)
    ]
    if not subject.is_tf1:
        problems += [problem for version in evidence.report.graph_versions for problem in _wrong_call(version, network)]
    names = [*wanted, *([] if subject.is_tf1 else ["__call__"])]
    return nothing_wrong(problems, ", ".join(names))


_Tensors = Mapping[str, Shape]


def _tf1_signatures(kind: Kind, version: int, network: Network) -> dict[str, tuple[_Tensors, _Tensors]]:
    """Returns inputs and outputs of the common signatures, by their names; shapes leave out the batch."""
    endpoints = {name: network.shapes[layer] for name, layer in network.endpoints.items()}
    images = {"images": network.image_shape}
    results = {"image_feature_vector": (network.num_features,)}
    if network.num_classes is not None:
        results["image_classification"] = (network.num_classes,)
    wanted: dict[str, tuple[_Tensors, _Tensors]] = {
        name: (images, {"default": shape, **endpoints}) for name, shape in results.items()
    }
    wanted["default"] = wanted[f"image_{kind}"]
    if version >= _WITH_MOMENTUM:
        with_momentum = {**images, "batch_norm_momentum": _SCALAR}
        wanted |= {f"{name}_with_bn_hparams": (with_momentum, wanted[name][1]) for name in results}
    return wanted


def _tf2_signatures(kind: Kind, version: int, network: Network) -> dict[str, tuple[_Tensors, _Tensors]]:
    if version < _WITH_SERVING:
        return {}
    return {"serving_default": ({"images": network.image_shape}, {_SERVING_OUTPUTS[kind]: _output_shape(network)})}


def _output_shape(network: Network) -> Shape:
    return (network.num_features if network.num_classes is None else network.num_classes,)


# A tensor without a batch, unlike all others.
_SCALAR: Shape = (-1,)


def _wrong_signatures(
    found: Mapping[str, SignatureReport], wanted: Mapping[str, tuple[_Tensors, _Tensors]]
) -> Iterator[str]:
    yield from (f"signature {name} is missing" for name in wanted if name not in found)
    yield from (f"signature {name} is unexpected" for name in found if name not in wanted)
    for name, (inputs, outputs) in wanted.items():
        if name in found:
            yield from _wrong_tensors(f"{name}, input", found[name].inputs, inputs)
            yield from _wrong_tensors(f"{name}, output", found[name].outputs, outputs)


def _wrong_tensors(what: str, found: Sequence[TensorReport], wanted: _Tensors) -> Iterator[str]:
    shapes = {tensor.name: tensor for tensor in found}
    yield from (f"{what} {name} is missing" for name in wanted if name not in shapes)
    yield from (f"{what} {name} is unexpected" for name in shapes if name not in wanted)
    for name, shape in wanted.items():
        with_batch = () if shape == _SCALAR else (None, *shape)
        if name in shapes and (shapes[name].dtype, shapes[name].shape) != ("float32", with_batch):
            tensor = shapes[name]
            yield f"{what} {name} is {tensor.dtype} {_shown(tensor.shape)}, not float32 {_shown(with_batch)}"


def _shown(shape: tuple[int | None, ...] | None) -> str:
    return "of any rank" if shape is None else f"[{', '.join('?' if n is None else str(n) for n in shape)}]"


def _wrong_call(version: GraphVersionReport, network: Network) -> Iterator[str]:
    if version.call is None:
        yield "the object cannot be called"
        return
    if version.call.arguments != _CALL_ARGUMENTS:
        yield f"it is __call__({', '.join(version.call.arguments)}), not __call__({', '.join(_CALL_ARGUMENTS)})"
    inputs = {"inputs": network.image_shape, "batch_norm_momentum": _SCALAR}
    yield from _wrong_tensors("__call__, input", version.call.inputs, inputs)
    yield from _wrong_tensors("__call__, output", version.call.outputs, {"output": _output_shape(network)})
    endpoints = {name: network.shapes[layer] for name, layer in network.endpoints.items()}
    yield from _wrong_tensors("__call__, endpoint", version.endpoints, endpoints)


@GROUP.check
def ops(evidence: VerificationContext) -> Finding:
    """The oldest supported TensorFlow (1.7 for TF1, 2.4 for TF2) knows every op and attribute."""
    promised = _OLDEST_FOR_TF1 if evidence.subject.is_tf1 else _OLDEST_FOR_TF2
    compatibility, counts = evidence.report.compatibility, evidence.report.op_counts
    versions = [tensorflow.version for tensorflow in known_tensorflows()]
    problems = []
    if compatibility.oldest is None or versions.index(compatibility.oldest) > versions.index(promised):
        problems += [f"TensorFlow {promised} does not know {one}" for one in compatibility.obstacles]
    if evidence.subject.is_tf1:
        untrained = (op for op in _WITHOUT_GRADIENT_IN_TF1 if op in counts)
        problems += [f"TensorFlow {promised} cannot differentiate {op}" for op in untrained]
    return nothing_wrong(problems, f"TensorFlow {promised} knows all {len(counts)} ops", "ops")


@GROUP.check
def variables(evidence: VerificationContext) -> Finding:
    """The variables folder holds exactly the network's variables, each float32 and of the right shape."""
    try:
        stored = evidence.open_stored()
        problems = [*_wrong_variables(stored, evidence.network)]
    except (DamageError, OSError) as error:
        problems = [f"variables/: {error}"]
    return nothing_wrong(problems, f"{len(evidence.network.variables)} variables", "variables")


def _wrong_variables(stored: StoredValues, network: Network) -> Iterator[str]:
    wanted = {variable.name: variable.shape for variable in network.variables}
    yield from (f"{name} is missing" for name in wanted if name not in stored.shapes)
    known = {*wanted, OBJECT_GRAPH_KEY}
    yield from (f"{printable(name)} does not belong to the network" for name in stored.shapes if name not in known)
    for name, shape in wanted.items():
        if name in stored.shapes and (stored.dtype(name), stored.shapes[name]) != ("float32", shape):
            yield f"{name} is {stored.dtype(name)} {_shown(stored.shapes[name])}, not float32 {_shown(shape)}"
