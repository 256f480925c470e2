"""Loads whole models with Keras 3, computes with them, and trains them.

    python run_keras_model.py TASK.json ANSWER.json

It needs only Keras 3 and one of its backends. It makes no judgements: tests do.

TASK.json: {"modules": [{
    "backend": Keras' backend, the same for all: `tensorflow`, `jax` or `torch`,
    "model": the `.keras` file,
    "images": npz with `images`, float32 [batch, height, width, 3] in [0, 1],
    "outputs": where to write what the model gives for them, npz: by key, or `default` if it gives a single tensor,
    "learning_rate": of SGD for 20 steps that sort the images into one class each; null does not train,
    "saved": where to save the trained model, optional}, ...]}
ANSWER.json: {"keras", "modules": [{
    "layers": the names of the layers, in Keras' order,
    "weight_decay": the sum of the model's own losses before training,
    "decayed": the number of these losses,
    "losses": that of each training step,
    "unmoved": the paths of variables that training did not change}, ...]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402

STEPS = 20


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    os.environ["KERAS_BACKEND"] = tasks[0]["backend"]
    import keras

    assert keras.backend.backend() == tasks[0]["backend"]
    answer = {"keras": keras.__version__, "modules": [run(keras, task) for task in tasks]}
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def run(keras, task):
    model = keras.models.load_model(task["model"])
    with np.load(task["images"]) as inputs:
        images = inputs["images"]
    outputs = model.predict(images, verbose=0)
    np.savez(task["outputs"], **(outputs if isinstance(outputs, dict) else {"default": outputs}))
    decays = [float(keras.ops.convert_to_numpy(loss)) for loss in model.losses]
    seen = {"layers": [layer.name for layer in model.layers], "weight_decay": sum(decays), "decayed": len(decays)}
    if task["learning_rate"] is not None:
        seen.update(train(keras, model, images, task["learning_rate"]))
        if "saved" in task:
            model.save(task["saved"])
    return seen


def train(keras, model, images, learning_rate):
    before = {weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in model.weights}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(learning_rate), loss)
    labels = np.arange(len(images))
    losses = [float(model.train_on_batch(images, labels)) for _ in range(STEPS)]
    after = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    unmoved = [path for path, value in before.items() if np.array_equal(after[path], value)]
    return {"losses": losses, "unmoved": unmoved}


if __name__ == "__main__":
    main(*sys.argv[1:])
