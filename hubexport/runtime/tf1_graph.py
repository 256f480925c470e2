"""Loads a graph version of a TF1 Hub module, with its values, without tensorflow_hub."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from hubexport.arrays import Array
from hubexport.modules.saved_model_interface import IMAGES

_VALUES = Path("variables", "variables")


@dataclasses.dataclass(frozen=True)
class LoadedGraphVersion:
    """A graph version in a graph and a session of its own.

    Attributes:
        graph: the graph, which contains nothing else.
        session: a session of the graph; its variables have the module's values.
        meta_graph: the graph version as a MetaGraph.
        restore: sets the variables to the module's values again.
    """

    graph: tf.Graph
    session: tf.Session
    meta_graph: meta_graph_pb2.MetaGraphDef
    restore: Callable[[], None]

    def run(self, images: Array, outputs: Sequence[str], signature: str = "default") -> dict[str, Array]:
        """Runs a signature.

        Args:
            images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
            outputs: the keys of the signature's outputs to return.
            signature: the signature's name; all of its inputs except the images must have defaults.
        Returns:
            Float32 [batch, ...] by key.
        """
        definition = self.meta_graph.signature_def[signature]
        fetches = {key: definition.outputs[key].name for key in outputs}
        return self.session.run(fetches, {definition.inputs[IMAGES].name: images})

    def run_signatures(self, images: Array) -> dict[str, dict[str, Array]]:
        """Runs all signatures, and returns all of their outputs by the signature's name and the output's key.

        All of their inputs except the images must have defaults. Outputs that share a tensor share an array.
        """
        signatures = self.meta_graph.signature_def
        names = {name: {key: output.name for key, output in signatures[name].outputs.items()} for name in signatures}
        return self.session.run(names, {definition.inputs[IMAGES].name: images for definition in signatures.values()})

    def images(self, signature: str = "default") -> tf.Tensor:
        """Returns the tensor of a signature's images."""
        return self.graph.get_tensor_by_name(self.meta_graph.signature_def[signature].inputs[IMAGES].name)

    def output(self, signature: str = "default") -> tf.Tensor:
        """Returns the tensor of a signature's main output."""
        return self.graph.get_tensor_by_name(self.meta_graph.signature_def[signature].outputs["default"].name)

    def values(self) -> dict[str, Array]:
        """Returns the values of all variables, by name."""
        with self.graph.as_default():
            return self.session.run({variable.op.name: variable for variable in tf.global_variables()})


@contextlib.contextmanager
def opened_graph_version(
    directory: Path, tags: Sequence[str] = (), *, optimized: bool = True
) -> Iterator[LoadedGraphVersion]:
    """Loads a graph version, for as long as the context lasts.

    Args:
        directory: the directory of a TF1 Hub module.
        tags: the tags of the graph version; the one for inference has none.
        optimized: let TensorFlow optimize the graph, which takes longer than running a large one a few times.
    Raises:
        KeyError: the module has no such graph version.
        ValueError, tf.errors.OpError: the module is damaged; this is TensorFlow's own error.
    """
    definition = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    meta_graphs = {frozenset(meta_graph.meta_info_def.tags): meta_graph for meta_graph in definition.meta_graphs}
    meta_graph = meta_graphs[frozenset(tags)]
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(meta_graph)
        # A TF1 Hub module has no saver of its own. Its values are stored under the names of the variables.
        saver = tf.train.Saver(tf.global_variables())

    def restore() -> None:
        with graph.as_default():
            saver.restore(session, str(directory / _VALUES))

    # Callers work with TensorFlow, too, so neither the graph nor the session becomes the thread's default.
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimized
    with contextlib.closing(tf.Session(graph=graph, config=config)) as session:
        restore()
        yield LoadedGraphVersion(graph, session, meta_graph, restore)
