"""Loads modules with any API that can, applies them once, and records errors.

    python load_modules.py TASK.json ANSWER.json

It needs only a TensorFlow from 1.7 on and a tensorflow_hub of the same time, so it is written for Python 3.6.

TASK.json: {"modules": [{"path", "tags": the tags of a graph version of a TF1 Hub module, or null}, ...]}
ANSWER.json: {"tensorflow", "modules": [{"error": the first error if every API fails, or null}, ...]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

v1 = tf.compat.v1 if hasattr(tf.compat, "v1") else tf


def main(task_file, answer_file):
    with open(task_file) as f:
        task = json.load(f)
    answer = {"tensorflow": tf.__version__, "modules": [load_and_apply(**module) for module in task["modules"]]}
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def load_and_apply(path, tags):
    functions = [apply_with_hub_load] if hasattr(hub, "load") else []
    if tags is not None and hasattr(hub, "Module"):
        functions.insert(0, apply_with_hub_module)
    errors = []
    for function in functions:
        try:
            function(path, tags)
        # The exception depends on the version, and on the step that fails.
        except Exception as error:
            errors.append("{}: {}".format(type(error).__name__, error))
        else:
            return {"error": None}
    return {"error": errors[0]}


def apply_with_hub_module(path, tags):
    with tf.Graph().as_default(), v1.Session() as session:
        module = hub.Module(path, tags=set(tags))
        images = {name: ones(info.get_shape(), info.dtype) for name, info in module.get_input_info_dict().items()}
        results = module(images, as_dict=True)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        session.run(results)


def apply_with_hub_load(path, tags):
    [function] = hub.load(path, tags=tags).signatures.values()
    # Functions of TensorFlow 1.15 do not have this.
    if function.structured_input_signature:
        specs = function.structured_input_signature[1]
        function(**{name: ones(spec.shape, spec.dtype) for name, spec in specs.items()})


def ones(shape, dtype):
    return tf.ones([length or 1 for length in shape.as_list()], dtype)


if __name__ == "__main__":
    main(*sys.argv[1:])
