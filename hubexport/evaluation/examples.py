"""Parses the `tf.train.Example` messages of ImageNet's TFRecords without TensorFlow.

The messages have the names and field numbers of tensorflow/core/example/{example,feature}.proto, but only the fields
that images need; tests compare the bytes. Their own descriptor pool keeps them apart from TensorFlow's messages.
"""

import dataclasses
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from hubexport.errors import printable
from hubexport.evaluation.tfrecords import RecordError

_PACKAGE = "hubexport.example"
_IMAGE, _LABEL, _NAME = "image/encoded", "image/class/label", "image/filename"


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """The content of a record.

    Attributes:
        encoded: the content of an image file.
        label: the number of the image's class.
        name: the image's file name; empty if the record has none.
    """

    encoded: bytes
    label: int
    name: str


def parse_example(record: bytes) -> LabelledImage:
    """Parses a record with the features of TF-Slim's ImageNet.

    Raises:
        RecordError: the record is not a `tf.train.Example`, or lacks the image or its label.
    """
    try:
        features = _Example.FromString(record).features.feature
    except DecodeError:
        raise RecordError("a record is not a tf.train.Example") from None
    encoded = list(features[_IMAGE].bytes_list.value) if _IMAGE in features else []
    labels = list(features[_LABEL].int64_list.value) if _LABEL in features else []
    if len(encoded) != 1 or len(labels) != 1:
        found = ", ".join(map(printable, sorted(features))) or "nothing"
        raise RecordError(f"a record needs bytes {_IMAGE!r} and one int64 {_LABEL!r}; it has {found}")
    names = list(features[_NAME].bytes_list.value) if _NAME in features else []
    return LabelledImage(encoded[0], labels[0], b" ".join(names).decode("utf-8", "backslashreplace"))


def _example_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="hubexport/example.proto", package=_PACKAGE, syntax="proto3")
    for name, element in (("BytesList", field.TYPE_BYTES), ("Int64List", field.TYPE_INT64)):
        values = file.message_type.add(name=name)
        values.field.add(name="value", number=1, type=element, label=field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for name, number, message in (("bytes_list", 1, "BytesList"), ("int64_list", 3, "Int64List")):
        _add_message(feature, name, number, message).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, "Feature")
    _add_message(features, "feature", 1, "Features.FeatureEntry").label = field.LABEL_REPEATED
    _add_message(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def _add_message(parent: descriptor_pb2.DescriptorProto, name: str, number: int, message: str) -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    return parent.field.add(
        name=name,
        number=number,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=f".{_PACKAGE}.{message}",
    )


_Example = _example_class()
