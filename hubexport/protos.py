"""The part of TensorFlow's protocol buffers that modules and checkpoints are made of, without TensorFlow.

Writing a module needs nothing of TensorFlow but its messages, and `import tensorflow` takes longer than the rest of a
build. The messages here have the field names and numbers of TensorFlow's and tensorflow_hub's own; tests compare them.
They have a package name and a descriptor pool of their own: in protobuf's default pool they would clash with
TensorFlow's. The two kinds of messages exchange nothing but bytes.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

# The base class of all messages, for type hints: the classes themselves are made below, at import.
Message = message.Message

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

# The fields of each message: {name: (number, type)}, with types as in a .proto file. TensorFlow's enums are int32 here,
# which has the same bytes. The name of a nested message is its parent's name and its own, joined by `_`.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
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
    "AttrValue_ListValue": {
        "i": (3, "repeated int64"),
        "type": (6, "repeated int32"),
        "shape": (7, "repeated TensorShapeProto"),
    },
    "NameAttrList": {"name": (1, "string")},
    "TensorShapeProto": {"dim": (2, "repeated TensorShapeProto_Dim"), "unknown_rank": (3, "bool")},
    "TensorShapeProto_Dim": {"size": (1, "int64")},
    "TensorProto": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShapeProto"),
        "float_val": (5, "repeated float"),
        "int_val": (7, "repeated int32"),
        "string_val": (8, "repeated bytes"),
    },
    "NodeDef": {
        "name": (1, "string"),
        "op": (2, "string"),
        "input": (3, "repeated string"),
        "device": (4, "string"),
        "attr": (5, "map<string, AttrValue>"),
    },
    "VersionDef": {"producer": (1, "int32"), "min_consumer": (2, "int32"), "bad_consumers": (3, "repeated int32")},
    "GraphDef": {"node": (1, "repeated NodeDef"), "library": (2, "FunctionDefLibrary"), "versions": (4, "VersionDef")},
    "FunctionDefLibrary": {"function": (1, "repeated FunctionDef")},
    "FunctionDef": {
        "signature": (1, "OpDef"),
        "node_def": (3, "repeated NodeDef"),
        "ret": (4, "map<string, string>"),
        "attr": (5, "map<string, AttrValue>"),
        "control_ret": (6, "map<string, string>"),
    },
    "OpDef": {
        "name": (1, "string"),
        "input_arg": (2, "repeated OpDef_ArgDef"),
        "output_arg": (3, "repeated OpDef_ArgDef"),
        "attr": (4, "repeated OpDef_AttrDef"),
        "is_stateful": (17, "bool"),
        "control_output": (20, "repeated string"),
    },
    "OpDef_ArgDef": {"name": (1, "string"), "type": (3, "int32")},
    "OpDef_AttrDef": {"name": (1, "string"), "default_value": (3, "AttrValue")},
    "OpList": {"op": (1, "repeated OpDef")},
    "VariableDef": {
        "variable_name": (1, "string"),
        "initializer_name": (2, "string"),
        "save_slice_info_def": (4, "SaveSliceInfoDef"),
        "is_resource": (5, "bool"),
        "trainable": (7, "bool"),
    },
    "SaveSliceInfoDef": {"full_name": (1, "string")},
    # tensorflow/core/protobuf: SavedModels
    "SavedModel": {"saved_model_schema_version": (1, "int64"), "meta_graphs": (2, "repeated MetaGraphDef")},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaGraphDef_MetaInfoDef"),
        "graph_def": (2, "GraphDef"),
        "saver_def": (3, "SaverDef"),
        "collection_def": (4, "map<string, CollectionDef>"),
        "signature_def": (5, "map<string, SignatureDef>"),
        "object_graph_def": (7, "SavedObjectGraph"),
    },
    "MetaGraphDef_MetaInfoDef": {
        "stripped_op_list": (2, "OpList"),
        "tags": (4, "repeated string"),
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
    "CollectionDef_NodeList": {"value": (1, "repeated string")},
    "CollectionDef_BytesList": {"value": (1, "repeated bytes")},
    "SignatureDef": {
        "inputs": (1, "map<string, TensorInfo>"),
        "outputs": (2, "map<string, TensorInfo>"),
        "method_name": (3, "string"),
    },
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, "TensorShapeProto")},
    # tensorflow/core/protobuf: the objects of a TF2 SavedModel
    "SavedObjectGraph": {
        "nodes": (1, "repeated SavedObject"),
        "concrete_functions": (2, "map<string, SavedConcreteFunction>"),
    },
    "SavedObject": {
        "children": (1, "repeated TrackableObjectGraph_TrackableObject_ObjectReference"),
        "user_object": (4, "SavedUserObject"),
        "function": (6, "SavedFunction"),
        "variable": (7, "SavedVariable"),
        "bare_concrete_function": (8, "SavedBareConcreteFunction"),
    },
    "SavedUserObject": {"identifier": (1, "string"), "version": (2, "VersionDef")},
    "SavedFunction": {"concrete_functions": (1, "repeated string"), "function_spec": (2, "FunctionSpec")},
    "SavedConcreteFunction": {
        "bound_inputs": (2, "repeated int32"),
        "canonicalized_input_signature": (3, "StructuredValue"),
        "output_signature": (4, "StructuredValue"),
    },
    "SavedBareConcreteFunction": {
        "concrete_function_name": (1, "string"),
        "argument_keywords": (2, "repeated string"),
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
    "ListValue": {"values": (1, "repeated StructuredValue")},
    "TupleValue": {"values": (1, "repeated StructuredValue")},
    "DictValue": {"fields": (1, "map<string, StructuredValue>")},
    "NamedTupleValue": {"name": (1, "string"), "values": (2, "repeated PairValue")},
    "PairValue": {"key": (1, "string"), "value": (2, "StructuredValue")},
    "TensorSpecProto": {"name": (1, "string"), "shape": (2, "TensorShapeProto"), "dtype": (3, "int32")},
    "TrackableObjectGraph": {"nodes": (1, "repeated TrackableObjectGraph_TrackableObject")},
    "TrackableObjectGraph_TrackableObject": {
        "children": (1, "repeated TrackableObjectGraph_TrackableObject_ObjectReference"),
        "attributes": (2, "repeated TrackableObjectGraph_TrackableObject_SerializedTensor"),
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
        "slices": (7, "repeated TensorSliceProto"),
    },
    "TensorSliceProto": {"extent": (1, "repeated TensorSliceProto_Extent")},
    "TensorSliceProto_Extent": {"start": (1, "int64"), "length": (2, "int64")},
    # tensorflow/python/training: the state file of a training
    "CheckpointState": {"model_checkpoint_path": (1, "string")},
    # tensorflow/core/util: V1 checkpoints
    "SavedTensorSlices": {"meta": (1, "SavedTensorSliceMeta")},
    "SavedTensorSliceMeta": {"tensor": (1, "repeated SavedSliceMeta")},
    "SavedSliceMeta": {
        "name": (1, "string"),
        "shape": (2, "TensorShapeProto"),
        "type": (3, "int32"),
        "slice": (4, "repeated TensorSliceProto"),
    },
    # tensorflow_hub
    "ModuleAttachment": {"key": (1, "string"), "value": (2, "bytes")},
    "ImageModuleInfo": {"default_image_size": (1, "ImageModuleInfo_InputSize")},
    "ImageModuleInfo_InputSize": {"height": (1, "int32"), "width": (2, "int32")},
}

# The fields that form the oneof of their message. Protobuf tells which of them is set, even if it is at its default.
_ONEOFS = {
    "AttrValue": tuple(_MESSAGES["AttrValue"]),
    "CollectionDef": tuple(_MESSAGES["CollectionDef"]),
    "StructuredValue": tuple(_MESSAGES["StructuredValue"]),
    "TensorSliceProto_Extent": ("length",),
}

_REPEATED = "repeated "
_MAP = "map<string, "


def _file() -> descriptor_pb2.FileDescriptorProto:
    """Returns the tables above as protobuf describes a .proto file."""
    file = descriptor_pb2.FileDescriptorProto(name="hubexport.proto", package=_PACKAGE, syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        oneof = _ONEOFS.get(message_name, ())
        if oneof:
            message.oneof_decl.add(name="kind")
        for name, (number, type_) in fields.items():
            field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
            if type_.startswith((_REPEATED, _MAP)):
                field.label = _Field.LABEL_REPEATED
            if type_.startswith(_MAP):
                _add_map_type(message, field, type_.removeprefix(_MAP).removesuffix(">"))
            else:
                _set_type(field, type_.removeprefix(_REPEATED))
            if name in oneof:
                field.oneof_index = 0
    return file


def _set_type(field: Any, name: str) -> None:
    if name in _SCALARS:
        field.type = _SCALARS[name]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{name}"


def _add_map_type(message: descriptor_pb2.DescriptorProto, field: Any, value_type: str) -> None:
    """Makes a repeated field a map, which to protobuf is a list of entries: messages with a key and a value."""
    # The name that protoc gives, and that the runtime checks.
    entry_name = f"{field.name.title().replace('_', '')}Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    _set_type(entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL), "string")
    _set_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), value_type)
    _set_type(field, f"{message.name}.{entry_name}")


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


AttrValue = _message("AttrValue")
AttrValue_ListValue = _message("AttrValue_ListValue")
BundleEntryProto = _message("BundleEntryProto")
BundleHeaderProto = _message("BundleHeaderProto")
CheckpointState = _message("CheckpointState")
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
