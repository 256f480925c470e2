"""Counts a module's parameters, from the index of its checkpoint and the graph's list of trainable variables."""

from collections.abc import Iterable, Iterator
import dataclasses
import math
from pathlib import Path

from google.protobuf.message import DecodeError

from hubexport.checkpoints.dtypes import bits_dtype
from hubexport.checkpoints.stored_values import checked_shape
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.layouts.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.modules.graph_version_report import dtype_name
from hubexport.protos import Message, VariableDef
from hubexport.system.damage import DamageError

# The dtypes of parameters. Integer variables count steps or seed random numbers.
_FLOATS = ("float16", "bfloat16", "float32", "float64")
# The ops that stand for variables in TF1's graphs.
_VARIABLE_OPS = ("VarHandleOp", "Variable", "VariableV2")

# The checkpoint of a training also holds its optimizer's variables. TF1 stores them by name, TF2 by the path from the
# root object.
_TF1_BOOKKEEPING = ("global_step", "beta1_power", "beta2_power")
_TF2_BOOKKEEPING = ("optimizer", "keras_api", "save_counter")
_TF2_SLOT = "/.OPTIMIZER_SLOT/"


@dataclasses.dataclass(frozen=True)
class ParameterCounts:
    """The number of floating-point values in a module's variables, without those of an optimizer.

    Attributes:
        total: the number of all values, moving averages included.
        trainable: the number of values that fine-tuning changes; None if the module does not say.
    """

    total: int
    trainable: int | None


def count_parameters(directory: Path, saved_model: Message) -> tuple[ParameterCounts | None, str | None]:
    """Counts a module's parameters.

    Args:
        directory: the module's directory.
        saved_model: the module's SavedModel.
    Returns:
        The counts, or None if they are unknown, and a sentence about what is wrong with the weights, or None.
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
    # Strings and other values of varying size are left out.
    dtypes = {name: dtype for name in reader.shapes if (dtype := bits_dtype(reader.dtype(name)))}
    needed = sum(math.prod(reader.shapes[name]) * dtype.itemsize for name, dtype in dtypes.items())
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
        # Each session initializes local variables itself.
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
    # An optimizer's variable, such as `x/Momentum`, has the shape of `x`. So has `x/ExponentialMovingAverage`.
    return last in _TF1_BOOKKEEPING or reader.shapes.get(variable) == reader.shapes[name]


def _count_trainable(saved_model: Message, model: dict[str, int]) -> int | None:
    objects = [node for meta_graph in saved_model.meta_graphs for node in meta_graph.object_graph_def.nodes]
    if objects:
        variables = [node.variable for node in objects if node.variable.trainable]
        floats = [variable for variable in variables if dtype_name(variable.dtype) in _FLOATS]
        try:
            return sum(math.prod(checked_shape(dim.size for dim in variable.shape.dim)) for variable in floats)
        except DamageError:
            return None
    collections = [meta_graph.collection_def for meta_graph in saved_model.meta_graphs]
    trainable = [found["trainable_variables"] for found in collections if "trainable_variables" in found]
    if not trainable:
        return None
    names = {name for collection in trainable for name in _variable_names(collection.bytes_list.value)}
    return sum(model.get(name, 0) for name in names)


def _variable_names(serialized: Iterable[bytes]) -> Iterator[str]:
    """Yields the names under which variables are stored. All parts of a partitioned variable have the same name."""
    for definition in serialized:
        try:
            variable = VariableDef.FromString(definition)
        except DecodeError:
            continue
        yield variable.save_slice_info_def.full_name or variable.variable_name.removesuffix(":0")
