"""Finds Keras' description of a model in the SavedModels that Keras 2 writes.

Each object of a SavedModel may have metadata in JSON; those of the root describe a Keras model. TensorFlow 2.5 and
newer keep them in a file of their own, older ones in `saved_model.pb`. What Keras 3 exports has none.
"""

import json

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.checkpoints.sources import Source
from hubexport.progress import Progress
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import bytes_fields

_METADATA_FILE = "keras_metadata.pb"
# The files of a large network have 10 MB.
_MAX_BYTES = 256 << 20
# A node for each layer, variable and function.
_MAX_NODES = 1_000_000
# The numbers of the fields that lead to the root's metadata: in Keras' SavedMetadata, nodes and metadata; in
# TensorFlow's SavedModel, meta_graphs, object_graph_def, nodes, user_object and metadata.
_PLACES = {_METADATA_FILE: (1, 5), MODULE_FILE: (2, 7, 1, 4, 3)}


def saved_model_description(source: Source, progress: Progress) -> str | None:
    """Returns Keras' description of the model that is saved in a SavedModel; None if there is none.

    Args:
        source: the SavedModel.
        progress: receives a warning if a file that may have a description is damaged.
    Raises:
        CheckpointError: a file of the SavedModel or its archive cannot be read.
    """
    for file, numbers in _PLACES.items():
        content = source.read_in_module(file, _MAX_BYTES)
        try:
            if content is not None and (description := _model_at(content, numbers)):
                return description
        except DamageError as error:
            progress.warn(f"{source.shown_as}: nothing describes its model: {file} is damaged: {error}")
            return None
    return None


def _model_at(content: bytes, numbers: tuple[int, ...]) -> str | None:
    place = range(len(content))
    for number in numbers:
        places = bytes_fields(content, place, number, _MAX_NODES)
        if not places:
            return None
        place = places[0]
    description = content[place.start : place.stop].decode(errors="replace")
    try:
        metadata = json.loads(description)
    except (ValueError, RecursionError):
        return None
    return description if isinstance(metadata, dict) and {"class_name", "config"} <= metadata.keys() else None
