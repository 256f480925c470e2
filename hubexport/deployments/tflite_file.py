"""What is in a TFLite file, as plain data, whoever wrote it."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from tflite import BuiltinOperator, TensorType

from hubexport.deployments.flatbuffer_reader import Flatbuffer, FlatTable
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import Bytes

IDENTIFIER = b"TFL3"
_CUSTOM = BuiltinOperator.CUSTOM
_MOST_AXES = 16

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TfliteTensor:
    """A tensor.

    Attributes:
        name: of the tensor.
        dtype: in NumPy's words where NumPy has it.
        shape: its lengths; None for an open one.
        scales: what an integer is multiplied with, after its zero point is subtracted; one, or one for each place of an
            axis. Empty if the numbers stand for themselves.
        zero_points: as many.
        axis: the one whose places have scales of their own, if there are several.
        data: where its values begin in the file, and how many bytes they have; None unless it is a constant.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int
    data: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class TfliteOperator:
    """An operator.

    Attributes:
        kind: TFLite's name; for a custom operator, that of its author.
        inputs: indices of tensors; -1 for one that is left out.
        outputs: the same.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TfliteGraph:
    """A graph.

    Attributes:
        tensors: all that it has.
        inputs: indices of those that callers give.
        outputs: indices of those that callers get.
        operators: in the order in which they run.
    """

    tensors: Sequence[TfliteTensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: Sequence[TfliteOperator]


@dataclasses.dataclass(frozen=True)
class TfliteSignature:
    """A name for inputs and outputs of a graph.

    Attributes:
        key: of the signature, like `serving_default`.
        graph: the number of its graph.
        inputs: names by the index of the tensor.
        outputs: the same.
    """

    key: str
    graph: int
    inputs: dict[int, str]
    outputs: dict[int, str]


@dataclasses.dataclass(frozen=True)
class TfliteFile:
    """A TFLite file.

    Attributes:
        version: of the schema.
        description: what wrote it, or what its author says.
        graphs: the first is the one that interpreters run.
        signatures: of its graphs.
        metadata: where each entry begins in the file, and how many bytes it has, by its name.
    """

    version: int
    description: str | None
    graphs: Sequence[TfliteGraph]
    signatures: Sequence[TfliteSignature]
    metadata: dict[str, tuple[int, int]]


def read_tflite(data: Bytes) -> TfliteFile:
    """Reads the description of a model, but not its values.

    Raises:
        DamageError: it is damaged.
    """
    root = Flatbuffer(data, IDENTIFIER).root
    buffers = [_place(one, len(data)) for one in root.tables(4)]
    kinds = [_kind(one) for one in root.tables(1)]
    return TfliteFile(
        version=root.number(0, "uint32"),
        description=root.text(3),
        graphs=[_graph(one, kinds, buffers) for one in root.tables(2)],
        signatures=[_signature(one) for one in root.tables(7)],
        metadata={one.text(0) or "": _item(buffers, one.number(1, "uint32"), "buffer") for one in root.tables(6)},
    )


def _place(buffer: FlatTable, size: int) -> tuple[int, int]:
    """Returns where a buffer's bytes are; those of files of more than 2 GB come after the flatbuffer."""
    start, length = buffer.number(1, "uint64"), buffer.number(2, "uint64")
    if start <= 1:
        return buffer.part(0)
    if start + length > size:
        raise DamageError("it points outside of itself")
    return start, length


def _kind(code: FlatTable) -> str:
    number = max(code.number(0, "int8"), code.number(3, "int32"))
    return (code.text(1) or "CUSTOM") if number == _CUSTOM else _operators().get(number, f"operator {number}")


def _graph(graph: FlatTable, kinds: Sequence[str], buffers: Sequence[tuple[int, int]]) -> TfliteGraph:
    return TfliteGraph(
        tensors=[_tensor(one, buffers) for one in graph.tables(0)],
        inputs=_indices(graph, 1),
        outputs=_indices(graph, 2),
        operators=[
            TfliteOperator(_item(kinds, one.number(0, "uint32"), "operator code"), _indices(one, 1), _indices(one, 2))
            for one in graph.tables(3)
        ],
    )


def _tensor(tensor: FlatTable, buffers: Sequence[tuple[int, int]]) -> TfliteTensor:
    shape, signature = _indices(tensor, 0), _indices(tensor, 7)
    if len(shape) > _MOST_AXES or len(signature) not in (0, len(shape)):
        raise DamageError(f"a tensor has {len(shape)} axes, and {len(signature)} in its signature")
    number = tensor.number(1, "int8")
    quantization = tensor.table(4)
    place = _item(buffers, tensor.number(2, "uint32"), "buffer")
    return TfliteTensor(
        name=tensor.text(3) or "",
        dtype=_types().get(number, f"type {number}"),
        shape=tuple(None if length < 0 else length for length in signature or shape),
        scales=quantization.numbers(2, "float32") if quantization else np.zeros(0, np.float32),
        zero_points=quantization.numbers(3, "int64") if quantization else np.zeros(0, np.int64),
        axis=quantization.number(6, "int32") if quantization else 0,
        data=place if place[1] else None,
    )


def _signature(signature: FlatTable) -> TfliteSignature:
    inputs, outputs = (
        {one.number(1, "uint32"): one.text(0) or "" for one in signature.tables(slot)} for slot in (0, 1)
    )
    return TfliteSignature(signature.text(2) or "", signature.number(4, "uint32"), inputs, outputs)


def _indices(table: FlatTable, slot: int) -> tuple[int, ...]:
    return tuple(int(one) for one in table.numbers(slot, "int32").tolist())


def _item(items: Sequence[T], index: int, what: str) -> T:
    if index >= len(items):
        raise DamageError(f"it has {len(items):,} {what}s, and asks for number {index:,}")
    return items[index]


@functools.cache
def _operators() -> dict[int, str]:
    return {number: name for name, number in vars(BuiltinOperator).items() if isinstance(number, int)}


@functools.cache
def _types() -> dict[int, str]:
    return {number: name.lower() for name, number in vars(TensorType).items() if isinstance(number, int)}
