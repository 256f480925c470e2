"""Reads the files of TF.js graph models, whoever wrote them: they may be damaged, or made to do harm."""

from collections.abc import Collection, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import math
import os
from pathlib import Path
import re
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hubexport.arrays import CHUNK_BYTES
from hubexport.errors import ModuleError, printable
from hubexport.system.damage import DamageError
from hubexport.system.regular_files import open_regular_file, read_regular_file

MODEL_FILE = "model.json"
# The names of its files of weights.
SHARD = re.compile(r"group\d+-shard\d+of\d+(\.bin)?")

# The largest networks take 3 MB. Objects in memory may take 20 times as many.
_MAX_JSON_BYTES = 16 << 20
_START_BYTES = 64
# More than any weight has, and few enough for arithmetic.
_MOST_NUMBERS = 1 << 40
# What TF.js itself reads of the metadata.
_FOR_PROGRAMS = ("signature", "structuredOutputKeys")
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "|b1", "complex64": "<c8"}
_QUANTIZED = {"float16": "<f2", "uint16": "<u2", "uint8": "|u1"}
_TEXT = "string"

_Json: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StoredWeight:
    """A constant whose values are in the files of a group.

    Attributes:
        name: of its node.
        shape: its lengths.
        dtype: what the graph gets, in NumPy's words.
        stored: what the files have; `string` for texts, which are not read.
        scale: what stored integers are multiplied with; 1 for others.
        minimum: what is added to that; 0 for others.
        group: the number of its group, from 0.
        start: where its values begin in the bytes of the group.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: str
    scale: float
    minimum: float
    group: int
    start: int

    @property
    def size(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the stored values."""
        return 0 if self.stored == _TEXT else self.size * _stored_dtype(self.stored).itemsize


@dataclasses.dataclass(frozen=True)
class TfjsModel:
    """A graph model.

    Attributes:
        path: its `model.json`.
        nodes: those of its graph, as protocol buffers have them in JSON. Each has a `name` and an `op`, both texts; a
            list of texts `input`; and objects by name in `attr`.
        producer: the version of its graph.
        inputs: what the signature says of each input, by its key.
        outputs: what it says of each output, by its key.
        written_by: the programs that wrote it, as they call themselves.
        metadata: what users can read in it.
        weights: its constants.
        groups: the names of the files of each group of weights.
        sizes: of its files, by their names, `model.json` included; without those that are missing.
        problems: what is wrong with its files, a sentence each.
    """

    path: Path
    nodes: Sequence[_Json]
    producer: int
    inputs: Mapping[str, _Json]
    outputs: Mapping[str, _Json]
    written_by: tuple[str, ...]
    metadata: _Json
    weights: Sequence[StoredWeight]
    groups: Sequence[Sequence[str]]
    sizes: Mapping[str, int]
    problems: Sequence[str]

    def values(self, weight: StoredWeight) -> npt.NDArray[Any]:
        """Returns the values of a weight, as TF.js computes with them.

        Raises:
            OSError: a file cannot be read.
            ValueError: the weight is text, or its values are not complete.
        """
        chunks = [*self.chunks(weight)]
        array = np.concatenate([np.empty(0, _stored_dtype(weight.stored)), *chunks]).reshape(weight.shape)
        if weight.stored in ("uint8", "uint16"):
            numbers = array * np.float64(weight.scale) + np.float64(weight.minimum)
            array = np.rint(numbers) if weight.dtype == "int32" else numbers
        return array.astype(weight.dtype)

    def chunks(self, weight: StoredWeight) -> Iterator[npt.NDArray[Any]]:
        """Yields the stored values of a weight in order, as flat arrays of `CHUNK_BYTES` at most.

        Raises:
            OSError: a file cannot be read.
            ValueError: the weight is text.
        """
        if weight.stored == _TEXT:
            raise ValueError(f"{printable(weight.name)} is text")
        dtype = _stored_dtype(weight.stored)
        rest = b""
        for part in self._parts(weight):
            rest += part
            # The end of a file may be in the middle of a number.
            whole = len(rest) // dtype.itemsize * dtype.itemsize
            yield np.frombuffer(rest[:whole], dtype)
            rest = rest[whole:]

    def _parts(self, weight: StoredWeight) -> Iterator[bytes]:
        start, stop = weight.start, weight.start + weight.nbytes
        offset = 0
        for name in self.groups[weight.group]:
            first, last = max(start, offset), min(stop, offset + self.sizes.get(name, 0))
            if first < last:
                with open_regular_file(self.path.parent / name) as file:
                    file.seek(first - offset)
                    for position in range(first, last, CHUNK_BYTES):
                        yield file.read(min(CHUNK_BYTES, last - position))
            offset += self.sizes.get(name, 0)


def is_tfjs_model(path: Path) -> bool:
    """Tells whether a `model.json`, or the one in a folder, is a graph model of TF.js."""
    file = _model_file(path)
    if not file.is_file():
        return False
    is_beside_weights = file.name == MODEL_FILE and any(map(SHARD.fullmatch, os.listdir(file.parent)))
    with file.open("rb") as opened:
        if not opened.read(_START_BYTES).lstrip().startswith(b"{"):
            return is_beside_weights
    try:
        return _is_graph_model(_described(file))
    except (OSError, DamageError):  # It is no JSON, or much too large; unless it was one, by what lies beside it.
        return is_beside_weights


def tfjs_files(folder: Path) -> Collection[str] | None:
    """Returns the names of the files of the graph model in a folder; None if there is none."""
    try:
        model = read_tfjs_model(folder)
    except ModuleError:
        return None
    return (MODEL_FILE, *itertools.chain.from_iterable(model.groups))


def read_tfjs_model(path: Path) -> TfjsModel:
    """Reads the description of a graph model, and compares it with the sizes of its files.

    Args:
        path: its `model.json`, or the folder with that.
    Raises:
        ModuleError: it is no graph model, cannot be read, is damaged, or names files outside of its folder.
    """
    file = _model_file(path)
    try:
        return _read(file)
    except OSError as error:
        why = str(error.strerror or error)
    except DamageError as error:
        why = str(error)
    raise ModuleError(
        f"cannot read TF.js model {path}", why=why, fix="convert it again, or fetch it again with all of its files"
    )


def _model_file(path: Path) -> Path:
    return path / MODEL_FILE if path.is_dir() else path


def _described(file: Path) -> _Json:
    content = read_regular_file(file, _MAX_JSON_BYTES)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        described = json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise DamageError(f"{file.name} is not JSON") from None
    if not isinstance(described, dict):
        raise DamageError(f"{file.name} does not describe a model")
    return described


def _is_graph_model(described: _Json) -> bool:
    topology = described.get("modelTopology")
    return isinstance(topology, dict) and "node" in topology and "weightsManifest" in described


def _read(file: Path) -> TfjsModel:
    described = _described(file)
    if described.get("format") == "layers-model":
        raise DamageError("it is a Keras model of TF.js, not a graph model")
    if not _is_graph_model(described):
        raise DamageError(f"{file.name} does not describe a graph model")
    topology = described["modelTopology"]
    metadata = _object(described.get("userDefinedMetadata", {}), "userDefinedMetadata")
    # Converters of 2020 have it there.
    signature = _object(metadata.get("signature") or described.get("signature") or {}, "signature")
    groups = [_object(group, "a group of weights") for group in _list(described["weightsManifest"], "weightsManifest")]
    paths = [[_plain_name(name) for name in _list(group.get("paths"), "paths")] for group in groups]
    weights = [list(_weights(group, number)) for number, group in enumerate(groups)]
    _check_names(itertools.chain.from_iterable(weights))
    sizes, problems = _sizes(file, paths)
    problems += [
        problem
        for names, held in zip(paths, weights, strict=True)
        if (problem := _wrong_size(names, held, sizes)) is not None
    ]
    return TfjsModel(
        path=file,
        nodes=[_node(node) for node in _list(topology["node"], "node")],
        producer=_integer(_object(topology.get("versions", {}), "versions").get("producer", 0), "producer"),
        inputs=_tensors(signature, "inputs"),
        outputs=_tensors(signature, "outputs"),
        written_by=tuple(
            dict.fromkeys(
                text for key in ("convertedBy", "generatedBy") if (text := described.get(key)) and isinstance(text, str)
            )
        ),
        metadata={key: value for key, value in metadata.items() if key not in _FOR_PROGRAMS},
        weights=list(itertools.chain.from_iterable(weights)),
        groups=paths,
        sizes=sizes,
        problems=problems,
    )


def _object(value: Any, what: str) -> _Json:
    if not isinstance(value, dict):
        raise DamageError(f"{what} is not an object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise DamageError(f"{what} is not a list")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise DamageError(f"{what} is not text")
    return value


def _integer(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST_NUMBERS:
        raise DamageError(f"{what} is not a number from 0 on")
    return value


def _number(value: Any, what: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < float("inf"):
        raise DamageError(f"{what} is not a number")
    return float(value)


def _plain_name(value: Any) -> str:
    name = _text(value, "a path of weights")
    if name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        raise DamageError(f"it names {printable(name)!r} as a file of weights, which is not a file in its folder")
    return name


def _node(value: Any) -> _Json:
    node = _object(value, "a node")
    name = _text(node.get("name"), "the name of a node")
    _text(node.get("op"), "the op of a node")
    inputs = [_text(one, "an input of a node") for one in _list(node.get("input", []), "the inputs of a node")]
    attributes = _object(node.get("attr", {}), "the attributes of a node")
    for key, attribute in attributes.items():
        _object(attribute, f"attribute {printable(key)} of {printable(name)}")
    return {**node, "input": inputs, "attr": attributes}


def _tensors(signature: _Json, side: str) -> dict[str, _Json]:
    tensors = _object(signature.get(side, {}), side)
    for key, tensor in tensors.items():
        _text(_object(tensor, printable(key)).get("name"), f"the name of {printable(key)}")
    return dict(tensors)


def _weights(group: _Json, number: int) -> Iterator[StoredWeight]:
    start = 0
    for value in _list(group.get("weights"), "weights"):
        described = _object(value, "a weight")
        name = _text(described.get("name"), "the name of a weight")
        shown = printable(name)
        dtype = stored = _text(described.get("dtype"), f"the dtype of {shown}")
        scale, minimum = 1.0, 0.0
        if "quantization" in described:
            quantization = _object(described["quantization"], f"the quantization of {shown}")
            stored = _text(quantization.get("dtype"), f"the stored dtype of {shown}")
            if stored not in _QUANTIZED or dtype not in ("float32", "int32"):
                raise DamageError(f"weight {shown} is {printable(dtype)} stored as {printable(stored)}")
            if stored != "float16":
                scale = _number(quantization.get("scale"), f"the scale of {shown}")
                minimum = _number(quantization.get("min"), f"the min of {shown}")
        elif dtype not in _DTYPES and dtype != _TEXT:
            raise DamageError(f"weight {shown} has the unknown dtype {printable(dtype)}")
        shape = tuple(
            _integer(length, f"a length of {shown}")
            for length in _list(described.get("shape"), f"the shape of {shown}")
        )
        # A shape as long as the file would take as long to multiply as to read.
        if len(shape) > 32 or math.prod(shape) >= _MOST_NUMBERS:
            raise DamageError(f"weight {shown} has an impossible shape")
        weight = StoredWeight(name, shape, dtype, stored, scale, minimum, number, start)
        start += weight.nbytes
        yield weight


def _check_names(weights: Iterator[StoredWeight]) -> None:
    seen = set()
    for weight in weights:
        if weight.name in seen:
            raise DamageError(f"weight {printable(weight.name)} is there twice")
        seen.add(weight.name)


def _sizes(file: Path, paths: Sequence[Sequence[str]]) -> tuple[dict[str, int], list[str]]:
    """Returns the sizes of all files that are there, and what is wrong with others."""
    sizes, problems = {}, []
    for name in dict.fromkeys((file.name, *itertools.chain.from_iterable(paths))):
        try:
            with open_regular_file(file.parent / name) as opened:
                sizes[name] = opened.seek(0, 2)
        except FileNotFoundError:
            problems.append(f"{printable(name)} is missing")
        except OSError as error:
            problems.append(f"{printable(name)} cannot be read: {error.strerror or error}")
    return sizes, problems


def _wrong_size(names: Sequence[str], weights: Sequence[StoredWeight], sizes: Mapping[str, int]) -> str | None:
    if not all(name in sizes for name in names) or any(weight.stored == _TEXT for weight in weights):
        return None  # The former is a problem already, and nothing tells the size of texts.
    wanted, found = sum(weight.nbytes for weight in weights), sum(sizes[name] for name in names)
    if wanted == found:
        return None
    listed = printable(names[0]) if len(names) == 1 else f"the {len(names)} files of a group"
    return f"{listed} should have {wanted:,} bytes, and {'has' if len(names) == 1 else 'have'} {found:,}"


def _stored_dtype(name: str) -> np.dtype[Any]:
    return np.dtype({**_DTYPES, **_QUANTIZED}[name])
