"""Finds what no graph of an image network needs: ops that do more than compute, ties to one machine, shut-out versions.

The list of ops is spelled out here, not taken from the code that writes modules: modules of other programs have to pass
too. It has the ops that networks, their training and their loading take, and no op that reads or writes files, prints,
calls Python, stops the program, or talks to another machine.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from hubexport.errors import printable
from hubexport.modules.op_versions import TensorFlowRelease
from hubexport.protos import Message

_COMPUTING = frozenset(
    # Arithmetic and comparisons.
    "Abs Add AddN AddV2 BiasAdd BiasAddV1 Cast Ceil Div DivNoNan Equal Erf Exp Expm1 Floor FloorDiv FloorMod Greater "
    "GreaterEqual Inv Less LessEqual Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Neg "
    "NotEqual Pow RealDiv Reciprocal Round Rsqrt Sign Sqrt Square SquaredDifference Sub "
    # Sums and other reductions.
    "All Any ArgMax ArgMin Cumsum L2Loss Max Mean Min Prod Sum TopKV2 "
    # Layers and activations.
    "AvgPool BatchMatMul BatchMatMulV2 BatchNormWithGlobalNormalization Conv2D Conv2DBackpropInput "
    "DepthwiseConv2dNative Einsum Elu FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN LeakyRelu LogSoftmax MatMul "
    "MaxPool Relu Relu6 Selu Sigmoid Softmax Softplus Softsign Tanh "
    # Images.
    "CropAndResize ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor "
    # Shapes and slices.
    "BatchToSpaceND BroadcastArgs BroadcastTo Concat ConcatV2 DepthToSpace ExpandDims Fill Gather GatherNd GatherV2 "
    "MirrorPad OnesLike Pack Pad PadV2 Range Rank Reshape ReverseV2 Shape ShapeN Size Slice SpaceToBatchND "
    "SpaceToDepth Split SplitV Squeeze StridedSlice Tile Transpose Unpack Where ZerosLike "
    # Constants, arguments, and what only passes a tensor on.
    "Const Identity IdentityN NoOp Placeholder PlaceholderV2 PlaceholderWithDefault PreventGradient Snapshot "
    "StopGradient "
    # Chance.
    "Multinomial RandomStandardNormal RandomUniform RandomUniformInt StatelessRandomGetKeyCounter "
    "StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformV2 "
    "StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal "
    # Variables.
    "Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp DestroyResourceOp "
    "DisableCopyOnRead IsVariableInitialized ReadVariableOp ResourceGather VarHandleOp VarIsInitializedOp Variable "
    "VariableShape VariableV2 "
    # Control flow, and calls of functions in the same file.
    "Enter Exit If LoopCond Merge NextIteration PartitionedCall RefMerge RefSwitch Select SelectV2 "
    "StatefulPartitionedCall StatelessIf StatelessWhile Switch While".split()
)
# The saver has them: what loads a module into a session names the file of values.
_SAVING = frozenset("MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin".split())


def graph_problems(meta_graph: Message, oldest: TensorFlowRelease) -> Iterator[str]:
    """Yields what is wrong with a MetaGraph's nodes and versions, one line per problem.

    Args:
        meta_graph: the MetaGraph, whoever wrote it.
        oldest: the oldest TensorFlow that should load it.
    """
    graph = meta_graph.graph_def
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    scopes: dict[str | None, Sequence[Message]] = {None: graph.node, **functions}
    saver = meta_graph.saver_def
    used, by_saver = (
        _reached(scopes, names) for names in (_entrances(meta_graph), (saver.save_tensor_name, saver.restore_op_name))
    )
    for scope, nodes in scopes.items():
        where = f"{printable(scope)}: " if scope else ""
        for node in nodes:
            key = (scope, node.name)
            yield from (f"{where}{problem}" for problem in _node_problems(node, functions, key in by_saver - used))
    yield from _version_problems(graph.versions, oldest)


def _node_problems(node: Message, functions: Iterable[str], is_saver: bool) -> Iterator[str]:
    """Yields what is wrong with a node. Only what the saver runs may read and write files, and choose a device."""
    if node.op not in _COMPUTING and node.op not in functions and not (is_saver and node.op in _SAVING):
        yield f"{printable(node.name)} is {printable(node.op)}, which is not known to do nothing but compute"
    if node.device and not is_saver:
        yield f"{printable(node.name)} is pinned to {printable(node.device)}"


def _version_problems(versions: Message, oldest: TensorFlowRelease) -> Iterator[str]:
    if versions.min_consumer > oldest.graph_def_version:
        yield f"min_consumer {versions.min_consumer} shuts TensorFlow {oldest.version} out"
    shut_out = [version for version in versions.bad_consumers if version >= oldest.graph_def_version]
    yield from (f"bad_consumers shuts the TensorFlow of GraphDef version {version} out" for version in shut_out)


def _entrances(meta_graph: Message) -> Iterator[str]:
    """Yields the names of the tensors, nodes and functions that programs run."""
    for signature in meta_graph.signature_def.values():
        yield from (output.name for output in signature.outputs.values())
    for collection in meta_graph.collection_def.values():
        yield from collection.node_list.value
    yield from meta_graph.object_graph_def.concrete_functions


def _reached(scopes: Mapping[str | None, Sequence[Message]], entrances: Iterable[str]) -> set[tuple[str | None, str]]:
    """Returns the nodes that run, by function (None for the graph itself) and name.

    Args:
        scopes: the nodes of the graph and of each function.
        entrances: the names of tensors or nodes of the graph, or of functions.
    """
    nodes = {(scope, node.name): node for scope, listed in scopes.items() for node in listed}
    waiting: list[tuple[str | None, str]] = []
    for name in entrances:
        waiting += [(name, node.name) for node in scopes[name]] if name in scopes else [(None, _node_name(name))]
    reached: set[tuple[str | None, str]] = set()
    while waiting:
        key = waiting.pop()
        if key in reached or key not in nodes:
            continue
        reached.add(key)
        node = nodes[key]
        waiting += [(key[0], _node_name(source)) for source in node.input]
        called = {node.op, *(attribute.func.name for attribute in node.attr.values())} & scopes.keys()
        waiting += [(name, inner.name) for name in called if name for inner in scopes[name]]
    return reached


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
