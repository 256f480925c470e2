"""Runs the frozen graph that a checkpoint is published with, in which constants replace the variables."""

from collections.abc import Mapping

from google.protobuf.message import DecodeError
import tensorflow.compat.v1 as tf

from hubexport.arrays import Array

_INPUT = "input:0"


def run_frozen_graph(serialized: bytes, images: Array, outputs: Mapping[str, str]) -> dict[str, Array]:
    """Runs a frozen graph, and returns the outputs that it has.

    Args:
        serialized: a serialized GraphDef.
        images: float32 [batch, height, width, 3], in the network's own range, for the input `input:0`.
        outputs: the names of tensors, by any keys. Those that the graph does not have are left out.
    Returns:
        Float32 [batch, values] by key; the axes after the first are flattened.
    Raises:
        ValueError: `serialized` is not a GraphDef, or the graph has no `input:0`.
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
