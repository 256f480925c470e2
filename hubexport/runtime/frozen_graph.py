"""The graph that a checkpoint's publishers froze: constants in place of variables."""

from collections.abc import Mapping

from google.protobuf.message import DecodeError
import tensorflow.compat.v1 as tf

from hubexport.arrays import Array

_INPUT = "input:0"


def run_frozen_graph(serialized: bytes, images: Array, outputs: Mapping[str, str]) -> dict[str, Array]:
    """Runs those outputs of a frozen graph that it has.

    Args:
        serialized: a GraphDef.
        images: float32 [batch, height, width, 3], in the network's own range, as its input `input:0` wants them.
        outputs: names of tensors.
    Returns:
        Float32 by the keys of `outputs`, each with all axes of length 1 behind the first taken away.
    Raises:
        ValueError: it is no graph, or has no such input.
    """
    try:
        graph_def = tf.GraphDef.FromString(serialized)
    except DecodeError as error:
        raise ValueError("it is not a GraphDef") from error
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(graph_def, name="")
        nodes = {node.name for node in graph_def.node}
        fetches = {key: tensor for key, tensor in outputs.items() if tensor.partition(":")[0] in nodes}
        found = session.run(fetches, {graph.get_tensor_by_name(_INPUT): images})
    return {key: value.reshape(len(value), -1) for key, value in found.items()}
