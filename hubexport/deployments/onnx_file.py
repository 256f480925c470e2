"""Reads what an ONNX file says of itself, without ONNX's packages and without its values in memory.

The messages are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. All numbers of fields are from there.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
from typing import TypeAlias

from hubexport.errors import printable
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import Bytes, fields, read_varints

# Of a whole file. The largest networks take a tenth; their names and metadata, a hundredth.
_MAX_FIELDS = 2_000_000
_MAX_TEXT_BYTES = 64 << 20
# Graphs are within nodes that choose between them or repeat them.
_MAX_DEPTH = 20
_MAX_DIMENSIONS = 32
_MAX_LENGTH = 1 << 48

# The names of NumPy and ml_dtypes, by TensorProto.DataType.
DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
}
_EXTERNAL = 1
_OWN_DOMAIN = "ai.onnx"

# Fields of ModelProto, in the order in which they are written.
_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _DOMAIN, _MODEL_VERSION, _DOC = 1, 2, 3, 4, 5, 6
_GRAPH, _OPSETS, _METADATA = 7, 8, 14
_BYTES_BEFORE_GRAPH = {_PRODUCER, _PRODUCER_VERSION, _DOMAIN, _DOC, _OPSETS, _METADATA}
_MAX_PRODUCER_BYTES = 100

_Content: TypeAlias = int | range | bytes


@dataclasses.dataclass(frozen=True)
class OnnxValue:
    """An input or an output: its name, dtype and lengths, None for an open one. `shape` is None if it is no tensor."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class OnnxTensor:
    """A constant.

    Attributes:
        name: its name.
        dtype: of its numbers.
        shape: its lengths.
        raw: the place of its numbers in the file, as bytes; None if they are elsewhere, or in fields of their own.
        external: where its numbers are, if they are in another file: `location`, `offset` and `length`; None if not.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    raw: range | None
    external: Mapping[str, str] | None

    @property
    def size(self) -> int:
        """How many numbers the shape has."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class OnnxNode:
    """A node: its op, with the domain if that is not ONNX's; the names of tensors; and what is in its attributes."""

    op: str
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    tensors: "Sequence[OnnxTensor]"
    graphs: "Sequence[OnnxGraph]"


@dataclasses.dataclass(frozen=True)
class OnnxGraph:
    """A graph: its nodes in order, its constants, its inputs and outputs."""

    nodes: Sequence[OnnxNode]
    tensors: Sequence[OnnxTensor]
    inputs: Sequence[OnnxValue]
    outputs: Sequence[OnnxValue]


@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """A model.

    Attributes:
        producer: the program that wrote it, and its version; empty if it does not say.
        opsets: the version of each set of ops, by domain; ONNX's own has the empty one.
        metadata: what else it says of itself.
        graph: what it computes.
    """

    producer: str
    opsets: Mapping[str, int]
    metadata: Mapping[str, str]
    graph: OnnxGraph


def read_onnx(data: Bytes) -> OnnxFile:
    """Reads a model.

    Args:
        data: the bytes of the file.
    Raises:
        DamageError: it is damaged, or has too many parts.
        OSError: it cannot be read.
    """
    return _Reader(data).model()


def looks_like_onnx(data: Bytes) -> bool:
    """Tells whether a model begins: with the version of the format, and what else may come before its graph.

    A file that is cut off within the graph is known by the name of its producer.

    Raises:
        OSError: it cannot be read.
    """
    if data[:1] != bytes([_IR_VERSION << 3]):
        return False
    producer: _Content | None = None
    try:
        for number, content in fields(data, range(len(data))):
            if number == _GRAPH:
                return isinstance(content, range) and len(content) > 0
            if isinstance(content, range) != (number in _BYTES_BEFORE_GRAPH):
                return False
            producer = content if number == _PRODUCER else producer
    except DamageError:
        if isinstance(producer, range) and len(producer) <= _MAX_PRODUCER_BYTES:
            name = data[producer.start : producer.stop]
            return name.isascii() and name.decode().isprintable()
    return False


class _Reader:
    """Reads the messages of a file.

    Args:
        data: the bytes of the file.
    """

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._fields_left = _MAX_FIELDS
        self._text_left = _MAX_TEXT_BYTES

    def model(self) -> OnnxFile:
        message = self._message(range(len(self._data)))
        graphs = self._messages(message, _GRAPH)
        if len(graphs) != 1:
            raise DamageError(f"it has {len(graphs)} graphs, not one")
        opsets = [self._message(one) for one in self._messages(message, _OPSETS)]
        metadata = [self._message(one) for one in self._messages(message, _METADATA)]
        producer = (self._text(message, _PRODUCER), self._text(message, _PRODUCER_VERSION))
        return OnnxFile(
            " ".join(filter(None, producer)),
            {_domain(self._text(one, 1)): self._integer(one, 2) for one in opsets},
            {self._text(one, 1): self._text(one, 2) for one in metadata},
            self._graph(graphs[0], _MAX_DEPTH),
        )

    def _graph(self, place: range, depth: int) -> OnnxGraph:
        if not depth:
            raise DamageError("its graphs are nested too deep")
        message = self._message(place)
        return OnnxGraph(
            [self._node(one, depth) for one in self._messages(message, 1)],
            [self._tensor(one) for one in self._messages(message, 5)],
            [self._value(one) for one in self._messages(message, 11)],
            [self._value(one) for one in self._messages(message, 12)],
        )

    def _node(self, place: range, depth: int) -> OnnxNode:
        message = self._message(place)
        attributes = [self._message(one) for one in self._messages(message, 5)]
        domain, op = _domain(self._text(message, 7)), self._text(message, 4)
        return OnnxNode(
            f"{domain}.{op}" if domain else op,
            self._text(message, 3),
            self._texts(message, 1),
            self._texts(message, 2),
            [self._tensor(one) for attribute in attributes for one in self._messages(attribute, 5, 10)],
            [self._graph(one, depth - 1) for attribute in attributes for one in self._messages(attribute, 6, 11)],
        )

    def _tensor(self, place: range) -> OnnxTensor:
        message = self._message(place)
        name, raw = self._text(message, 8), self._messages(message, 9)
        shape = tuple(self._integers(message, 1))
        if len(shape) > _MAX_DIMENSIONS or any(not 0 <= length < _MAX_LENGTH for length in shape):
            raise DamageError(f"the constant {printable(name)} has an impossible shape")
        external = None
        if self._integer(message, 14) == _EXTERNAL:
            parts = [self._message(one) for one in self._messages(message, 13)]
            external = {self._text(one, 1): self._text(one, 2) for one in parts}
        return OnnxTensor(name, _dtype(self._integer(message, 2)), shape, raw[-1] if raw else None, external)

    def _value(self, place: range) -> OnnxValue:
        message = self._message(place)
        name = self._text(message, 1)
        for type_ in self._messages(message, 2):
            for tensor in self._messages(self._message(type_), 1):
                described = self._message(tensor)
                shapes = self._messages(described, 2)
                shape = self._shape(self._message(shapes[-1])) if shapes else None
                return OnnxValue(name, _dtype(self._integer(described, 1)), shape)
        return OnnxValue(name, "not a tensor", None)

    def _shape(self, message: "_Message") -> tuple[int | None, ...]:
        lengths = [self._message(one).get(1) for one in self._messages(message, 1)[: _MAX_DIMENSIONS + 1]]
        return tuple(one[-1] if one and isinstance(one[-1], int) else None for one in lengths)

    def _message(self, place: range) -> "_Message":
        """Reads the fields of a message."""
        message: _Message = defaultdict(list)
        for number, content in fields(self._data, place, self._fields_left):
            self._fields_left -= 1
            message[number].append(content)
        return message

    def _messages(self, message: "_Message", *numbers: int) -> list[range]:
        """Returns the places of a field's messages or bytes."""
        return [one for number in numbers for one in message.get(number, ()) if isinstance(one, range)]

    def _texts(self, message: "_Message", number: int) -> list[str]:
        texts = []
        for place in self._messages(message, number):
            self._text_left -= len(place)
            if self._text_left < 0:
                raise DamageError(f"its names and other texts have more than {_MAX_TEXT_BYTES >> 20} MiB")
            texts.append(self._data[place.start : place.stop].decode("utf-8", "replace"))
        return texts

    def _text(self, message: "_Message", number: int) -> str:
        return "".join(self._texts(message, number)[-1:])

    def _integer(self, message: "_Message", number: int) -> int:
        return next((one for one in reversed(message.get(number, ())) if isinstance(one, int)), 0)

    def _integers(self, message: "_Message", number: int) -> Iterator[int]:
        """Yields the numbers of a field, which may be packed."""
        for content in message.get(number, ()):
            if isinstance(content, int):
                yield content
            elif isinstance(content, range):
                if len(content) > 10 * _MAX_DIMENSIONS:
                    raise DamageError("a constant has too many dimensions")
                for numbers in read_varints([self._data[content.start : content.stop]]):
                    yield from numbers.tolist()


_Message: TypeAlias = dict[int, list[_Content]]


def _dtype(code: int) -> str:
    return DTYPES.get(code, f"dtype {code}")


def _domain(text: str) -> str:
    return "" if text == _OWN_DOMAIN else text
