"""TensorFlow 2's object-based checkpoints: V2 files whose keys are paths from object to object.

A graph of the objects, stored beside the values, tells which variable each key is of.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.message import DecodeError

from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.stored_values import DamageError, Renamed, unique_dict
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.layouts.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.protos import TrackableObjectGraph

# What optimizers call the moving average of a variable `a/b`, most of them behind a name of their own: Keras 2 with
# `use_ema`, TensorFlow Addons' MovingAverage, and Keras 3, which has no slashes in such names.
_AVERAGES = ("average/{variable}", "{variable}/average", "{flat_variable}_average")


class ValuesByVariable(Renamed):
    """A checkpoint's values by the names of their variables, not by their keys.

    Averages that optimizers keep get the names that TensorFlow 1 gives them. Keys that no variable has stay as they
    are. Of several variables of one name the first gets it if they are equal, as Keras 3 exports each twice; otherwise
    none does. The graph of objects is no value.

    Raises:
        DamageError: the graph of objects is damaged, gives a value the key of another, or a value that has to be
            compared is damaged.
        OSError: such a value cannot be read.
    """

    def __init__(self, bundle: BundleReader) -> None:
        super().__init__(bundle, unique_dict(_renamings(bundle)))


def _renamings(bundle: BundleReader) -> Iterator[tuple[str, str]]:
    """Yields the name that each value gets, and its key."""
    try:
        graph = TrackableObjectGraph.FromString(bundle.read_text(OBJECT_GRAPH_KEY))
    except DecodeError as error:
        raise DamageError("its object graph cannot be decoded") from error
    full_names = {
        attribute.checkpoint_key: attribute.full_name
        for node in graph.nodes
        for attribute in node.attributes
        if attribute.full_name
    }
    names = {key: full_names.get(key, key.removesuffix(KEY_SUFFIX)) for key in bundle.shapes if key != OBJECT_GRAPH_KEY}
    averages = {
        form.format(variable=name, flat_variable=name.replace("/", "_")): f"{name}{AVERAGED_SUFFIX}"
        for name in names.values()
        for form in _AVERAGES
    }
    keys: dict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        keys[_as_tensorflow_1(name, averages)].append(key)
    for name, (first, *others) in keys.items():
        yield (name if _are_equal(bundle, [first, *others]) else first), first
        yield from zip(others, others)


def _as_tensorflow_1(name: str, averages: Mapping[str, str]) -> str:
    """Returns the name that TensorFlow 1 gives to a variable's average, if this is one, or else the name itself."""
    return averages.get(name) or averages.get(name.partition("/")[2], name)


def _are_equal(bundle: BundleReader, keys: Sequence[str]) -> bool:
    if len({(bundle.shapes[key], bundle.dtype(key)) for key in keys}) > 1:
        return False
    return len(keys) == 1 or len({bundle.stored_bytes(key) for key in keys} | {None}) == 2
