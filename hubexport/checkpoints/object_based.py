"""TensorFlow 2's object-based checkpoints: V2 files whose keys are paths from object to object.

A graph of the objects, stored beside the values, tells which variable each key is of.
"""

from collections import Counter

from google.protobuf.message import DecodeError

from hubexport.checkpoints.bundle import BundleError, BundleReader
from hubexport.checkpoints.stored import Renamed, StoredValues, unique_names
from hubexport.mappings.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.protos import TrackableObjectGraph


def values_by_variable(bundle: BundleReader) -> StoredValues:
    """Returns a checkpoint's values by the names of their variables, not by their keys.

    Keys that no variable has stay as they are; so do those of variables that share their name with others, because
    nobody can tell which of them is meant.

    Raises:
        BundleError: the graph of objects is damaged.
        DamageError: a variable has another's key as its name.
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
    counts = Counter(names.values())
    return Renamed(bundle, unique_names((key, name if counts[name] == 1 else key) for key, name in names.items()))
