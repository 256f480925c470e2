"""How many numbers a module has learned, from the index of its checkpoint."""

from collections.abc import Iterable, Iterator
import dataclasses
import math
from pathlib import Path

from google.protobuf.message import DecodeError

from hubexport.checkpoints.dtypes import bits_dtype
from hubexport.checkpoints.stored_values import DamageError, checked_shape
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.layouts.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.modules.signatures import dtype_name
from hubexport.protos import Message, VariableDef

# What parameters are kept in. Whole numbers count steps, or seed random numbers.
_FLOATS = ("float16", "bfloat16", "float32", "float64")
# Ops that are variables, in TF1's graphs.
_VARIABLE_OPS = ("VarHandleOp", "Variable", "VariableV2")

# Beside the model, checkpoints of a training hold its optimizer. TF1 gives names, TF2 paths from the root object.
_TF1_BOOKKEEPING = ("global_step", "beta1_power", "beta2_power")
_TF2_BOOKKEEPING = ("optimizer", "keras_api", "save_counter")
_TF2_SLOT = "/.OPTIMIZER_SLOT/"


@dataclasses.dataclass(frozen=True)
class ParameterCounts:
    """The number of floating-point values in a module's variables, without those of an optimizer.

    Attributes:
        total: all, moving averages included.
        trainable: those that fine-tuning changes; None if the module does not tell.
    """

    total: int
    trainable: int | None


def count_parameters(directory: Path, saved_model: Message) -> tuple[ParameterCounts | None, str | None]:
    """Counts a module's parameters.

    Args:
        directory: the module's.
        saved_model: its SavedModel.
    Returns:
        The parameters, or None if they cannot be known, and what is wrong with the weights, or None.
    """
    index = directory / "variables" / "variables.index"
    if not index.is_file():
        missing = _what_needs_values(saved_model)
        return (None, f"variables/variables.index is missing: {missing}") if missing else (ParameterCounts(0, 0), None)
    try:
        reader = BundleReader(index.with_suffix(""))
        if OBJECT_GRAPH_KEY in reader.shapes:
            reader.read_text(OBJECT_GRAPH_KEY)
    except (DamageError, OSError) as error:
        return None, f"variables/: {error}"
    floats = {name: math.prod(shape) for name, shape in reader.shapes.items() if reader.dtype(name) in _FLOATS}
    model = {name: count for name, count in floats.items() if not _is_bookkeeping(name, reader)}
    # How much room text and the like take is not known.
    bits = {name: found for name in reader.shapes if (found := bits_dtype(reader.dtype(name)))}
    needed = sum(math.prod(reader.shapes[name]) * dtype.itemsize for name, dtype in bits.items())
    stored = sum(path.stat().st_size for path in index.parent.glob("variables.data-*") if path.is_file())
    problem = None
    if stored < needed:
        problem = f"variables/: the values need {needed} bytes, but their files have only {stored}"
    return ParameterCounts(sum(model.values()), _count_trainable(saved_model, model)), problem


def _what_needs_values(saved_model: Message) -> str | None:
    """Returns why a SavedModel without values cannot be loaded; None if it can."""
    for meta_graph in saved_model.meta_graphs:
        objects = meta_graph.object_graph_def.nodes
        collections = meta_graph.collection_def
        # What is local is computed anew in each session.
        local = collections["local_variables"].bytes_list.value if "local_variables" in collections else ()
        nodes = {node.name for node in meta_graph.graph_def.node if node.op in _VARIABLE_OPS}
        if any(node.HasField("variable") for node in objects) or nodes - set(_variable_names(local)):
            return "the graph's variables have no values"
        if objects:
            return "TensorFlow 2 loads no SavedModel without it, not even one without variables"
    return None


def _is_bookkeeping(name: str, reader: BundleReader) -> bool:
    if OBJECT_GRAPH_KEY in reader.shapes:
        return not name.endswith(KEY_SUFFIX) or _TF2_SLOT in name or name.partition("/")[0] in _TF2_BOOKKEEPING
    variable, _, last = name.rpartition("/")
    # `x/Momentum` or `x/ExponentialMovingAverage` is of the shape of `x`.
    return last in _TF1_BOOKKEEPING or reader.shapes.get(variable) == reader.shapes[name]


def _count_trainable(saved_model: Message, model: dict[str, int]) -> int | None:
    if any(meta_graph.object_graph_def.nodes for meta_graph in saved_model.meta_graphs):
        return _count_trainable_objects(saved_model)
    collections = [meta_graph.collection_def for meta_graph in saved_model.meta_graphs]
    if not any("trainable_variables" in collection for collection in collections):
        return None
    serialized = [
        value
        for collection in collections
        if "trainable_variables" in collection
        for value in collection["trainable_variables"].bytes_list.value
    ]
    return sum(model.get(name, 0) for name in set(_variable_names(serialized)))


def _count_trainable_objects(saved_model: Message) -> int | None:
    variables = [
        node.variable
        for meta_graph in saved_model.meta_graphs
        for node in meta_graph.object_graph_def.nodes
        if node.variable.trainable and dtype_name(node.variable.dtype) in _FLOATS
    ]
    try:
        return sum(math.prod(checked_shape(dim.size for dim in variable.shape.dim)) for variable in variables)
    except DamageError:
        return None


def _variable_names(serialized: Iterable[bytes]) -> Iterator[str]:
    """Yields the names under which variables are stored: of the parts of a partitioned one, that of the whole."""
    for definition in serialized:
        try:
            variable = VariableDef.FromString(definition)
        except DecodeError:
            continue
        yield variable.save_slice_info_def.full_name or variable.variable_name.removesuffix(":0")
