"""TensorFlow 2's object-based checkpoints: V2 files whose keys are paths from object to object.

A graph of the objects, stored beside the values, tells which variable each key is of.
"""

from collections import Counter
from collections.abc import Container

from google.protobuf.message import DecodeError

from hubexport.checkpoints.bundle import BundleError, BundleReader
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.stored import Renamed, StoredValues
from hubexport.mappings.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.protos import TrackableObjectGraph

# What optimizers call the moving average of a variable: Keras with `use_ema` puts it before the variable's name,
# TensorFlow Addons' MovingAverage behind it, and most optimizers put their own name before both.
_AVERAGE = "average"


def values_by_variable(bundle: BundleReader) -> StoredValues:
    """Returns a checkpoint's values by the names of their variables, not by their keys.

    Averages that optimizers keep get the names that TensorFlow 1 gives them. Keys that no variable has, or of whose
    names there are several, stay as they are.

    Raises:
        BundleError: the graph of objects is damaged.
    """
    try:
        graph = TrackableObjectGraph.FromString(bundle.read_text(OBJECT_GRAPH_KEY))
    except DecodeError as error:
        raise BundleError("its object graph cannot be decoded") from error
    full_names = {
        attribute.checkpoint_key: attribute.full_name
        for node in graph.nodes
        for attribute in node.attributes
        if attribute.full_name
    }
    names = {key: full_names.get(key, key.removesuffix(KEY_SUFFIX)) for key in bundle.shapes}
    variables = set(names.values())
    names = {key: _as_tensorflow_1(name, variables) for key, name in names.items()}
    counts = Counter(names.values())
    return Renamed(bundle, {name if counts[name] == 1 else key: key for key, name in names.items()})


def _as_tensorflow_1(name: str, variables: Container[str]) -> str:
    """Returns the name that TensorFlow 1 gives to a variable's average, if this is one, or else the name itself."""
    for candidate in (name, name.partition("/")[2]):
        before, _, last = candidate.rpartition("/")
        first, _, after = candidate.partition("/")
        for variable, part in ((before, last), (after, first)):
            if part == _AVERAGE and variable in variables:
                return f"{variable}{AVERAGED_SUFFIX}"
    return name
