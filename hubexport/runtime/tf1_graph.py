"""TF1 Hub modules without tensorflow_hub: a graph version, imported with its values."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from hubexport.arrays import Array

_IMAGES = "images"
_VALUES = Path("variables", "variables")


@dataclasses.dataclass(frozen=True)
class LoadedGraphVersion:
    """A graph version in a graph of its own.

    Attributes:
        graph: it, and nothing else.
        session: in which its variables have the module's values.
        meta_graph: what it was imported from.
        restore: gives its variables those values once more.
    """

    graph: tf.Graph
    session: tf.Session
    meta_graph: meta_graph_pb2.MetaGraphDef
    restore: Callable[[], None]

    def run(self, images: Array, outputs: Sequence[str], signature: str = "default") -> dict[str, Array]:
        """Runs a signature.

        Args:
            images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
            outputs: keys of the signature's outputs.
            signature: its name; of its inputs all but the images have defaults.
        Returns:
            Float32 [batch, ...] by key.
        """
        definition = self.meta_graph.signature_def[signature]
        fetches = {key: definition.outputs[key].name for key in outputs}
        return self.session.run(fetches, {definition.inputs[_IMAGES].name: images})

    def values(self) -> dict[str, Array]:
        """Returns the values of all variables, by name."""
        with self.graph.as_default():
            return self.session.run({variable.op.name: variable for variable in tf.global_variables()})


@contextlib.contextmanager
def graph_version(directory: Path, tags: Sequence[str] = ()) -> Iterator[LoadedGraphVersion]:
    """Imports a graph version, for as long as the context lasts.

    Args:
        directory: of a TF1 Hub module.
        tags: of the graph version; none are those of inference.
    Raises:
        KeyError: it has no such graph version.
        ValueError, tf.errors.OpError: what TensorFlow says of a damaged one.
    """
    definition = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    found = {frozenset(meta_graph.meta_info_def.tags): meta_graph for meta_graph in definition.meta_graphs}
    meta_graph = found[frozenset(tags)]
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(meta_graph)
        # The values stand under the names of the variables: a TF1 Hub module says nothing else about restoring.
        saver = tf.train.Saver(tf.global_variables())

    def restore() -> None:
        with graph.as_default():
            saver.restore(session, str(directory / _VALUES))

    # Neither is the thread's default while the module is open: callers work with TensorFlow, too.
    with contextlib.closing(tf.Session(graph=graph)) as session:
        restore()
        yield LoadedGraphVersion(graph, session, meta_graph, restore)
