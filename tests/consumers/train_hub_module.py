"""Trains a TF1 Hub module with a dense layer behind it for one step, as retrain.py does, and saves it by Saver.

    python train_hub_module.py TASK.json ANSWER.json

It needs only TensorFlow 1 with its tensorflow_hub, so it is written for Python 3.6. It makes no judgements: tests do.

TASK.json: {"modules": [{
    "module": the module's directory,
    "images": npz with `images`, float32 [batch, height, width, 3] in [0, 1],
    "classes": how many outputs the dense layer has,
    "save": the prefix to save to,
    "outputs": where to write `outputs`, npz: the dense layer's, after the step}, ...]}
ANSWER.json: {"tensorflow", "modules": [{"variables": the names of all that was saved}, ...]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

tf.compat.v1.logging.set_verbosity("ERROR")


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    answer = {"tensorflow": tf.__version__, "modules": [run(task) for task in tasks]}
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def run(task):
    with np.load(task["images"]) as inputs:
        images = inputs["images"]
    labels = np.arange(len(images)) % task["classes"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(1)
        module = hub.Module(task["module"], trainable=True)
        logits = tf.compat.v1.layers.dense(module(tf.constant(images)), task["classes"], name="final_layer")
        loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.compat.v1.train.MomentumOptimizer(0.01, 0.9).minimize(loss, tf.compat.v1.train.create_global_step())
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(step)
        np.savez(task["outputs"], outputs=session.run(logits))
        tf.compat.v1.train.Saver().save(session, task["save"])
        return {"variables": [variable.op.name for variable in tf.compat.v1.global_variables()]}


if __name__ == "__main__":
    main(*sys.argv[1:])
