"""Runs TFLite models in LiteRT, or in TensorFlow's interpreter where there is no LiteRT.

    python run_tflite.py TASK.json ANSWER.json

It makes no judgements: tests do.

TASK.json: {"modules": [{
    "model": the `.tflite` file,
    "images": npz with `images`, what the model takes,
    "outputs": where to write what it gives for them, npz by name}, ...]}
ANSWER.json: {"modules": [{"inputs": names, "outputs": names, "signatures": names}, ...]}
"""

import json
import sys

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tensorflow.lite.python.interpreter import Interpreter


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    with open(answer_file, "w") as f:
        json.dump({"modules": [run(task) for task in tasks]}, f)


def run(task):
    interpreter = Interpreter(model_path=task["model"])
    with np.load(task["images"]) as given:
        images = given["images"]
    [taken] = interpreter.get_input_details()
    interpreter.resize_tensor_input(taken["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], images)
    interpreter.invoke()
    outputs = interpreter.get_output_details()
    np.savez(task["outputs"], **{one["name"]: interpreter.get_tensor(one["index"]) for one in outputs})
    return {
        "inputs": [taken["name"]],
        "outputs": [one["name"] for one in outputs],
        "signatures": list(interpreter.get_signature_list()),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
