"""Recognizes files that store a network in a way that hubexport does not read, to say what they are and what to do.

Like the formats that it reads, they are recognized by their content, with one exception: nothing in the data files of
TensorFlow.js tells what they are.
"""

import dataclasses
import json
import mmap
import os
from pathlib import Path
import re

from hubexport.checkpoints.archives import MODULE_FILE, MODULE_PREFIX
from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.huggingface_directory import CONFIG
from hubexport.deployments.onnx_file import looks_like_onnx
from hubexport.deployments.tfjs_files import SHARD
from hubexport.errors import CheckpointError
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import Bytes, PartOfFile, bytes_fields, read_varint
from hubexport.system.regular_files import read_regular_file

_START_BYTES = 4096
# The description of the largest networks has some MB.
_MAX_JSON_BYTES = 64 << 20
_FLATBUFFER_OF_TFLITE = b"TFL3"
_GIT_LFS = b"version https://git-lfs.github.com/spec/"
_COMMENTS = rb"(?:\s|#[^\n]*\n)*"
_SAVED_MODEL_TEXT = re.compile(_COMMENTS + rb"(saved_model_schema_version\s*:|meta_graphs\s*\{)")
_GRAPH_TEXT = re.compile(_COMMENTS + rb"(node|library|versions)\s*\{")
_STATE_TEXT = re.compile(_COMMENTS + rb"model_checkpoint_path\s*:")
# The tags of the first field of these messages, and the numbers of fields that tell them.
_FIRST_BYTES, _FIRST_VARINT = 1 << 3 | 2, 1 << 3
_NODE_NAME, _NODE_OP = 1, 2
_META_GRAPHS = 2
# How the field `op` of a node begins that makes a variable: its tag, the length of the op, and the op.
_VARIABLE_NODES = (b"\x12\x0bVarHandleOp", b"\x12\x0aVariableV2", b"\x12\x08Variable")
_OP = re.compile(rb"[A-Z_][A-Za-z0-9_>.]{0,200}")

_EXPORTED = "its values are those of an exported graph, not the variables of a network"
_SOURCE = "use the checkpoint, Keras model or SavedModel that it was made from"


@dataclasses.dataclass(frozen=True)
class ForeignFormat:
    """A format that hubexport does not read.

    Attributes:
        title: what the file is, with its article.
        why: why it cannot be read.
        fix: what to do instead.
    """

    title: str
    why: str
    fix: str

    def error(self, path: Path) -> CheckpointError:
        """Returns the error for a file that the user names."""
        return CheckpointError(f"cannot read {path}", why=f"it is {self.title}: {self.why}", fix=self.fix)


def foreign_format(path: Path, container: Container | None) -> ForeignFormat | None:
    """Returns the format of a file that hubexport does not read; None if it reads the format, or does not know it.

    Args:
        path: a regular file.
        container: the result of `container_of`.
    Raises:
        OSError: the file cannot be read.
    """
    if container == "pickle":
        return _pickle(path)
    if container is not None:
        return None
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
        if not start:
            return ForeignFormat("an empty file", "there is nothing in it", "fetch or copy it again")
        if start[4:8] == _FLATBUFFER_OF_TFLITE:
            return ForeignFormat("a TensorFlow Lite model", _EXPORTED, _SOURCE)
        if start.startswith(_GIT_LFS):
            return ForeignFormat("a pointer of Git LFS", "the file itself was not fetched", "run `git lfs pull` there")
        if start.lstrip().startswith(b"{"):
            return _json_format(path)
        if SHARD.fullmatch(path.name):
            return ForeignFormat("a data file of TensorFlow.js", "model.json tells what is in it", "use its folder")
        return _text_format(start, path) or _message_format(PartOfFile(file, 0, os.fstat(file.fileno()).st_size), path)


def graph_format(*, frozen: bool) -> ForeignFormat:
    """Returns the format of files that hold a GraphDef.

    Args:
        frozen: whether it has no variables.
    """
    if not frozen:
        why, fix = "the values of its variables are in a checkpoint", "use the checkpoint of the same training"
        return ForeignFormat("a graph of TensorFlow (GraphDef)", why, fix)
    return ForeignFormat(
        "a frozen graph of TensorFlow (GraphDef)",
        "its values are constants, not variables",
        "use the checkpoint that it was frozen from, or save its constants: see Frozen graphs in docs/checkpoints.md",
    )


def is_frozen(path: Path) -> bool:
    """Tells whether no node of a graph makes a variable. Frozen graphs may be large: the file is searched, not parsed.

    Args:
        path: a GraphDef or a SavedModel, not empty.
    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(node) < 0 for node in _VARIABLE_NODES)


def is_graph(data: Bytes) -> bool:
    """Tells whether a GraphDef begins: with a node that has a name and an op.

    Raises:
        OSError: the bytes are in a file that cannot be read.
    """
    if data[:1] != bytes([_FIRST_BYTES]):
        return False
    try:
        length, start = read_varint(data, 1)
        node = range(start, start + length)
        names, ops = (bytes_fields(data, node, number) for number in (_NODE_NAME, _NODE_OP))
    except DamageError:
        return False
    complete = node.stop <= len(data) and len(names) == len(ops) == 1 and len(ops[0]) <= _START_BYTES
    return complete and _OP.fullmatch(data[ops[0].start : ops[0].stop]) is not None


def is_saved_model(data: Bytes) -> bool:
    """Tells whether a SavedModel begins: with its version, 1, and a graph with a description of itself.

    Raises:
        OSError: the bytes are in a file that cannot be read.
    """
    if data[:3] != bytes([_FIRST_VARINT, 1, _META_GRAPHS << 3 | 2]):
        return False
    try:
        length, start = read_varint(data, 3)
    except DamageError:
        return False
    return start + length <= len(data) and data[start : start + 1] == bytes([_FIRST_BYTES])


def _pickle(path: Path) -> ForeignFormat:
    fix = "load it where you trust it, save the weights as safetensors, and use those"
    if (path.parent / CONFIG).is_file():  # Beside Hugging Face's.
        fix = (
            "where you trust it, load its folder with transformers' from_pretrained, and use what save_pretrained saves"
        )
    return ForeignFormat("a Python pickle", "it can run any code when it is loaded", fix)


def _json_format(path: Path) -> ForeignFormat | None:
    try:
        described = json.loads(read_regular_file(path, _MAX_JSON_BYTES))
    except (ValueError, RecursionError):
        return None
    if not isinstance(described, dict) or "weightsManifest" not in described:
        return None
    topology = described.get("modelTopology")
    if described.get("format") == "graph-model" or (isinstance(topology, dict) and "node" in topology):
        return ForeignFormat("a graph model of TensorFlow.js", _EXPORTED, _SOURCE)
    return ForeignFormat(
        "a Keras model of TensorFlow.js",
        "hubexport reads Keras' own files",
        f"run `tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras {path} model.h5` of the "
        "package tensorflowjs, and use model.h5",
    )


def _text_format(start: bytes, path: Path) -> ForeignFormat | None:
    if _SAVED_MODEL_TEXT.match(start):
        prefix = path.parent / MODULE_PREFIX
        missing = not prefix.with_suffix(".index").is_file()
        fix = (
            f"copy the folder {MODULE_PREFIX.parent} beside it as well, and " * missing
            + f"use its checkpoint, {prefix}"
        )
        return ForeignFormat("a SavedModel in text form", f"hubexport reads only {MODULE_FILE}", fix)
    if _GRAPH_TEXT.match(start):
        return ForeignFormat(
            "a graph of TensorFlow in text form", "it holds no values", "use a checkpoint of the same training"
        )
    if _STATE_TEXT.match(start):
        why = "it only names the checkpoints in its folder"
        return ForeignFormat("the state file of a training", why, f"use the folder, {path.parent}")
    return None


def _message_format(data: PartOfFile, path: Path) -> ForeignFormat | None:
    if is_graph(data):
        return graph_format(frozen=is_frozen(path))
    if looks_like_onnx(data):
        return ForeignFormat("an ONNX model", _EXPORTED, _SOURCE)
    if is_saved_model(data):
        fix = f"use its folder, {path.parent}"
        if path.name != MODULE_FILE:
            fix = f"call it {MODULE_FILE}, in a folder with {MODULE_PREFIX}.index, and use that folder"
        return ForeignFormat("the graph of a SavedModel", "its values are in other files of its folder", fix)
    return None
