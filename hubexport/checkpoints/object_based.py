"""TensorFlow 2's object-based checkpoints: V2 files whose keys are paths from object to object.

A graph of the objects, stored beside the values, names the variable of each key.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.stored_values import Renamed, equal_chunks, unique_dict
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.layouts.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.protos import TrackableObjectGraph
from hubexport.system.damage import DamageError

# Optimizers' names for the moving average of a variable: Keras 2 with `use_ema`, TensorFlow Addons' MovingAverage, and
# Keras 3, which has no slashes in such names. Most put the optimizer's own name in front.
_AVERAGES = ("average/{variable}", "{variable}/average", "{flat_variable}_average")


class ValuesByVariable(Renamed):
    """A checkpoint's values by the names of their variables, not by their keys.

    Averages that optimizers keep get the names that TensorFlow 1 gives them. Values without a variable keep their keys.
    If several variables share a name, the first one gets it, provided that all are equal: Keras 3 exports each twice.
    Otherwise all keep their keys. The graph of objects is not among the values.

    Raises:
        DamageError: the graph of objects is damaged, two values get the same name, or a value that has to be compared
            with another is damaged.
        OSError: such a value cannot be read.
    """

    def __init__(self, bundle: BundleReader) -> None:
        copies: set[str] = set()
        super().__init__(bundle, unique_dict(_names_and_keys(bundle, copies)))
        self.copies = frozenset(copies)


def _names_and_keys(bundle: BundleReader, copies: set[str]) -> Iterator[tuple[str, str]]:
    """Yields each name with its key, and adds the names of values that equal one that has their variable's name."""
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
        template.format(variable=name, flat_variable=name.replace("/", "_")): f"{name}{AVERAGED_SUFFIX}"
        for name in names.values()
        for template in _AVERAGES
    }
    keys: dict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        # An optimizer's own name may come first.
        keys[averages.get(name) or averages.get(name.partition("/")[2], name)].append(key)
    for name, (first, *others) in keys.items():
        equal = _are_equal(bundle, [first, *others])
        yield (name if equal else first), first
        yield from zip(others, others)
        copies.update(others if equal else ())


def _are_equal(bundle: BundleReader, keys: Sequence[str]) -> bool:
    if len({(bundle.shapes[key], bundle.dtype(key)) for key in keys}) > 1:
        return False
    for key in keys[1:]:
        # The first value is read again for each of the others: at most two are in memory, and those in chunks.
        chunks, others = bundle.stored_chunks(keys[0]), bundle.stored_chunks(key)
        if chunks is None or others is None or not equal_chunks(chunks, others):
            return False
    return True
