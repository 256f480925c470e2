"""Says why a SavedModel has no checkpoint: it was frozen, it was not copied whole, or it is none."""

import mmap
from pathlib import Path

from hubexport.checkpoints.archives import MODULE_FILE, MODULE_PREFIX
from hubexport.checkpoints.foreign_files import graph_format, is_graph, is_saved_model
from hubexport.errors import CheckpointError
from hubexport.system.regular_files import open_regular_file

# How the field `op` of a node begins that makes a variable: its tag, the length of the op, and the op.
_VARIABLE_NODES = (b"\x12\x0bVarHandleOp", b"\x12\x0aVariableV2", b"\x12\x08Variable")


def no_values_error(directory: Path) -> CheckpointError:
    """Returns the error for a directory with `saved_model.pb` that has no checkpoint.

    Frozen graphs may have hundreds of megabytes, so the file is searched, not parsed.

    Raises:
        OSError: the file cannot be read.
    """
    what = f"{directory} holds no checkpoint"
    frozen = graph_format()
    with open_regular_file(directory / MODULE_FILE) as file:
        if not file.read(1):
            return _damaged(directory, "is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if is_graph(content):
                return CheckpointError(what, why=f"{MODULE_FILE} is {frozen.title}: {frozen.why}", fix=frozen.fix)
            if not is_saved_model(content):
                return _damaged(directory, "cannot be decoded")
            if all(content.find(node) < 0 for node in _VARIABLE_NODES):
                return CheckpointError(what, why=f"it is a SavedModel of a frozen graph: {frozen.why}", fix=frozen.fix)
    return CheckpointError(
        what,
        why=f"it is a SavedModel without the file {MODULE_PREFIX}.index",
        fix=f"copy the folder {MODULE_PREFIX.parent} of the SavedModel as well",
    )


def _damaged(directory: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"cannot read module {directory}",
        why=f"{MODULE_FILE} {how}",
        fix="it is damaged: build, export or fetch the module again",
    )
