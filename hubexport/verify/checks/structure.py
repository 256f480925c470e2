"""Checks of a module's files, which do not run the module: digests, formats, signatures, variables, and declarations.

The promises are spelled out here and in the modules that compare signatures and declarations, not taken from the code
that writes modules.
"""

from collections.abc import Iterator, Sequence

from hubexport.checkpoints.stored_values import StoredValues
from hubexport.errors import printable
from hubexport.formats.manifest import MANIFEST
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.modules.op_versions import known_tensorflows
from hubexport.modules.values import open_stored_values
from hubexport.networks.network import Network
from hubexport.system.damage import DamageError
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.declaration_problems import (
    OBJECT_LISTS,
    attached_image_sizes,
    collection_problems,
    object_problems,
)
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong
from hubexport.verify.graph_problems import graph_problems
from hubexport.verify.signature_problems import call_problems, promised_signatures, shape_text, signature_problems

GROUP = CheckGroup("structure", proof="computation")

# The oldest TensorFlow that should load the format.
_OLDEST_FOR_TF1 = "1.7"
_OLDEST_FOR_TF2 = "2.4"
# TensorFlow 1.7 knows these ops, but cannot differentiate them.
_WITHOUT_GRADIENT_IN_TF1 = ("AddV2",)
# Before this version, modules have no attachments: tensorflow_hub 0.1.0 refuses them.
_FIRST_WITH_ATTACHMENT = 3


@GROUP.check
def digests(context: VerificationContext) -> Finding:
    """The files are exactly those listed in hubexport.json, with the same SHA-256 digests."""
    return context.listed_digests()


@GROUP.check
def facts(context: VerificationContext) -> Finding:
    """The handle, image size, features and classes in hubexport.json match the network."""
    module, network = context.module, context.network
    if module.manifest is None:
        raise NotApplicable(f"there is no {MANIFEST}")
    height, width = network.default_image_size
    wanted = {
        "handle": module.variant.handle(module.spec),
        "input_height_px": height,
        "input_width_px": width,
        "num_features": network.num_features,
        "num_classes": network.num_classes,
    }
    listed = {name: getattr(module.manifest, name) for name in wanted}
    wrong = (f"{name} is {listed[name]}, not {wanted[name]}" for name in wanted if listed[name] != wanted[name])
    return nothing_wrong(wrong, f"it describes {module.variant.name}, {module.spec}")


@GROUP.check
def file_format(context: VerificationContext) -> Finding:
    """The files have the right format for the version: TF1 Hub up to version 3, TF2 SavedModel from version 4."""
    wanted = "TF1 Hub module" if context.module.is_tf1 else "TF2 SavedModel"
    found, version = context.report.format, context.module.spec.version
    wrong = [] if found == wanted else [f"this is a {found}, but version {version} is a {wanted}"]
    return nothing_wrong([*wrong, *context.report.problems], wanted)


@GROUP.check
def graph_versions(context: VerificationContext) -> Finding:
    """A TF1 Hub module has the graph versions [] and [train]; a TF2 SavedModel has one, tagged serve."""
    wanted = [(), ("train",)] if context.module.is_tf1 else [("serve",)]
    found = [version.tags for version in context.report.graph_versions]
    wrong = [f"the tags are {_tags_text(found)}, not {_tags_text(wanted)}"] if sorted(found) != wanted else []
    return nothing_wrong(wrong, f"tags {_tags_text(wanted)}")


def _tags_text(tags: Sequence[Sequence[str]]) -> str:
    return " and ".join(f"[{', '.join(version)}]" for version in tags)


@GROUP.check
def signatures(context: VerificationContext) -> Finding:
    """Signatures and __call__ have the names, inputs, outputs, dtypes and shapes that kind and version promise."""
    promised = promised_signatures(context.module)
    versions = context.report.graph_versions
    problems = [problem for version in versions for problem in signature_problems(version, promised)]
    if context.module.is_tf1:
        return nothing_wrong(problems, ", ".join(promised))
    problems += [problem for version in versions for problem in call_problems(version, context.network)]
    return nothing_wrong(problems, ", ".join([*promised, "__call__"]))


@GROUP.check
def ops(context: VerificationContext) -> Finding:
    """The oldest supported TensorFlow (1.7 for TF1, 2.4 for TF2) knows every op and attribute."""
    promised = _OLDEST_FOR_TF1 if context.module.is_tf1 else _OLDEST_FOR_TF2
    compatibility, counts = context.report.compatibility, context.report.op_counts
    versions = [tensorflow.version for tensorflow in known_tensorflows()]
    problems = []
    if compatibility.oldest is None or versions.index(compatibility.oldest) > versions.index(promised):
        problems += [f"TensorFlow {promised} does not know {obstacle}" for obstacle in compatibility.obstacles]
    if context.module.is_tf1:
        untrained = (op for op in _WITHOUT_GRADIENT_IN_TF1 if op in counts)
        problems += [f"TensorFlow {promised} cannot differentiate {op}" for op in untrained]
    return nothing_wrong(problems, f"TensorFlow {promised} knows all {len(counts)} ops", "ops")


@GROUP.check
def graphs(context: VerificationContext) -> Finding:
    """Every node only computes, on any device, and the graphs shut no supported TensorFlow out."""
    promised = _OLDEST_FOR_TF1 if context.module.is_tf1 else _OLDEST_FOR_TF2
    [oldest] = (release for release in known_tensorflows() if release.version == promised)
    problems = [
        f"graph version [{', '.join(map(printable, meta_graph.meta_info_def.tags))}]: {problem}"
        for meta_graph in context.saved_model.meta_graphs
        for problem in graph_problems(meta_graph, oldest)
    ]
    return nothing_wrong(problems, f"{sum(context.report.op_counts.values())} nodes")


@GROUP.check
def variables(context: VerificationContext) -> Finding:
    """The variables folder holds exactly the network's variables, each float32 and of the right shape."""
    try:
        stored = open_stored_values(context.module)
        problems = [*_wrong_variables(stored, context.network)]
    except (DamageError, OSError) as error:
        problems = [f"variables/: {error}"]
    return nothing_wrong(problems, f"{len(context.network.variables)} variables", "variables")


def _wrong_variables(stored: StoredValues, network: Network) -> Iterator[str]:
    wanted = {variable.name: variable.shape for variable in network.variables}
    yield from (f"{name} is missing" for name in wanted if name not in stored.shapes)
    known = {*wanted, OBJECT_GRAPH_KEY}
    yield from (f"{printable(name)} does not belong to the network" for name in stored.shapes if name not in known)
    for name, shape in wanted.items():
        if name in stored.shapes and (stored.dtype(name), stored.shapes[name]) != ("float32", shape):
            yield f"{name} is {stored.dtype(name)} {shape_text(stored.shapes[name])}, not float32 {shape_text(shape)}"


@GROUP.check
def collections(context: VerificationContext) -> Finding:
    """TF1: the collections list all variables, trained variables, update ops and losses; there are no others."""
    if not context.module.is_tf1:
        raise NotApplicable("a TF2 SavedModel has objects instead; see structure.objects")
    problems = [
        f"graph version [{', '.join(meta_graph.meta_info_def.tags)}]: {problem}"
        for meta_graph in context.saved_model.meta_graphs
        for problem in collection_problems(meta_graph, context.network)
    ]
    trainable = [variable.trainable for variable in context.network.variables]
    return nothing_wrong(problems, f"{len(trainable)} variables, {sum(trainable)} of them trained")


@GROUP.check
def image_size(context: VerificationContext) -> Finding:
    """TF1, version 3: hub.get_expected_image_size reads the network's image size from the module's attachment."""
    if not context.module.is_tf1:
        if None in context.network.image_shape:
            raise NotApplicable("it takes images of any size, and a TF2 SavedModel has no place for a default")
        raise NotApplicable("in TF2, programs read the image size from the shape of __call__'s argument")
    wanted = _sizes_text([context.network.default_image_size])
    attached = [attached_image_sizes(meta_graph) for meta_graph in context.saved_model.meta_graphs]
    if context.module.spec.version < _FIRST_WITH_ATTACHMENT:
        refused = (_sizes_text([size]) for sizes in attached for size in sizes)
        return nothing_wrong(
            (f"{size} is attached; tensorflow_hub 0.1.0 refuses attachments" for size in refused),
            f"none attached; the input shape gives {wanted}",
        )
    texts = [_sizes_text(sizes) for sizes in attached]
    return nothing_wrong((f"{text} attached, not {wanted}" for text in texts if text != wanted), f"{wanted} attached")


def _sizes_text(sizes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(" x ".join(map(str, size)) for size in sizes) or "no size"


@GROUP.check
def objects(context: VerificationContext) -> Finding:
    """TF2: the object has __call__ and complete lists of variables, trained variables and regularization losses."""
    if context.module.is_tf1:
        raise NotApplicable("a TF1 Hub module has collections instead; see structure.collections")
    [meta_graph] = context.saved_model.meta_graphs
    return nothing_wrong(object_problems(meta_graph, context.network), f"{', '.join(OBJECT_LISTS)} are complete")
