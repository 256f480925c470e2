"""Says why a SavedModel has no checkpoint: it was frozen, it was not copied whole, or it is none."""

import os
from pathlib import Path

from hubexport.checkpoints.archives import MODULE_FILE, MODULE_PREFIX
from hubexport.checkpoints.foreign_files import graph_format, is_frozen, is_graph, is_saved_model
from hubexport.errors import CheckpointError
from hubexport.system.proto_wire import PartOfFile


def no_values_error(directory: Path) -> CheckpointError:
    """Returns the error for a directory with `saved_model.pb` that has no checkpoint.

    Raises:
        OSError: the file cannot be read.
    """
    what = f"{directory} holds no checkpoint"
    path = directory / MODULE_FILE
    with path.open("rb") as file:
        data = PartOfFile(file, 0, os.fstat(file.fileno()).st_size)
        is_bare_graph, is_whole = is_graph(data), is_saved_model(data)
    if is_bare_graph:
        graph = graph_format(frozen=is_frozen(path))
        return CheckpointError(what, why=f"{MODULE_FILE} is {graph.title}: {graph.why}", fix=graph.fix)
    if not is_whole:
        return CheckpointError(
            f"cannot read module {directory}",
            why=f"{MODULE_FILE} cannot be decoded",
            fix="it is damaged: build, export or fetch the module again",
        )
    if is_frozen(path):
        graph = graph_format(frozen=True)
        return CheckpointError(what, why=f"it is a SavedModel of a frozen graph: {graph.why}", fix=graph.fix)
    return CheckpointError(
        what,
        why=f"it is a SavedModel without the file {MODULE_PREFIX}.index",
        fix=f"copy the folder {MODULE_PREFIX.parent} of the SavedModel as well",
    )
