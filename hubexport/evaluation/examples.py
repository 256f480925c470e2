"""Parses the `tf.train.Example` messages of ImageNet's TFRecords without TensorFlow.

The messages have the names and field numbers of tensorflow/core/example/{example,feature}.proto, but only the fields
that images need; tests compare the bytes. Their own descriptor pool keeps them apart from TensorFlow's messages.
"""

import dataclasses
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from hubexport.errors import printable
from hubexport.evaluation.tfrecords import RecordError

# A FileDescriptorProto, which protoc would make from the .proto file.
_MESSAGES = """
name: "hubexport/example.proto"
package: "hubexport.example"
syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature"
  oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type_name: "BytesList" oneof_index: 0 }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type_name: "Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  nested_type {
    name: "FeatureEntry"
    options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type_name: "Feature" }
  }
  field { name: "feature" number: 1 label: LABEL_REPEATED type_name: "FeatureEntry" }
}
message_type { name: "Example" field { name: "features" number: 1 label: LABEL_OPTIONAL type_name: "Features" } }
"""
_pool = descriptor_pool.DescriptorPool()
_pool.Add(text_format.Parse(_MESSAGES, descriptor_pb2.FileDescriptorProto()))
_Example: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("hubexport.example.Example"))

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
