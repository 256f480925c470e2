"""Describes ONNX files, whoever wrote them, without ONNX's packages."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hubexport.arrays import CHUNK_BYTES
from hubexport.deployments.onnx_file import OnnxFile, OnnxGraph, OnnxTensor, OnnxValue, looks_like_onnx, read_onnx
from hubexport.deployments.report import DeployedTensor, DeploymentReport
from hubexport.errors import ModuleError
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import PartOfFile
from hubexport.system.regular_files import open_regular_file

# In bits; other dtypes have no fixed one.
_BITS = {
    **{"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "bool": 8, "complex64": 64, "complex128": 128},
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
    **{name: 8 for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")},
    "float4_e2m1fn": 4,
}
# Those that may hold what is no number, and that NumPy has.
_FLOATS = ("float16", "float32", "float64")
_MOST_NAMED = 3


def is_onnx(path: Path) -> bool:
    """Tells whether a path is an ONNX file, by its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return looks_like_onnx(_whole(file))


def onnx_report(path: Path) -> DeploymentReport:
    """Describes an ONNX file. It reads all numbers, but has few of them in memory.

    Raises:
        ModuleError: it is damaged, or cannot be read.
    """
    try:
        with open_regular_file(path) as file:
            data = _whole(file)
            model = read_onnx(data)
            weights: Counter[str] = Counter()
            outside: dict[Path, int] = {}
            problems = [*_problems_of_model(model)]
            for tensor in _tensors(model.graph):
                weights[tensor.dtype] += tensor.size
                problems.extend(_problems_of_tensor(tensor, data, path.parent, outside))
            size = len(data) + sum(outside.values())
    except DamageError as error:
        raise ModuleError(
            f"cannot read ONNX model {path}", why=f"it is damaged: {error}", fix="convert, export or fetch it again"
        ) from error
    except OSError as error:
        raise ModuleError(
            f"cannot read ONNX model {path}", why=error.strerror or str(error), fix="use a file that you may read"
        ) from error
    return DeploymentReport(
        format="onnx",
        version=", ".join(f"{domain or 'opset'} {version}" for domain, version in sorted(model.opsets.items())),
        written_by=model.producer or None,
        size=size,
        inputs=[_deployed(one) for one in _given(model.graph)],
        outputs=[_deployed(one) for one in model.graph.outputs],
        ops=dict(_ops(model.graph).most_common()),
        weights=dict(weights.most_common()),
        metadata={key: _as_json(text) for key, text in model.metadata.items()},
        problems=problems,
    )


def _whole(file: BinaryIO) -> PartOfFile:
    return PartOfFile(file, 0, os.fstat(file.fileno()).st_size)


def _given(graph: OnnxGraph) -> list[OnnxValue]:
    """Returns the inputs that a caller gives. Before IR version 4, constants are inputs, too."""
    constants = {tensor.name for tensor in graph.tensors}
    return [one for one in graph.inputs if one.name not in constants]


def _deployed(value: OnnxValue) -> DeployedTensor:
    return DeployedTensor(value.name, value.dtype, value.shape)


def _as_json(text: str) -> Any:
    """Returns the value of a text that is a list or an object in JSON; the text itself if it is neither."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


def _ops(graph: OnnxGraph) -> Counter[str]:
    ops = Counter(node.op for node in graph.nodes)
    for node in graph.nodes:
        for inner in node.graphs:
            ops.update(_ops(inner))
    return ops


def _tensors(graph: OnnxGraph) -> Iterator[OnnxTensor]:
    yield from graph.tensors
    for node in graph.nodes:
        yield from node.tensors
        for inner in node.graphs:
            yield from _tensors(inner)


def _problems_of_model(model: OnnxFile) -> Iterator[str]:
    if not model.opsets:
        yield "it does not say of which opset its ops are"
    if not model.graph.outputs:
        yield "it has no outputs"
    yield from _problems_of_graph(model.graph, ())


def _problems_of_graph(graph: OnnxGraph, outer: Sequence[Set[str]]) -> Iterator[str]:
    """Follows the graph: each tensor must be there before it is used, and be there once."""
    own = {"", *(one.name for one in graph.inputs), *(one.name for one in graph.tensors)}
    scopes = (*outer, own)
    missing: list[str] = []
    for node in graph.nodes:
        lacking = [name for name in node.inputs if not any(name in scope for scope in scopes)]
        missing += [f"{name} of {node.op} {node.name}".rstrip() for name in lacking]
        for inner in node.graphs:
            yield from _problems_of_graph(inner, scopes)
        if twice := [name for name in node.outputs if name and name in own]:
            yield f"several nodes give the tensor {twice[0]}"
        own.update(node.outputs)
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        yield f"nothing gives these inputs before they are needed: {', '.join(missing[:_MOST_NAMED])}{more}"
    for output in graph.outputs:
        if not any(output.name in scope for scope in scopes):
            yield f"nothing gives the output {output.name}"


def _problems_of_tensor(tensor: OnnxTensor, data: PartOfFile, folder: Path, outside: dict[Path, int]) -> Iterator[str]:
    if tensor.dtype not in _BITS:
        if tensor.dtype != "string":
            yield f"the constant {tensor.name} has numbers of an unknown type, {tensor.dtype}"
        return
    wanted = -(-tensor.size * _BITS[tensor.dtype] // 8)
    if tensor.external is not None:
        yield from _problems_outside(tensor, tensor.external, wanted, folder, outside)
    elif tensor.raw is not None:
        if len(tensor.raw) != wanted:
            yield f"the constant {tensor.name} has {len(tensor.raw):,} bytes, and needs {wanted:,}"
        elif odd := _not_finite(tensor, data, tensor.raw.start, wanted):
            yield odd


def _problems_outside(
    tensor: OnnxTensor, external: Mapping[str, str], wanted: int, folder: Path, outside: dict[Path, int]
) -> Iterator[str]:
    """Checks numbers that are in a file beside the model."""
    location = external.get("location", "")
    path = folder / location
    offset, length = external.get("offset", "0"), external.get("length", str(wanted))
    if not (offset.isdecimal() and length.isdecimal() and len(offset) < 20):
        yield f"it does not say where the constant {tensor.name} is in {location}"
        return
    if not location or os.path.isabs(location) or ".." in Path(location).parts:
        yield f"the constant {tensor.name} is in {location or 'no file'}, which is not in the model's folder"
        return
    try:
        with open_regular_file(path) as file:
            data = _whole(file)
            outside[path] = len(data)
            if int(length) != wanted or int(offset) + wanted > len(data):
                yield f"the constant {tensor.name} needs {wanted:,} bytes of {location}, which has others"
            elif odd := _not_finite(tensor, data, int(offset), wanted):
                yield odd
    except OSError as error:
        if path not in outside:  # One word is enough.
            yield f"its constants are in {location}, which cannot be read: {error.strerror}"
        outside[path] = 0


def _not_finite(tensor: OnnxTensor, data: PartOfFile, start: int, size: int) -> str | None:
    """Tells how many of a constant's numbers are none; None if all are."""
    if tensor.dtype not in _FLOATS:
        return None
    odd = 0
    for position in range(start, start + size, CHUNK_BYTES):
        chunk = np.frombuffer(
            data[position : min(position + CHUNK_BYTES, start + size)], f"<f{_BITS[tensor.dtype] // 8}"
        )
        odd += int(chunk.size - np.isfinite(chunk).sum())
    return f"the constant {tensor.name} has {odd:,} numbers that are NaN or infinite" if odd else None
