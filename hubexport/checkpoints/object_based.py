"""TensorFlow 2's object-based checkpoints: V2 files whose keys are paths from object to object.

A graph of the objects, stored beside the values, tells which variable each key is of.
"""

from google.protobuf.message import DecodeError

from hubexport.checkpoints.bundle import BundleError, BundleReader
from hubexport.checkpoints.stored import Renamed, StoredValues
from hubexport.mappings.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.protos import TrackableObjectGraph


def values_by_variable(bundle: BundleReader) -> StoredValues:
    """Returns a checkpoint's values by the names of their variables, not by their keys.

    Keys that no variable has, or several, stay as they are. The graph of objects is no value.

    Raises:
        BundleError: the graph of objects is damaged, or gives a value the key of another.
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
    names: dict[str, str] = {}
    for key in bundle.shapes:
        name = full_names.get(key, key.removesuffix(KEY_SUFFIX))
        name = key if name in names else name
        if name in names:
            raise BundleError(f"two of its values have the name {name}")
        if key != OBJECT_GRAPH_KEY:
            names[name] = key
    return Renamed(bundle, names)
