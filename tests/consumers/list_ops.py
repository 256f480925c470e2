"""Tells which ops a TensorFlow has; runs in environments with TensorFlow from 1.7 on and nothing of hubexport.

python list_ops.py TASK.json SEEN.json
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
    """All ops with the names of their attributes: what a graph's nodes are checked against when it is run."""
    ops = op_def_pb2.OpList.FromString(TF_GetBuffer(TF_GetAllOpList()))
    return {op.name: sorted(attr.name for attr in op.attr) for op in ops.op}


def graph_def_version():
    """What a graph's `min_consumer` is compared with."""
    return (tf.version if hasattr(tf, "version") else tf).GRAPH_DEF_VERSION


def ignores_unknown_attributes():
    """Whether a graph runs though one of its nodes has an attribute that its op has not."""
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


def main(_, seen_path):
    """Writes what was seen."""
    seen = {
        "tensorflow": tf.__version__,
        "graph_def_version": graph_def_version(),
        "ignores_unknown_attributes": ignores_unknown_attributes(),
        "ops": registered_ops(),
        "modules": [],
    }
    with open(seen_path, "w") as file:
        json.dump(seen, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
