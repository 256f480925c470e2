"""The part of TensorFlow's protocol buffers that modules and checkpoints are made of, without TensorFlow.

`import tensorflow` takes longer than all else in a build, and its messages are all that writing needs of it. Those
here have the names and field numbers of TensorFlow's and tensorflow_hub's own; tests compare the two. They live
in a pool of their own, and meet TensorFlow's in bytes only.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

__all__ = [
    "AttrValue",
    "BundleEntryProto",
    "BundleHeaderProto",
    "DT_FLOAT",
    "DT_INT32",
    "GraphDef",
    "ImageModuleInfo",
    "ListValue",
    "Message",
    "MetaGraphDef",
    "ModuleAttachment",
    "NodeDef",
    "SavedModel",
    "SignatureDef",
    "TensorInfo",
    "TensorProto",
    "TensorShapeProto",
    "VariableDef",
]

_PACKAGE = "hubexport"
_Field = descriptor_pb2.FieldDescriptorProto

_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "fixed32": _Field.TYPE_FIXED32,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}

# Message: {field: (number, type)}. A type in a list is repeated, one in braces is the value of a map from strings.
# Enums are int32, which has the same bytes.
_MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    # tensorflow/core/framework
    "AttrValue": {
        "list": (1, "ListValue"),
        "s": (2, "bytes"),
        "i": (3, "int64"),
        "f": (4, "float"),
        "b": (5, "bool"),
        "type": (6, "int32"),
        "shape": (7, "TensorShapeProto"),
        "tensor": (8, "TensorProto"),
    },
    "ListValue": {"i": (3, ["int64"])},
    "TensorShapeProto": {"dim": (2, ["Dim"])},
    "Dim": {"size": (1, "int64")},
    "TensorProto": {"dtype": (1, "int32"), "tensor_shape": (2, "TensorShapeProto"), "float_val": (5, ["float"])},
    "NodeDef": {"name": (1, "string"), "op": (2, "string"), "input": (3, ["string"]), "attr": (5, {"AttrValue"})},
    "VersionDef": {"producer": (1, "int32")},
    "GraphDef": {"node": (1, ["NodeDef"]), "versions": (4, "VersionDef")},
    "VariableDef": {
        "variable_name": (1, "string"),
        "initializer_name": (2, "string"),
        "is_resource": (5, "bool"),
        "trainable": (7, "bool"),
    },
    # tensorflow/core/protobuf
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaInfoDef"),
        "graph_def": (2, "GraphDef"),
        "collection_def": (4, {"CollectionDef"}),
        "signature_def": (5, {"SignatureDef"}),
    },
    "MetaInfoDef": {"tags": (4, ["string"])},
    "CollectionDef": {"node_list": (1, "NodeList"), "bytes_list": (2, "BytesList")},
    "NodeList": {"value": (1, ["string"])},
    "BytesList": {"value": (1, ["bytes"])},
    "SignatureDef": {"inputs": (1, {"TensorInfo"}), "outputs": (2, {"TensorInfo"})},
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, "TensorShapeProto")},
    "SavedModel": {"saved_model_schema_version": (1, "int64"), "meta_graphs": (2, ["MetaGraphDef"])},
    "BundleHeaderProto": {"num_shards": (1, "int32"), "endianness": (2, "int32"), "version": (3, "VersionDef")},
    "BundleEntryProto": {
        "dtype": (1, "int32"),
        "shape": (2, "TensorShapeProto"),
        "shard_id": (3, "int32"),
        "offset": (4, "int64"),
        "size": (5, "int64"),
        "crc32c": (6, "fixed32"),
        "slices": (7, ["TensorSliceProto"]),
    },
    "TensorSliceProto": {},
    # tensorflow_hub
    "ModuleAttachment": {"key": (1, "string"), "value": (2, "bytes")},
    "ImageModuleInfo": {"default_image_size": (1, "InputSize")},
    "InputSize": {"height": (1, "int32"), "width": (2, "int32")},
}

# All fields of these are one oneof: which of them is set is known, even to its default.
_ONEOFS = ("AttrValue", "CollectionDef")


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="hubexport.proto", package=_PACKAGE, syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        if message_name in _ONEOFS:
            message.oneof_decl.add(name="kind")
        for name, (number, kind) in fields.items():
            field = message.field.add(name=name, number=number)
            _set_type(message, field, kind)
            if message_name in _ONEOFS:
                field.oneof_index = 0
    return file


def _set_type(message: descriptor_pb2.DescriptorProto, field: Any, kind: str | list[str] | set[str]) -> None:
    if isinstance(kind, str):
        name, field.label = kind, _Field.LABEL_OPTIONAL
    else:
        [name], field.label = kind, _Field.LABEL_REPEATED
    if isinstance(kind, set):
        name = _add_map_entry(message, field.name, name)
    if name in _SCALARS:
        field.type = _SCALARS[name]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{name}"


def _add_map_entry(message: descriptor_pb2.DescriptorProto, field_name: str, value: str) -> str:
    # The name that protoc gives, and that the runtime checks.
    entry_name = f"{field_name.title().replace('_', '')}Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    optional = _Field.LABEL_OPTIONAL
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=optional)
    entry.field.add(name="value", number=2, type=_Field.TYPE_MESSAGE, label=optional, type_name=f".{_PACKAGE}.{value}")
    return f"{message.name}.{entry_name}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


AttrValue = _message("AttrValue")
BundleEntryProto = _message("BundleEntryProto")
BundleHeaderProto = _message("BundleHeaderProto")
GraphDef = _message("GraphDef")
ImageModuleInfo = _message("ImageModuleInfo")
ListValue = _message("ListValue")
MetaGraphDef = _message("MetaGraphDef")
ModuleAttachment = _message("ModuleAttachment")
NodeDef = _message("NodeDef")
SavedModel = _message("SavedModel")
SignatureDef = _message("SignatureDef")
TensorInfo = _message("TensorInfo")
TensorProto = _message("TensorProto")
TensorShapeProto = _message("TensorShapeProto")
VariableDef = _message("VariableDef")

# tensorflow/core/framework/types.proto
DT_FLOAT = 1
DT_INT32 = 3
