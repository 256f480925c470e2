"""Describes TFLite files, whoever wrote them, without an interpreter."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from hubexport.arrays import CHUNK_BYTES
from hubexport.deployments.appended_files import appended_files
from hubexport.deployments.report import DeployedTensor, DeploymentReport
from hubexport.errors import ModuleError
from hubexport.extras import require_extras
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import Bytes, PartOfFile
from hubexport.system.regular_files import open_regular_file

if TYPE_CHECKING:
    from hubexport.deployments.tflite_file import TfliteFile, TfliteGraph, TfliteTensor

_IDENTIFIER = b"TFL3"
_BITS = {
    **{"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "bool": 8, "complex64": 64, "complex128": 128},
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (4, 8, 16, 32, 64)},
}
_FLOATS = ("float16", "float32", "float64")
# Those that stand for other numbers.
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32")
_RUNTIME = "min_runtime_version"
_MOST_METADATA_BYTES = 1 << 25


def is_tflite(path: Path) -> bool:
    """Tells whether a path is a TFLite file, by its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == _IDENTIFIER


def tflite_report(path: Path) -> DeploymentReport:
    """Describes a TFLite file. It reads all numbers, but has few of them in memory.

    Raises:
        MissingExtraError: the package with the names of operators is missing.
        ModuleError: the file is damaged, or cannot be read.
    """
    require_extras("reading TFLite models", "tflite")
    try:
        with open_regular_file(path) as file:
            return _report(file)
    except DamageError as error:
        raise ModuleError(
            f"cannot read TFLite model {path}", why=f"it is damaged: {error}", fix="convert, export or fetch it again"
        ) from error
    except OSError as error:
        raise ModuleError(
            f"cannot read TFLite model {path}", why=error.strerror or str(error), fix="use a file that you may read"
        ) from error


def _report(file: BinaryIO) -> DeploymentReport:
    from hubexport.deployments.tflite_file import read_tflite

    data = PartOfFile(file, 0, os.fstat(file.fileno()).st_size)
    model = read_tflite(data)
    if not model.graphs:
        raise DamageError("it has no graph")
    graph = model.graphs[0]
    for index in (*graph.inputs, *graph.outputs):
        if not 0 <= index < len(graph.tensors):
            raise DamageError(f"it has {len(graph.tensors):,} tensors, and asks for number {index:,}")
    weights: Counter[str] = Counter()
    problems = [*_problems_of_graphs(model.graphs)]
    for one in model.graphs:
        for tensor in one.tensors:
            if tensor.data is not None:
                weights[tensor.dtype] += _size(tensor)
                problems.extend(_problems_of_constant(tensor, data))
    signature = next((one for one in model.signatures if one.graph == 0), None)
    given, taken = (signature.inputs, signature.outputs) if signature else ({}, {})
    integers = _integers(graph)
    inputs = [_deployed(graph.tensors[one], given.get(one), integers.get(one)) for one in graph.inputs]
    outputs = [_deployed(graph.tensors[one], taken.get(one), integers.get(one)) for one in graph.outputs]
    metadata, odd = _metadata(model, data, file)
    names = metadata.get("class_names")
    if names is not None and outputs and (shape := outputs[0].shape or ())[-1:] != (len(names),):
        odd.append(f"it names {len(names):,} classes, and its first output has the shape {[*shape]}")
    if inputs and (taken_range := _input_range(graph.tensors[graph.inputs[0]], metadata)):
        metadata["input_range"] = taken_range
    runtime = metadata.pop(_RUNTIME, None)
    return DeploymentReport(
        format="tflite",
        version=f"schema {model.version}" + (f", for runtimes from {runtime}" if runtime else ""),
        written_by=model.description,
        size=len(data),
        inputs=inputs,
        outputs=outputs,
        ops=dict(Counter(op.kind for one in model.graphs for op in one.operators).most_common()),
        weights=dict(weights.most_common()),
        metadata=metadata,
        problems=problems + odd,
    )


def _size(tensor: "TfliteTensor") -> int:
    return math.prod(length or 0 for length in tensor.shape)


def _integers(graph: "TfliteGraph") -> dict[int, "TfliteTensor"]:
    """Returns the integers that are computed with in place of floats, by the floats' index."""
    found = {}
    for operator in graph.operators:
        pair = (*operator.inputs, *operator.outputs)
        if len(pair) == 2 and all(0 <= index < len(graph.tensors) for index in pair):
            if operator.kind == "QUANTIZE":
                found[pair[0]] = graph.tensors[pair[1]]
            elif operator.kind == "DEQUANTIZE":
                found[pair[1]] = graph.tensors[pair[0]]
    return found


def _deployed(tensor: "TfliteTensor", name: str | None, integers: "TfliteTensor | None") -> DeployedTensor:
    quantization = _quantization(tensor)
    if quantization is None and integers is not None:
        quantization = _quantization(integers)
    return DeployedTensor(name or tensor.name, tensor.dtype, tensor.shape, quantization)


def _quantization(tensor: "TfliteTensor") -> str | None:
    """Returns which numbers a tensor's integers stand for; None if they are not integers, or have several scales."""
    if tensor.dtype not in _INTEGERS or tensor.scales.size != 1 or tensor.zero_points.size != 1:
        return None
    limits, scale, zero = np.iinfo(tensor.dtype), float(tensor.scales[0]), int(tensor.zero_points[0])
    lowest, highest = ((one - zero) * scale for one in (limits.min, limits.max))
    return f"{lowest:.4g} to {highest:.4g} in steps of {scale:.4g}"


def _input_range(images: "TfliteTensor", metadata: Mapping[str, Any]) -> list[float] | None:
    """Returns what black and white are in the input; None if the metadata do not tell.

    Programs subtract the mean from intensities from 0 to 255, and divide by the deviation; then they quantize.
    """
    means, deviations = set(metadata.get("input_mean", ())), set(metadata.get("input_deviation", ()))
    if len(means) != 1 or len(deviations) != 1 or not all(deviations):
        return None
    limits = [(intensity - means.copy().pop()) / deviations.copy().pop() for intensity in (0, 255)]
    if images.dtype == "uint8" and images.scales.size == 1 and images.zero_points.size == 1 and images.scales[0] > 0:
        steps = [round(one / float(images.scales[0])) + int(images.zero_points[0]) for one in limits]
        return [float(min(max(one, 0), 255)) for one in steps]
    return limits


def _problems_of_graphs(graphs: "Sequence[TfliteGraph]") -> Iterator[str]:
    """Follows the graphs: each tensor must be there before it is used."""
    for graph in graphs:
        there = {-1, *graph.inputs}
        there.update(index for index, tensor in enumerate(graph.tensors) if tensor.data is not None)
        for operator in graph.operators:
            if any(not -1 <= index < len(graph.tensors) for index in (*operator.inputs, *operator.outputs)):
                yield f"an operator {operator.kind} names a tensor that does not exist"
                continue
            for index in operator.inputs:
                if index not in there:
                    yield f"nothing gives {graph.tensors[index].name} before an operator {operator.kind} needs it"
            there.update(operator.outputs)
        for index in graph.outputs:
            if index not in there and 0 <= index < len(graph.tensors):
                yield f"nothing gives the output {graph.tensors[index].name}"


def _problems_of_constant(tensor: "TfliteTensor", data: Bytes) -> Iterator[str]:
    bits = _BITS.get(tensor.dtype)
    if bits is None or tensor.data is None:
        return
    start, length = tensor.data
    wanted = -(-_size(tensor) * bits // 8)
    if length != wanted:
        yield f"the constant {tensor.name} has {length:,} bytes, and needs {wanted:,}"
    elif tensor.dtype in _FLOATS and (odd := _not_finite(data, start, length, bits)):
        yield f"the constant {tensor.name} has {odd:,} numbers that are NaN or infinite"
    if tensor.scales.size and not (np.isfinite(tensor.scales) & (tensor.scales > 0)).all():
        yield f"the constant {tensor.name} has a scale that is not above zero"
    if tensor.scales.size not in (0, 1) and tensor.scales.size not in tensor.shape:
        yield f"the constant {tensor.name} has {tensor.scales.size:,} scales, and no axis of this length"


def _not_finite(data: Bytes, start: int, size: int, bits: int) -> int:
    odd = 0
    for position in range(start, start + size, CHUNK_BYTES):
        chunk = np.frombuffer(data[position : min(position + CHUNK_BYTES, start + size)], f"<f{bits // 8}")
        odd += int(chunk.size - np.isfinite(chunk).sum())
    return odd


def _metadata(model: "TfliteFile", data: Bytes, file: BinaryIO) -> tuple[dict[str, Any], list[str]]:
    """Returns what the file says of itself, and what is wrong with that."""
    from hubexport.deployments.tflite_metadata import METADATA, read_metadata

    found: dict[str, Any] = {}
    problems: list[str] = []
    if _RUNTIME in model.metadata:
        start, length = model.metadata[_RUNTIME]
        found[_RUNTIME] = data[start : start + min(length, 16)].rstrip(b"\0").decode(errors="replace")
    labels = None
    if METADATA in model.metadata:
        start, length = model.metadata[METADATA]
        try:
            if length > _MOST_METADATA_BYTES:
                raise DamageError(f"they have {length:,} bytes")
            described = read_metadata(data[start : start + length])
            labels = described.pop("labels", None)
            found |= described
        except DamageError as error:
            problems.append(f"its metadata are damaged: {error}")
    try:
        files, names = appended_files(file, labels)
        if files:
            found["files"] = files
        if names is not None:
            found["class_names"] = names.decode(errors="replace").splitlines()
        elif labels is not None:
            problems.append(f"its metadata name the file {labels}, which is not in it")
    except DamageError as error:
        problems.append(f"the files after the model are damaged: {error}")
    return found, problems
