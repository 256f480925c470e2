"""Says in words how two protocol buffers differ: a SavedModel, for example, or the objects of a checkpoint.

The walk follows the fields of the messages' descriptors, those that `hubexport.protos` does not know included, so no
part of a message goes unseen. What has a name, like nodes and functions, is compared by name; other lists by position.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet
import numpy as np

from hubexport.errors import printable
from hubexport.protos import Message

# The elements of a longer list are not shown all.
_MAX_SHOWN_ELEMENTS = 8
_MAX_SHOWN_CHARACTERS = 160

# What tells the elements of a list apart, by the name of their message.
_NAMES: Mapping[str, Callable[[Any], str]] = {
    "FunctionDef": lambda function: f"function {function.signature.name}",
    "MetaGraphDef": lambda meta_graph: f"graph [{', '.join(meta_graph.meta_info_def.tags)}]",
    "NodeDef": lambda node: str(node.name),
    "OpDef_ArgDef": lambda argument: str(argument.name),
    "PairValue": lambda pair: str(pair.key),
    "TrackableObjectGraph_TrackableObject_ObjectReference": lambda child: str(child.local_name),
}

# What texts call a field, where its own name says too little, or nothing beside the name of the element in it.
_WORDS = {
    "AttrValue.*": "",
    "AttrValue_ListValue.*": "",
    "CollectionDef.*": "",
    "CollectionDef_BytesList.*": "",
    "CollectionDef_NodeList.*": "",
    "FunctionDef.attr": "attribute",
    "FunctionDef.node_def": "",
    "FunctionDef.ret": "result",
    "FunctionDefLibrary.function": "",
    "GraphDef.library": "",
    "GraphDef.node": "",
    "MetaGraphDef.collection_def": "collection",
    "MetaGraphDef.graph_def": "",
    "MetaGraphDef.object_graph_def": "",
    "MetaGraphDef.signature_def": "signature",
    "NodeDef.attr": "",
    "NodeDef.op": "",
    "SavedModel.meta_graphs": "",
    "SavedObject.children": "child",
    "SavedObjectGraph.concrete_functions": "concrete function",
    "SavedObjectGraph.nodes": "object",
    "SignatureDef.inputs": "input",
    "SignatureDef.outputs": "output",
    "StructuredValue.*": "",
    "TensorProto.float_val": "",
    "TensorProto.int_val": "",
    "TensorProto.string_val": "",
    "TrackableObjectGraph.nodes": "object",
    "TrackableObjectGraph_TrackableObject.children": "child",
}


def message_differences(found: Message, wanted: Message, place: str) -> Iterator[str]:
    """Yields how a message differs from another one of the same kind, one line per difference.

    Args:
        found: the message.
        wanted: what it should be.
        place: what the lines call it.
    """
    if _content(found) == _content(wanted):
        return
    for field in wanted.DESCRIPTOR.fields:
        yield from _field_differences(found, wanted, field, place)
    unknown, known = (_unknown_fields(message) for message in (found, wanted))
    for number, value in sorted(unknown.keys() | known.keys()):
        if unknown[number, value] != known[number, value]:
            yield _inside(place, f"field {number}, which hubexport does not write, is {shown(value)}")


def _content(message: Message) -> bytes:
    # Messages compare as equal even if their unknown fields differ.
    return message.SerializeToString(deterministic=True)


def _unknown_fields(message: Message) -> Counter[tuple[int, str]]:
    return Counter((field.field_number, repr(_plain(field.data))) for field in UnknownFieldSet(message))


def _plain(data: Any) -> Any:
    if isinstance(data, UnknownFieldSet):
        return [(field.field_number, _plain(field.data)) for field in data]
    return data


def _field_differences(found: Message, wanted: Message, field: FieldDescriptor, place: str) -> Iterator[str]:
    name = f"{found.DESCRIPTOR.name}.{field.name}"
    word = _WORDS.get(name, _WORDS.get(f"{found.DESCRIPTOR.name}.*", field.name.replace("_", " ")))
    ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        entries = [{_labelled(word, key): value for key, value in fields.items()} for fields in (ours, theirs)]
        yield from _named_differences(entries[0], entries[1], place)
    elif isinstance(theirs, Sequence) and not isinstance(theirs, (str, bytes)):
        yield from _list_differences(ours, theirs, field, place, word)
    elif field.has_presence and not (found.HasField(field.name) and wanted.HasField(field.name)):
        if found.HasField(field.name) or wanted.HasField(field.name):
            missing = wanted.HasField(field.name)
            yield _inside(place, f"{word or field.name} {'is missing' if missing else 'should not be there'}")
    elif isinstance(theirs, Message):
        yield from message_differences(ours, theirs, _inside(place, word))
    elif repr(ours) != repr(theirs):  # NaN equals itself here, and 0 differs from -0.
        yield f"{_inside(place, word)} is {shown(ours)}, not {shown(theirs)}"


def _list_differences(
    found: Sequence[Any], wanted: Sequence[Any], field: FieldDescriptor, place: str, word: str
) -> Iterator[str]:
    if not field.message_type:
        yield from _scalar_list_differences([*found], [*wanted], _inside(place, word))
        return
    if naming := _NAMES.get(field.message_type.name):
        names = [_numbered(_labelled(word, naming(element)) for element in elements) for elements in (found, wanted)]
    else:
        labels = _object_paths(wanted) if word == "object" else []
        positions = range(max(len(found), len(wanted)))
        labels += map(str, positions[len(labels) :])
        names = [[f"{word or field.name} {labels[at]}" for at in range(len(elements))] for elements in (found, wanted)]
    ours, theirs = (dict(zip(*pair, strict=True)) for pair in zip(names, (found, wanted), strict=True))
    yield from _named_differences(ours, theirs, place)
    if names[0] != names[1] and ours.keys() == theirs.keys():
        yield f"{_inside(place, field.name.replace('_', ' '))}: the elements are in another order"


def _labelled(word: str, name: str) -> str:
    return f"{word} {name}" if word else name


def _numbered(names: Iterator[str]) -> list[str]:
    """Tells equal names apart."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} (number {seen[name]} of this name)")
    return numbered


def _object_paths(objects: Sequence[Any]) -> list[str]:
    """Returns how to get to each object from the first one, like `variables.3`, if there is a way."""
    paths = {0: "root"}
    queue = [0]
    for parent in queue:
        for child in objects[parent].children if parent < len(objects) else ():
            if child.node_id not in paths:
                paths[child.node_id] = f"{paths[parent]}.{child.local_name}".removeprefix("root.")
                queue.append(child.node_id)
    labels = [paths.get(number, str(number)) for number in range(len(objects))]
    variables = [one.variable.name if "variable" in one.DESCRIPTOR.fields_by_name else "" for one in objects]
    return [f"{label} ({name})" if name else label for label, name in zip(labels, variables, strict=True)]


def _named_differences(found: Mapping[str, Any], wanted: Mapping[str, Any], place: str) -> Iterator[str]:
    for name, theirs in wanted.items():
        if name not in found:
            yield f"{_inside(place, name)}{_kind(theirs)} is missing"
        elif isinstance(theirs, Message):
            yield from message_differences(found[name], theirs, _inside(place, name))
        elif found[name] != theirs:
            yield f"{_inside(place, name)} is {shown(found[name])}, not {shown(theirs)}"
    for name, ours in found.items():
        if name not in wanted:
            yield f"{_inside(place, name)}{_kind(ours)} should not be there"


def _kind(element: Any) -> str:
    """Returns the op of a node in brackets; nothing for other elements."""
    op = getattr(element, "op", "")
    return f" ({shown(op)})" if op else ""


def _scalar_list_differences(found: list[Any], wanted: list[Any], place: str) -> Iterator[str]:
    if repr(found) == repr(wanted):
        return
    different = [number for number, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]]
    texts = any(isinstance(element, (str, bytes)) for element in (*found, *wanted))
    if texts and len(found) == len(wanted) and len(different) <= _MAX_SHOWN_ELEMENTS:
        yield from (f"{place} {at} is {shown(found[at])}, not {shown(wanted[at])}".strip() for at in different)
    elif not texts and max(len(found), len(wanted)) <= _MAX_SHOWN_ELEMENTS:
        yield f"{place} is {shown(found)}, not {shown(wanted)}"
    else:
        surplus, missing = Counter(found) - Counter(wanted), Counter(wanted) - Counter(found)
        yield from (f"{place}: {shown(element)} is missing" for element in missing)
        yield from (f"{place}: {shown(element)} should not be there" for element in surplus)
        if not surplus and not missing:
            yield f"{place}: the elements are in another order"


def _inside(place: str, name: str) -> str:
    return ": ".join(filter(None, (place, name and shown(name))))


def shown(value: object) -> str:
    """Returns a value in words, shortened if it is long."""
    match value:
        case "":
            return "empty"
        case str():
            text = printable(value)
        case float() if float(np.float32(value)) == value:  # It has fewer digits as what it is.
            text = str(np.float32(value))
        case list():
            text = f"[{', '.join(map(shown, value))}]"
        case _:
            text = printable(repr(value))
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}…"
