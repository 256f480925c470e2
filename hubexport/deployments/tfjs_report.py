"""Describes graph models of TF.js, whoever wrote them, without TensorFlow."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hubexport.deployments.report import DeployedTensor, DeploymentReport
from hubexport.deployments.tfjs_files import StoredWeight, TfjsModel, read_tfjs_model

# The dtypes of a GraphDef whose names are not NumPy's in capitals.
_DTYPES = {"float": "float32", "double": "float64", "half": "float16"}
# Constants and inputs are told elsewhere.
_NO_OPS = ("Const", "Placeholder")
_LARGEST = float(np.finfo(np.float32).max)
_MOST_LENGTHS = 32
_MOST_NAMED = 3


def tfjs_report(path: Path) -> DeploymentReport:
    """Describes a graph model. It reads all numbers, but has few of them in memory.

    Args:
        path: its `model.json`, or the folder with that.
    Raises:
        ModuleError: it is no graph model, is damaged, or cannot be read.
    """
    model = read_tfjs_model(path)
    needed = {_node_of(name) for node in model.nodes for name in node["input"]}
    # Models without a signature give what nothing else needs.
    outputs = model.outputs or {node["name"]: {} for node in model.nodes if node["name"] not in needed}
    inputs = model.inputs or {node["name"]: _placeholder(node) for node in model.nodes if node["op"] == "Placeholder"}
    weights: Counter[str] = Counter()
    for weight in model.weights:
        weights[weight.stored] += weight.size
    return DeploymentReport(
        format="tfjs",
        version="graph model",
        written_by=", ".join(model.written_by) or None,
        size=sum(model.sizes.values()),
        inputs=[_deployed(key, tensor) for key, tensor in inputs.items()],
        outputs=[_deployed(key, tensor) for key, tensor in outputs.items()],
        ops=dict(Counter(node["op"] for node in model.nodes if node["op"] not in _NO_OPS).most_common()),
        weights=dict(weights.most_common()),
        metadata=model.metadata,
        files=[*model.sizes],
        problems=[*model.problems, *_problems_of_graph(model), *_problems_of_weights(model)],
    )


def _node_of(tensor: str) -> str:
    """Returns the node of an input like `name`, `name:1` or `^name`."""
    return tensor.removeprefix("^").partition(":")[0]


def _placeholder(node: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = node["attr"]
    return {
        "dtype": attributes.get("dtype", {}).get("type"),
        "tensorShape": attributes.get("shape", {}).get("shape"),
    }


def _deployed(key: str, tensor: Mapping[str, Any]) -> DeployedTensor:
    dtype = str(tensor.get("dtype", "unknown")).removeprefix("DT_").lower()
    return DeployedTensor(key, _DTYPES.get(dtype, dtype), _lengths(tensor.get("tensorShape")))


def _lengths(shape: Any) -> tuple[int | None, ...] | None:
    """Returns the lengths of a shape in JSON; None for any shape, or for what is none."""
    if not isinstance(shape, dict) or shape.get("unknownRank"):
        return None
    dims = shape.get("dim", [])
    if not isinstance(dims, list) or len(dims) > _MOST_LENGTHS:
        return None
    lengths = []
    for dim in dims:
        size = dim.get("size", 0) if isinstance(dim, dict) else None
        try:
            length = int(size)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None
        lengths.append(None if length < 0 else length)
    return tuple(lengths)


def _problems_of_graph(model: TfjsModel) -> Iterator[str]:
    names = Counter(node["name"] for node in model.nodes)
    if twice := [name for name, count in names.items() if count > 1]:
        yield f"several nodes have the name {twice[0]}"
    missing = [
        f"{name} of {node['op']} {node['name']}"
        for node in model.nodes
        for name in node["input"]
        if _node_of(name) not in names
    ]
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        yield f"there are no such inputs: {', '.join(missing[:_MOST_NAMED])}{more}"
    for side, tensors in (("input", model.inputs), ("output", model.outputs)):
        for key, tensor in tensors.items():
            # Resources that other graphs initialize have no nodes.
            if _node_of(tensor["name"]) not in names and "resourceId" not in tensor:
                yield f"no node gives the {side} {key}"
    stored = {weight.name for weight in model.weights}
    if lacking := [node["name"] for node in model.nodes if node["op"] == "Const" and node["name"] not in stored]:
        yield f"{len(lacking)} constants have no values, like {lacking[0]}"


def _problems_of_weights(model: TfjsModel) -> Iterator[str]:
    if model.problems:
        return  # Nothing tells where the values are.
    for weight in model.weights:
        if odd := _not_finite(model, weight):
            yield f"the weight {weight.name} has {odd:,} numbers that are NaN or infinite"


def _not_finite(model: TfjsModel, weight: StoredWeight) -> int:
    if weight.stored in ("float32", "float16"):
        return sum(int(chunk.size - np.isfinite(chunk).sum()) for chunk in model.chunks(weight))
    if weight.stored in ("uint8", "uint16"):
        most = np.iinfo(weight.stored).max
        ends = (weight.minimum, weight.minimum + weight.scale * most)
        return 0 if all(abs(end) <= _LARGEST for end in ends) else weight.size
    return 0
