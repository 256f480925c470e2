"""Our messages have the fields of TensorFlow's and tensorflow_hub's own."""

import pytest
from tensorflow.core.framework import attr_value_pb2, graph_pb2, variable_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2, tensor_bundle_pb2, trackable_object_graph_pb2
from tensorflow.core.util import saved_tensor_slice_pb2
from tensorflow.python.training import checkpoint_state_pb2

from hubexport import protos

_FILES = [
    attr_value_pb2,
    graph_pb2,
    variable_pb2,
    meta_graph_pb2,
    saved_model_pb2,
    tensor_bundle_pb2,
    trackable_object_graph_pb2,
    saved_tensor_slice_pb2,
    checkpoint_state_pb2,
]
_HUB_FILES = ["image_module_info_pb2", "module_attachment_pb2"]
_OF_TENSORFLOW_HUB = ("ModuleAttachment", "ImageModuleInfo", "ImageModuleInfo_InputSize")


def _real_messages(name: str):
    """Yields all messages of this name, nested ones included, that TensorFlow or tensorflow_hub defines."""
    files = _FILES
    if name in _OF_TENSORFLOW_HUB:
        files = [pytest.importorskip(f"tensorflow_hub.{file}") for file in _HUB_FILES]
    descriptors = [descriptor for file in files for descriptor in _with_dependencies(file.DESCRIPTOR)]
    while descriptors:
        descriptor = descriptors.pop()
        descriptors += descriptor.nested_types
        if _joined_name(descriptor) == name:
            yield descriptor


def _joined_name(descriptor) -> str:
    """Returns a message's name as in our table: the names of its parents and its own."""
    return descriptor.full_name.removeprefix(f"{descriptor.file.package}.").replace(".", "_")


def _with_dependencies(file):
    for dependency in file.dependencies:
        yield from _with_dependencies(dependency)
    yield from file.message_types_by_name.values()


def _wire(field) -> tuple:
    """Returns all that decides how a field is written; enums are written like int32."""
    kind = field.TYPE_INT32 if field.type == field.TYPE_ENUM else field.type
    message = _joined_name(field.message_type) if field.type == field.TYPE_MESSAGE else None
    # protobuf 6 and later have no label.
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
    return field.number, kind, message, repeated


@pytest.mark.parametrize("name", list(protos._MESSAGES))
def test_every_message_is_a_part_of_the_real_one(name):
    """Each field has the same number and type, and is repeated or in a oneof like the real one."""
    ours = protos._pool.FindMessageTypeByName(f"hubexport.{name}")
    [real, *_] = _real_messages(name)
    for field in ours.fields:
        twin = real.fields_by_name[field.name]
        assert _wire(field) == _wire(twin), field.full_name
        # In the others, a field at its default is the same as none.
        if field.containing_oneof:
            assert twin.containing_oneof, field.full_name
        if field.message_type and field.message_type.GetOptions().map_entry:
            assert [_wire(part) for part in field.message_type.fields] == [
                _wire(part) for part in twin.message_type.fields
            ]


def test_repeated_numbers_are_packed_as_in_the_real_ones():
    """Not every version of protobuf tells this in a descriptor."""
    ours = protos.AttrValue(list={"i": [1, 300, -1]}).SerializeToString()
    assert ours == attr_value_pb2.AttrValue(list={"i": [1, 300, -1]}).SerializeToString()
    ours = protos.AttrValue(tensor={"float_val": [1.5, -2]}).SerializeToString()
    assert ours == attr_value_pb2.AttrValue(tensor={"float_val": [1.5, -2]}).SerializeToString()
