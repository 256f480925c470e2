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
    "AttrValue_ListValue",
    "BundleEntryProto",
    "BundleHeaderProto",
    "DT_FLOAT",
    "DT_INT32",
    "DT_RESOURCE",
    "DT_STRING",
    "FunctionDef",
    "FunctionSpec",
    "GraphDef",
    "ImageModuleInfo",
    "Message",
    "MetaGraphDef",
    "ModuleAttachment",
    "NodeDef",
    "SAVED_MODEL_SCHEMA_VERSION",
    "SavedFunction",
    "SavedModel",
    "SavedObject",
    "SavedObjectGraph",
    "SavedTensorSlices",
    "SignatureDef",
    "StructuredValue",
    "TensorInfo",
    "TensorProto",
    "TensorShapeProto",
    "TrackableObjectGraph",
    "VariableDef",
]

_PACKAGE = "hubexport"
_Field = descriptor_pb2.FieldDescriptorProto

_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "fixed32": _Field.TYPE_FIXED32,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "sint64": _Field.TYPE_SINT64,
    "string": _Field.TYPE_STRING,
}

# Message: {field: (number, type)}. A type in a list is repeated, one in braces is the value of a map from strings.
# Enums are int32, which has the same bytes. A message inside another has both names, joined by `_`.
_MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    # tensorflow/core/framework
    "AttrValue": {
        "list": (1, "AttrValue_ListValue"),
        "s": (2, "bytes"),
        "i": (3, "int64"),
        "f": (4, "float"),
        "b": (5, "bool"),
        "type": (6, "int32"),
        "shape": (7, "TensorShapeProto"),
        "tensor": (8, "TensorProto"),
        "func": (10, "NameAttrList"),
    },
    "AttrValue_ListValue": {"i": (3, ["int64"]), "type": (6, ["int32"]), "shape": (7, ["TensorShapeProto"])},
    "NameAttrList": {"name": (1, "string")},
    "TensorShapeProto": {"dim": (2, ["TensorShapeProto_Dim"]), "unknown_rank": (3, "bool")},
    "TensorShapeProto_Dim": {"size": (1, "int64")},
    "TensorProto": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShapeProto"),
        "float_val": (5, ["float"]),
        "int_val": (7, ["int32"]),
        "string_val": (8, ["bytes"]),
    },
    "NodeDef": {"name": (1, "string"), "op": (2, "string"), "input": (3, ["string"]), "attr": (5, {"AttrValue"})},
    "VersionDef": {"producer": (1, "int32"), "min_consumer": (2, "int32")},
    "GraphDef": {"node": (1, ["NodeDef"]), "library": (2, "FunctionDefLibrary"), "versions": (4, "VersionDef")},
    "FunctionDefLibrary": {"function": (1, ["FunctionDef"])},
    "FunctionDef": {
        "signature": (1, "OpDef"),
        "node_def": (3, ["NodeDef"]),
        "ret": (4, {"string"}),
        "attr": (5, {"AttrValue"}),
        "control_ret": (6, {"string"}),
    },
    "OpDef": {
        "name": (1, "string"),
        "input_arg": (2, ["OpDef_ArgDef"]),
        "output_arg": (3, ["OpDef_ArgDef"]),
        "attr": (4, ["OpDef_AttrDef"]),
        "is_stateful": (17, "bool"),
        "control_output": (20, ["string"]),
    },
    "OpDef_ArgDef": {"name": (1, "string"), "type": (3, "int32")},
    "OpDef_AttrDef": {"name": (1, "string"), "default_value": (3, "AttrValue")},
    "OpList": {"op": (1, ["OpDef"])},
    "VariableDef": {
        "variable_name": (1, "string"),
        "initializer_name": (2, "string"),
        "save_slice_info_def": (4, "SaveSliceInfoDef"),
        "is_resource": (5, "bool"),
        "trainable": (7, "bool"),
    },
    "SaveSliceInfoDef": {"full_name": (1, "string")},
    # tensorflow/core/protobuf: SavedModels
    "SavedModel": {"saved_model_schema_version": (1, "int64"), "meta_graphs": (2, ["MetaGraphDef"])},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaGraphDef_MetaInfoDef"),
        "graph_def": (2, "GraphDef"),
        "saver_def": (3, "SaverDef"),
        "collection_def": (4, {"CollectionDef"}),
        "signature_def": (5, {"SignatureDef"}),
        "object_graph_def": (7, "SavedObjectGraph"),
    },
    "MetaGraphDef_MetaInfoDef": {
        "stripped_op_list": (2, "OpList"),
        "tags": (4, ["string"]),
        "tensorflow_version": (5, "string"),
        "stripped_default_attrs": (7, "bool"),
    },
    "SaverDef": {
        "filename_tensor_name": (1, "string"),
        "save_tensor_name": (2, "string"),
        "restore_op_name": (3, "string"),
        "version": (7, "int32"),
    },
    "CollectionDef": {"node_list": (1, "CollectionDef_NodeList"), "bytes_list": (2, "CollectionDef_BytesList")},
    "CollectionDef_NodeList": {"value": (1, ["string"])},
    "CollectionDef_BytesList": {"value": (1, ["bytes"])},
    "SignatureDef": {
        "inputs": (1, {"TensorInfo"}),
        "outputs": (2, {"TensorInfo"}),
        "method_name": (3, "string"),
    },
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, "TensorShapeProto")},
    # tensorflow/core/protobuf: the objects of a TF2 SavedModel
    "SavedObjectGraph": {"nodes": (1, ["SavedObject"]), "concrete_functions": (2, {"SavedConcreteFunction"})},
    "SavedObject": {
        "children": (1, ["TrackableObjectGraph_TrackableObject_ObjectReference"]),
        "user_object": (4, "SavedUserObject"),
        "function": (6, "SavedFunction"),
        "variable": (7, "SavedVariable"),
        "bare_concrete_function": (8, "SavedBareConcreteFunction"),
    },
    "SavedUserObject": {"identifier": (1, "string"), "version": (2, "VersionDef")},
    "SavedFunction": {"concrete_functions": (1, ["string"]), "function_spec": (2, "FunctionSpec")},
    "SavedConcreteFunction": {
        "bound_inputs": (2, ["int32"]),
        "canonicalized_input_signature": (3, "StructuredValue"),
        "output_signature": (4, "StructuredValue"),
    },
    "SavedBareConcreteFunction": {
        "concrete_function_name": (1, "string"),
        "argument_keywords": (2, ["string"]),
        "allowed_positional_arguments": (3, "int64"),
        "function_spec": (4, "FunctionSpec"),
    },
    "SavedVariable": {
        "dtype": (1, "int32"),
        "shape": (2, "TensorShapeProto"),
        "trainable": (3, "bool"),
        "synchronization": (4, "int32"),
        "aggregation": (5, "int32"),
        "name": (6, "string"),
    },
    "FunctionSpec": {
        "fullargspec": (1, "StructuredValue"),
        "is_method": (2, "bool"),
        "input_signature": (5, "StructuredValue"),
    },
    "StructuredValue": {
        "none_value": (1, "NoneValue"),
        "float64_value": (11, "double"),
        "int64_value": (12, "sint64"),
        "string_value": (13, "string"),
        "bool_value": (14, "bool"),
        "tensor_spec_value": (33, "TensorSpecProto"),
        "list_value": (51, "ListValue"),
        "tuple_value": (52, "TupleValue"),
        "dict_value": (53, "DictValue"),
        "named_tuple_value": (54, "NamedTupleValue"),
    },
    "NoneValue": {},
    "ListValue": {"values": (1, ["StructuredValue"])},
    "TupleValue": {"values": (1, ["StructuredValue"])},
    "DictValue": {"fields": (1, {"StructuredValue"})},
    "NamedTupleValue": {"name": (1, "string"), "values": (2, ["PairValue"])},
    "PairValue": {"key": (1, "string"), "value": (2, "StructuredValue")},
    "TensorSpecProto": {"name": (1, "string"), "shape": (2, "TensorShapeProto"), "dtype": (3, "int32")},
    "TrackableObjectGraph": {"nodes": (1, ["TrackableObjectGraph_TrackableObject"])},
    "TrackableObjectGraph_TrackableObject": {
        "children": (1, ["TrackableObjectGraph_TrackableObject_ObjectReference"]),
        "attributes": (2, ["TrackableObjectGraph_TrackableObject_SerializedTensor"]),
    },
    "TrackableObjectGraph_TrackableObject_ObjectReference": {"node_id": (1, "int32"), "local_name": (2, "string")},
    "TrackableObjectGraph_TrackableObject_SerializedTensor": {
        "name": (1, "string"),
        "full_name": (2, "string"),
        "checkpoint_key": (3, "string"),
    },
    # tensorflow/core/protobuf: checkpoints
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
    "TensorSliceProto": {"extent": (1, ["TensorSliceProto_Extent"])},
    "TensorSliceProto_Extent": {"start": (1, "int64"), "length": (2, "int64")},
    # tensorflow/core/util: V1 checkpoints
    "SavedTensorSlices": {"meta": (1, "SavedTensorSliceMeta")},
    "SavedTensorSliceMeta": {"tensor": (1, ["SavedSliceMeta"])},
    "SavedSliceMeta": {
        "name": (1, "string"),
        "shape": (2, "TensorShapeProto"),
        "type": (3, "int32"),
        "slice": (4, ["TensorSliceProto"]),
    },
    # tensorflow_hub
    "ModuleAttachment": {"key": (1, "string"), "value": (2, "bytes")},
    "ImageModuleInfo": {"default_image_size": (1, "ImageModuleInfo_InputSize")},
    "ImageModuleInfo_InputSize": {"height": (1, "int32"), "width": (2, "int32")},
}

# These fields are one oneof in their message, or all of them: which of them is set is known, even to its default.
_ONEOFS: dict[str, tuple[str, ...]] = {
    "AttrValue": (),
    "CollectionDef": (),
    "StructuredValue": (),
    "TensorSliceProto_Extent": ("length",),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="hubexport.proto", package=_PACKAGE, syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        if message_name in _ONEOFS:
            message.oneof_decl.add(name="kind")
        for name, (number, kind) in fields.items():
            field = message.field.add(name=name, number=number)
            _set_type(message, field, kind)
            if message_name in _ONEOFS and name in (_ONEOFS[message_name] or fields):
                field.oneof_index = 0
    return file


def _set_type(message: descriptor_pb2.DescriptorProto, field: Any, kind: str | list[str] | set[str]) -> None:
    if isinstance(kind, str):
        name, field.label = kind, _Field.LABEL_OPTIONAL
    else:
        [name], field.label = kind, _Field.LABEL_REPEATED
    if isinstance(kind, set):
        name = _add_map_entry(message, field.name, name)
    _set_element_type(field, name)


def _set_element_type(field: Any, name: str) -> None:
    if name in _SCALARS:
        field.type = _SCALARS[name]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{name}"


def _add_map_entry(message: descriptor_pb2.DescriptorProto, field_name: str, value: str) -> str:
    # The name that protoc gives, and that the runtime checks.
    entry_name = f"{field_name.title().replace('_', '')}Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    _set_element_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), value)
    return f"{message.name}.{entry_name}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


AttrValue = _message("AttrValue")
AttrValue_ListValue = _message("AttrValue_ListValue")
BundleEntryProto = _message("BundleEntryProto")
BundleHeaderProto = _message("BundleHeaderProto")
FunctionDef = _message("FunctionDef")
FunctionSpec = _message("FunctionSpec")
GraphDef = _message("GraphDef")
ImageModuleInfo = _message("ImageModuleInfo")
MetaGraphDef = _message("MetaGraphDef")
ModuleAttachment = _message("ModuleAttachment")
NodeDef = _message("NodeDef")
SavedFunction = _message("SavedFunction")
SavedModel = _message("SavedModel")
SavedObject = _message("SavedObject")
SavedObjectGraph = _message("SavedObjectGraph")
SavedTensorSlices = _message("SavedTensorSlices")
SignatureDef = _message("SignatureDef")
StructuredValue = _message("StructuredValue")
TensorInfo = _message("TensorInfo")
TensorProto = _message("TensorProto")
TensorShapeProto = _message("TensorShapeProto")
TrackableObjectGraph = _message("TrackableObjectGraph")
VariableDef = _message("VariableDef")

# tensorflow/core/framework/types.proto
DT_FLOAT = 1
DT_INT32 = 3
DT_STRING = 7
DT_RESOURCE = 20

# tensorflow/core/protobuf/saved_model.proto
SAVED_MODEL_SCHEMA_VERSION = 1
