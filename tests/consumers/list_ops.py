"""Records the ops of a TensorFlow from 1.7 on.

python list_ops.py TASK.json ANSWER.json
"""

import json
import sys

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, op_def_pb2

try:
    from tensorflow.python.client.pywrap_tf_session import TF_GetAllOpList, TF_GetBuffer
except ImportError:
    from tensorflow.python.pywrap_tensorflow import TF_GetAllOpList, TF_GetBuffer


def registered_ops():
    """Returns all ops with the names of their attributes; TensorFlow checks the nodes of graphs against them."""
    ops = op_def_pb2.OpList.FromString(TF_GetBuffer(TF_GetAllOpList()))
    return {op.name: sorted(attr.name for attr in op.attr) for op in ops.op}


def graph_def_version():
    """Returns the version that TensorFlow compares with a graph's `min_consumer`."""
    return (tf.version if hasattr(tf, "version") else tf).GRAPH_DEF_VERSION


def ignores_unknown_attributes():
    """Returns whether a graph runs even if a node has an attribute that its op does not know."""
    v1 = getattr(getattr(tf, "compat", None), "v1", tf)
    graph_def = graph_pb2.GraphDef()
    graph_def.node.add(name="node", op="NoOp").attr["never_heard_of"].b = True
    try:
        with tf.Graph().as_default(), v1.Session() as session:
            v1.import_graph_def(graph_def, name="")
            session.run("node")
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        assert "never_heard_of" in str(error), error
        return False
    return True


def main(_, answer_file):
    answer = {
        "tensorflow": tf.__version__,
        "graph_def_version": graph_def_version(),
        "ignores_unknown_attributes": ignores_unknown_attributes(),
        "ops": registered_ops(),
        "modules": [],
    }
    with open(answer_file, "w") as f:
        json.dump(answer, f)


if __name__ == "__main__":
    main(*sys.argv[1:])
