"""Runs graph versions of modules from their protos alone, without tensorflow_hub, on any TensorFlow 2."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2


@dataclasses.dataclass(frozen=True)
class ImportedGraph:
    """A MetaGraph in a session, with values in its variables."""

    session: tf.Session
    meta_graph: tf.MetaGraphDef

    def run(self, signature: str, images: np.ndarray) -> dict[str, np.ndarray]:
        """Computes all outputs of a signature."""
        definition = self.meta_graph.signature_def[signature]
        outputs = {key: info.name for key, info in definition.outputs.items()}
        return self.session.run(outputs, {definition.inputs["images"].name: images})

    def tensor(self, name: str) -> tf.Tensor:
        """Returns a tensor or operation by its name in the graph version."""
        return self.session.graph.as_graph_element(name)


def read_saved_model(data: bytes) -> dict[tuple[str, ...], tf.MetaGraphDef]:
    """Returns the MetaGraphs of a `saved_model.pb` by their tags."""
    saved_model = saved_model_pb2.SavedModel.FromString(data)
    return {tuple(meta_graph.meta_info_def.tags): meta_graph for meta_graph in saved_model.meta_graphs}


@contextlib.contextmanager
def imported(meta_graph: tf.MetaGraphDef, values: Mapping[str, np.ndarray]) -> Iterator[ImportedGraph]:
    """Imports a MetaGraph into a graph and session of its own, and sets its variables to values by name."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        load_values(session, values)
        yield ImportedGraph(session, meta_graph)


def load_values(session: tf.Session, values: Mapping[str, np.ndarray]) -> None:
    """Sets all variables of the current graph to values, by name."""
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    placeholders = {name: tf.placeholder(tf.float32, variable.shape) for name, variable in variables.items()}
    assignments = [tf.assign(variable, placeholders[name]).op for name, variable in variables.items()]
    session.run(assignments, {placeholders[name]: values[name] for name in variables})


def variable_values(session: tf.Session) -> dict[str, np.ndarray]:
    """Returns the values of all variables of the current graph by name."""
    return session.run({variable.op.name: variable for variable in tf.global_variables()})


def checkpoint_values(module: Path) -> dict[str, np.ndarray]:
    """Reads all values of a module directory."""
    reader = tf.train.load_checkpoint(str(module / "variables" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
